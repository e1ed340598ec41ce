//! Another list in the place of one that is written on several lines: what is in both stays as it was written, with its comments.

use std::collections::BTreeMap;
use std::fmt::Write;
use toml_edit::{Array, RawString, Value};

/// An element as it is written.
struct Line {
    /// Line ends, comments and blanks in front of it, from the end of the line before on.
    before: String,
    value: Value,
    /// The comment behind it.
    after: String,
}

/// Whether the list is written on several lines; only there is anything to keep.
pub fn has_lines(list: &Array) -> bool {
    list.to_string().trim().contains('\n')
}

/// Gives `old` the elements of `new`. Comments of what is taken out stay, on lines of their own.
pub fn exchange(old: &mut Array, new: &Array) {
    let (head, mut lines, mut closing) = lines(old);
    let first = lines.iter().find(|line| line.before.contains('\n'));
    let indent = first.map_or("", |line| last_line(&line.before)).to_owned();
    let places = places(&lines, new);
    orphans(&mut lines, &places, &indent, &mut closing);
    let mut kept: BTreeMap<usize, Line> = lines.into_iter().enumerate().collect();
    let written = new.iter().zip(&places).map(|(value, place)| {
        let line = place.and_then(|place| kept.remove(&place));
        let mut line = line.unwrap_or_else(|| Line {
            before: format!("\n{indent}"),
            value: value.clone(),
            after: String::new(),
        });
        if !same(&line.value, value) {
            line.value = value.clone();
        }
        line
    });
    let written: Vec<Line> = written.collect();
    let mut list = Array::new();
    let mut after = head;
    let count = written.len();
    for (index, line) in written.into_iter().enumerate() {
        let mut value = line.value;
        value.decor_mut().set_prefix(joined(&after, &line.before));
        value.decor_mut().set_suffix("");
        after = line.after;
        if index + 1 == count && !old.trailing_comma() {
            value.decor_mut().set_suffix(joined(&after, &closing));
            list.push_formatted(value);
            *old = with_decor_of(old, list);
            return;
        }
        list.push_formatted(value);
    }
    list.set_trailing_comma(count > 0);
    list.set_trailing(joined(&after, &closing));
    *old = with_decor_of(old, list);
}

fn with_decor_of(old: &Array, mut list: Array) -> Array {
    *list.decor_mut() = old.decor().clone();
    list
}

/// What is behind the opening bracket, the elements, and what is in front of the closing one.
fn lines(list: &Array) -> (String, Vec<Line>, String) {
    let mut head = String::new();
    let mut lines: Vec<Line> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let (end, before) = cut(raw(value.decor().prefix()));
        match lines.last_mut() {
            Some(line) => line.after.push_str(end),
            None => end.clone_into(&mut head),
        }
        lines.push(Line {
            before: before.to_owned(),
            value: value.clone(),
            after: String::new(),
        });
        // Between the element and its comma there is hardly ever anything.
        if let Some(line) = lines.last_mut()
            && raw(value.decor().suffix()).contains('#')
            && (index + 1 < list.len() || list.trailing_comma())
        {
            raw(value.decor().suffix())
                .trim_end()
                .clone_into(&mut line.after);
        }
    }
    let last = lines.last_mut();
    let of_last = last.as_ref().map(|line| line.value.decor().suffix());
    let mut text = String::new();
    if !list.trailing_comma() {
        text.push_str(of_last.map_or("", raw));
    }
    text.push_str(raw(Some(list.trailing())));
    let (end, closing) = cut(&text);
    match last {
        Some(line) => line.after.push_str(end),
        None => head.push_str(end),
    }
    (head, lines, closing.to_owned())
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

/// What still belongs to the line before, and the rest. Without a line end all of it is the rest.
fn cut(text: &str) -> (&str, &str) {
    text.split_at(text.find('\n').unwrap_or(0))
}

fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or_default()
}

/// Nothing may stand behind a comment on its line.
fn joined(after: &str, before: &str) -> String {
    let between = if after.contains('#') && !before.starts_with('\n') {
        "\n"
    } else {
        ""
    };
    format!("{after}{between}{before}")
}

/// For each new element the line that stays, or whose element it replaces.
fn places(lines: &[Line], new: &Array) -> Vec<Option<usize>> {
    let mut places = vec![None; new.len()];
    let alike: [fn(&Value, &Value) -> bool; 2] = [same, same_address];
    for alike in alike {
        for (index, value) in new.iter().enumerate() {
            if places[index].is_none() {
                let mut free = (0..lines.len()).filter(|place| !places.contains(&Some(*place)));
                places[index] = free.find(|place| alike(&lines[*place].value, value));
            }
        }
    }
    places
}

fn same(one: &Value, other: &Value) -> bool {
    let bare = |value: &Value| value.to_string().trim().to_owned();
    match (one.as_str(), other.as_str()) {
        (Some(one), Some(other)) => one == other,
        _ => bare(one) == bare(other),
    }
}

/// Servers of which only the weight or the name is another.
fn same_address(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_str(), other.as_str()) else {
        return false;
    };
    let address = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    let (one, other) = (address(one), address(other));
    let without_weight = |text: &str| text.rsplit_once(':').map(|(front, _)| front.to_owned());
    one == other
        || without_weight(&one).as_ref() == Some(&other)
        || without_weight(&other).as_ref() == Some(&one)
        || (without_weight(&one) == without_weight(&other) && one.matches(':').count() > 1)
}

/// Moves the comments of lines that do not stay to the next that does.
fn orphans(lines: &mut [Line], places: &[Option<usize>], indent: &str, closing: &mut String) {
    let mut pending = String::new();
    for (index, line) in lines.iter_mut().enumerate() {
        if places.contains(&Some(index)) {
            line.before = joined(&std::mem::take(&mut pending), &line.before);
            continue;
        }
        for comment in comments(&line.before).chain(comments(&line.after)) {
            let _infallible = write!(pending, "\n{indent}{comment}");
        }
    }
    *closing = joined(&pending, closing);
}

/// The comments in what stands between elements.
pub fn comments(between: &str) -> impl Iterator<Item = &str> {
    let lines = between.lines().map(str::trim);
    lines.filter(|line| line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml_edit::DocumentMut;

    fn exchanged(old: &str, new: &str) -> String {
        let mut document: DocumentMut = old.parse().unwrap();
        let new: Value = new.parse().unwrap();
        let list = document["servers"].as_array_mut().unwrap();
        assert!(has_lines(list));
        exchange(list, new.as_array().unwrap());
        let text = document.to_string();
        let again: DocumentMut = text.parse().unwrap();
        let elements = again["servers"].as_array().unwrap();
        let mut pairs = elements.iter().zip(new.as_array().unwrap());
        assert!(pairs.all(|(one, other)| same(one, other)), "{text}");
        assert_eq!(elements.len(), new.as_array().unwrap().len(), "{text}");
        text
    }

    const SERVERS: &str = "\
servers = [ # of the shop
  # the first rack
  \"10.0.1.1:6379:1 a\", # old
  \"10.0.1.2:6379:1 b\",
  # the second rack
  \"10.0.1.3:6379:1 c\", # new
  # the end
] # behind
other = 1
";

    #[test]
    fn the_same_list_stays_as_it_was_written() {
        let new = r#"["10.0.1.1:6379:1 a", "10.0.1.2:6379:1 b", "10.0.1.3:6379:1 c"]"#;
        assert_eq!(exchanged(SERVERS, new), SERVERS);
        let bare = SERVERS.replace("1 c\", # new", "1 c\" # new");
        assert_eq!(exchanged(&bare, new), bare);
    }

    #[test]
    fn only_the_server_that_differs_is_another() {
        let new = r#"["10.0.1.1:6379:1 a", "10.0.1.2:6379:5 b", "10.0.1.3:6379:1 c"]"#;
        let expected = SERVERS.replace("2:6379:1 b", "2:6379:5 b");
        assert_eq!(exchanged(SERVERS, new), expected);
        let new = r#"["10.0.1.1:6379:1 a", "10.0.1.2:6379:1 b", "10.0.1.3:6379:1 c", "10.0.1.4:6379:1 d"]"#;
        let expected =
            SERVERS.replace("1 c\", # new\n", "1 c\", # new\n  \"10.0.1.4:6379:1 d\",\n");
        assert_eq!(exchanged(SERVERS, new), expected);
    }

    #[test]
    fn comments_of_a_server_that_goes_stay() {
        let new = r#"["10.0.1.2:6379:1 b"]"#;
        let expected = "\
servers = [ # of the shop
  # the first rack
  # old
  \"10.0.1.2:6379:1 b\",
  # the second rack
  # new
  # the end
] # behind
other = 1
";
        assert_eq!(exchanged(SERVERS, new), expected);
    }

    #[test]
    fn lists_that_are_written_oddly_stay_lists() {
        for old in [
            "servers = [\"a\", # x\n\"b\" # y\n, \"c\"]\n",
            "servers = [\n\"a\", \"b\",\n\"c\" # z\n]\n",
            "servers = [ # only this\n]\n",
            "servers = [\"a\",\n]\n",
        ] {
            for new in ["[]", "[\"c\"]", "[\"d\", \"a\"]", "[\"c\", \"b\", \"a\"]"] {
                let text = exchanged(old, new);
                assert_eq!(
                    text.matches('#').count(),
                    old.matches('#').count(),
                    "{text}"
                );
            }
        }
    }
}
