//! Single settings, changed in the text of a configuration: everything else in it stays as it was written, comments included.

use super::list;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use toml_edit::{DocumentMut, Item, RawString, Table, Value};

/// What is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Edit {
    /// Settings of a pool, by its name.
    Pool {
        /// The pool.
        name: String,
        /// Key and value; without a value the key is taken out, so that its default holds.
        settings: Vec<(String, String)>,
    },
    /// Settings in `[worker]`.
    Worker {
        /// The same.
        settings: Vec<(String, String)>,
    },
    /// Cores of queues.
    Queues {
        /// The port: an interface, or `kernel`.
        port: String,
        /// Queue → core.
        cores: BTreeMap<u32, u32>,
    },
}

impl fmt::Display for Edit {
    /// What is changed, without values: they may be passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |settings: &[(String, String)]| {
            let keys: Vec<&str> = settings.iter().map(|(key, _)| key.as_str()).collect();
            keys.join(", ")
        };
        match self {
            Self::Pool { name, settings } => write!(f, "pool {name}: {}", keys(settings)),
            Self::Worker { settings } => write!(f, "worker: {}", keys(settings)),
            Self::Queues { port, .. } => write!(f, "port {port}: queues"),
        }
    }
}

/// What is changed after more edits: one for each table, and each key once, however often it was set.
pub fn join(made: &[Edit], more: &[Edit]) -> Vec<Edit> {
    let mut all = made.to_vec();
    for edit in more {
        if !all.iter_mut().any(|earlier| earlier.takes(edit)) {
            all.push(edit.clone());
        }
    }
    all
}

impl Edit {
    /// Takes over what a later edit of the same table says. `false`: it is of another one.
    fn takes(&mut self, later: &Self) -> bool {
        match (self, later) {
            (
                Self::Pool { name, settings },
                Self::Pool {
                    name: of,
                    settings: new,
                },
            ) if name == of => take_over(settings, new),
            (Self::Worker { settings }, Self::Worker { settings: new }) => {
                take_over(settings, new);
            }
            (
                Self::Queues { port, cores },
                Self::Queues {
                    port: of,
                    cores: new,
                },
            ) if port == of => {
                cores.extend(new);
            }
            _ => return false,
        }
        true
    }
}

fn take_over(settings: &mut Vec<(String, String)>, new: &[(String, String)]) {
    for (key, value) in new {
        match settings.iter_mut().find(|(earlier, _)| earlier == key) {
            Some((_, earlier)) => earlier.clone_from(value),
            None => settings.push((key.clone(), value.clone())),
        }
    }
}

/// The text with these edits, or everything that is wrong with them.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, Vec<String>> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| vec![error.to_string()])?;
    let mut faults = Vec::new();
    for edit in edits {
        let changed = match edit {
            Edit::Pool { name, settings } => {
                entry(&mut document, "pool", |pool| is_named(pool, "name", name))
                    .ok_or_else(|| format!("there is no pool {name:?}"))
                    .and_then(|pool| set_all(pool, settings))
            }
            Edit::Worker { settings } => document
                .entry("worker")
                .or_insert_with(|| Item::Table(Table::new()))
                .as_table_mut()
                .ok_or_else(|| "worker is not written as a table, [worker]".to_owned())
                .and_then(|worker| set_all(worker, settings)),
            Edit::Queues { port, cores } => {
                let found = entry(&mut document, "port", |table| {
                    is_named(table, "interface", port) || is_named(table, "driver", port)
                });
                found
                    .ok_or_else(|| format!("there is no port {port:?}"))
                    .and_then(|table| move_queues(table, port, cores))
            }
        };
        faults.extend(changed.err());
    }
    if faults.is_empty() {
        Ok(with_line_ends_of(text, &document.to_string()))
    } else {
        Err(faults)
    }
}

fn is_named(table: &Table, key: &str, name: &str) -> bool {
    table.get(key).and_then(Item::as_str) == Some(name)
}

/// The table of an array of tables that is meant.
fn entry<'a>(
    document: &'a mut DocumentMut,
    key: &str,
    is_meant: impl Fn(&Table) -> bool,
) -> Option<&'a mut Table> {
    let tables = document.get_mut(key)?.as_array_of_tables_mut()?;
    tables.iter_mut().find(|table| is_meant(table))
}

/// What was changed, with the line ends that the text had: those of a line that is still there, or of most.
fn with_line_ends_of(text: &str, changed: &str) -> String {
    let (mut long, mut short) = (BTreeSet::new(), BTreeSet::new());
    let mut balance = 0_i64;
    for line in text.split_inclusive('\n') {
        if let Some(line) = line.strip_suffix("\r\n") {
            long.insert(line);
            balance += 1;
        } else if let Some(line) = line.strip_suffix('\n') {
            short.insert(line);
            balance -= 1;
        }
    }
    if long.is_empty() {
        return changed.to_owned();
    }
    let mut ended = String::with_capacity(changed.len() + long.len());
    for whole in changed.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\r', '\n']);
        ended.push_str(line);
        let is_long = match (long.contains(line), short.contains(line)) {
            (true, false) => true,
            (false, true) => false,
            _ => balance > 0,
        };
        if whole.ends_with('\n') {
            ended.push_str(if is_long { "\r\n" } else { "\n" });
        }
    }
    ended
}

fn set_all(table: &mut Table, settings: &[(String, String)]) -> Result<(), String> {
    let mut keys = BTreeSet::new();
    for (key, value) in settings {
        if !keys.insert(key) {
            return Err(format!("{key} is given twice"));
        }
        if value.is_empty() {
            take_out(table, key);
        } else {
            set(table, key, parsed(key, value)?);
        }
    }
    Ok(())
}

/// A value as TOML has it. Words need no quotes: `hash=murmur`.
fn parsed(key: &str, text: &str) -> Result<Value, String> {
    let digits = text.trim_start_matches(['-', '+']);
    let is_number = |c: char| c.is_ascii_digit() || c == '_';
    match text.parse() {
        Ok(value) => Ok(value),
        Err(_) if !digits.is_empty() && digits.chars().all(is_number) => Err(format!(
            "{key} = {text} is no number that a setting can have"
        )),
        Err(_) => Ok(Value::from(text)),
    }
}

/// A value in the place of the old one keeps the comment behind it, and those within a list.
fn set(table: &mut Table, key: &str, mut value: Value) {
    let old = table.get_mut(key).and_then(Item::as_value_mut);
    match (old, &mut value) {
        (Some(Value::Array(old)), Value::Array(new)) if list::has_lines(old) => {
            list::exchange(old, new);
        }
        (Some(old), value) => {
            *value.decor_mut() = old.decor().clone();
            *old = value.clone();
        }
        (None, _) => {
            table.insert(key, Item::Value(value));
        }
    }
}

/// Takes a setting out. Its comments stay, on lines of their own.
fn take_out(table: &mut Table, key: &str) {
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
    let Some(place) = keys.iter().position(|other| other == key) else {
        return;
    };
    let Some((name, item)) = table.remove_entry(key) else {
        return;
    };
    let raw = |text: Option<&RawString>| -> String {
        let text = text.and_then(RawString::as_str);
        text.unwrap_or_default().to_owned()
    };
    let above = raw(name.leaf_decor().prefix());
    let value = item.as_value();
    let behind = value.map_or_else(String::new, |value| raw(value.decor().suffix()));
    let comments: Vec<&str> = list::comments(&above)
        .chain(list::comments(&behind))
        .collect();
    if comments.is_empty() {
        return;
    }
    let is_value = |table: &Table, key: &String| table.get(key).is_some_and(Item::is_value);
    let next = keys.get(place + 1).filter(|key| is_value(table, key));
    let before = place.checked_sub(1).and_then(|place| keys.get(place));
    let before = before.filter(|key| is_value(table, key));
    if let Some(mut next) = next.and_then(|next| table.key_mut(next)) {
        let decor = next.leaf_decor_mut();
        let lines = comments.join("\n");
        decor.set_prefix(format!("{lines}\n{}", raw(decor.prefix())));
    } else {
        // Behind the line before: of another setting, or of the table itself.
        let lines = format!("\n{}", comments.join("\n"));
        let value = before.and_then(|before| table.get_mut(before)?.as_value_mut());
        let decor = if let Some(value) = value {
            value.decor_mut()
        } else {
            table.decor_mut()
        };
        decor.set_suffix(format!("{}{lines}", raw(decor.suffix())));
    }
}

fn move_queues(table: &mut Table, port: &str, cores: &BTreeMap<u32, u32>) -> Result<(), String> {
    let queues = table.get_mut("queues").and_then(Item::as_table_like_mut);
    let queues = queues.ok_or_else(|| {
        format!("port {port} has no map of queues to cores in the file: write queues = {{ 0 = 2, … }} there first")
    })?;
    for (queue, core) in cores {
        let place = queues.get_mut(&queue.to_string());
        let place = place.and_then(Item::as_value_mut);
        let place = place.ok_or_else(|| format!("{port} has no queue {queue} in the file"))?;
        let decor = place.decor().clone();
        *place = Value::from(i64::from(*core));
        *place.decor_mut() = decor;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# Our caches.
name = \"shop\"

[[port]]
driver = \"kernel\"
queues = { 0 = 2, 1 = 3 } # the quiet cores

[[pool]]
name = \"sessions\" # of users
timeout_ms = 400   # asked for by the shop
servers = [
  \"10.0.1.1:6379\", # old
]

[[pool]]
name = \"carts\"
";

    fn settings(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        list.iter().map(owned).collect()
    }

    fn pool(name: &str, list: &[(&str, &str)]) -> Edit {
        Edit::Pool {
            name: name.into(),
            settings: settings(list),
        }
    }

    #[test]
    fn only_the_value_changes_and_comments_stay() {
        let edits = [
            pool("sessions", &[("timeout_ms", "50")]),
            Edit::Queues {
                port: "kernel".into(),
                cores: [(1, 5)].into(),
            },
        ];
        let expected = FILE
            .replace("timeout_ms = 400 ", "timeout_ms = 50 ")
            .replace("1 = 3", "1 = 5");
        assert_eq!(apply(FILE, &edits).unwrap(), expected);
    }

    #[test]
    fn a_key_that_is_set_again_and_again_is_kept_once() {
        let queues = |cores: &[(u32, u32)]| Edit::Queues {
            port: "kernel".into(),
            cores: cores.iter().copied().collect(),
        };
        let made = [
            pool("sessions", &[("timeout_ms", "50")]),
            pool("carts", &[("timeout_ms", "60")]),
            queues(&[(0, 7)]),
        ];
        let more = [
            pool("sessions", &[("partial", "miss"), ("timeout_ms", "")]),
            queues(&[(1, 5)]),
            Edit::Worker {
                settings: settings(&[("idle", "spin")]),
            },
        ];
        let joined = join(&made, &more);
        let one_by_one = [made.as_slice(), more.as_slice()].concat();
        assert_eq!(apply(FILE, &joined), apply(FILE, &one_by_one));
        let told: Vec<String> = joined.iter().map(ToString::to_string).collect();
        let expected = [
            "pool sessions: timeout_ms, partial",
            "pool carts: timeout_ms",
            "port kernel: queues",
            "worker: idle",
        ];
        assert_eq!(told, expected);
        assert_eq!(join(&joined, &more), joined, "it does not grow");
    }

    #[test]
    fn keys_come_and_go_and_words_need_no_quotes() {
        let edits = [
            pool("carts", &[("hash", "murmur"), ("preconnect", "true")]),
            pool("sessions", &[("timeout_ms", "")]),
            Edit::Worker {
                settings: settings(&[("idle", "spin")]),
            },
        ];
        let text = apply(FILE, &edits).unwrap();
        assert!(text.contains("name = \"carts\"\nhash = \"murmur\"\npreconnect = true\n"));
        assert!(text.contains("[worker]\nidle = \"spin\"\n"), "{text}");
        assert!(!text.contains("timeout_ms"), "{text}");
        assert!(text.starts_with("# Our caches.\n"), "{text}");
    }

    #[test]
    fn comments_of_a_setting_that_is_taken_out_stay() {
        let text = apply(FILE, &[pool("sessions", &[("timeout_ms", "")])]).unwrap();
        let expected = FILE.replace(
            "timeout_ms = 400   # asked for by the shop\n",
            "# asked for by the shop\n",
        );
        assert_eq!(text, expected);
        let file = "[worker]\n# not more\nclients_max = 7 # for now\n\n[[pool]]\nname = \"a\"\n\
                    # patience\ntimeout_ms = 5\n";
        let none = Edit::Worker {
            settings: settings(&[("clients_max", "")]),
        };
        let text = apply(file, &[none, pool("a", &[("timeout_ms", "")])]).unwrap();
        let expected = "[worker]\n# not more\n# for now\n\n[[pool]]\nname = \"a\"\n# patience\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn comments_within_a_list_stay() {
        let servers = r#"["10.0.1.1:6379", "10.0.1.2:6379"]"#;
        let text = apply(FILE, &[pool("sessions", &[("servers", servers)])]).unwrap();
        let expected = FILE.replace("# old\n", "# old\n  \"10.0.1.2:6379\",\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn line_ends_stay_as_they_are() {
        let edits = [pool(
            "sessions",
            &[("timeout_ms", "50"), ("hash", "murmur")],
        )];
        let changed = apply(FILE, &edits).unwrap();
        let file = FILE.replace('\n', "\r\n");
        assert_eq!(apply(&file, &edits).unwrap(), changed.replace('\n', "\r\n"));
        let mixed = FILE.replace("caches.\n", "caches.\r\n");
        let expected = changed.replace("caches.\n", "caches.\r\n");
        assert_eq!(apply(&mixed, &edits).unwrap(), expected);
    }

    #[test]
    fn numbers_that_are_none_and_keys_that_come_twice_are_refused() {
        for (list, fault) in [
            (
                &[("timeout_ms", "99999999999999999999")][..],
                "timeout_ms = 99999999999999999999 is no number that a setting can have",
            ),
            (
                &[("timeout_ms", "5"), ("hash", "murmur"), ("timeout_ms", "6")],
                "timeout_ms is given twice",
            ),
        ] {
            assert_eq!(apply(FILE, &[pool("carts", list)]).unwrap_err(), [fault]);
        }
    }

    #[test]
    fn everything_that_is_not_there_is_told() {
        let edits = [
            pool("shed", &[("timeout_ms", "50")]),
            Edit::Queues {
                port: "eth7".into(),
                cores: [(0, 1)].into(),
            },
            Edit::Queues {
                port: "kernel".into(),
                cores: [(9, 1)].into(),
            },
        ];
        let faults = apply(FILE, &edits).unwrap_err();
        assert_eq!(
            faults,
            [
                "there is no pool \"shed\"",
                "there is no port \"eth7\"",
                "kernel has no queue 9 in the file"
            ]
        );
    }
}
