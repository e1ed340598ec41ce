//! The YAML of twemproxy as pools of keys and values.
//!
//! twemproxy takes one document of block style, two levels deep, without anchors, aliases, tags and directives. What it does not
//! take has never run, so it is a fault here as well: guessing what was meant could move keys.

use crate::notes::{Notes, START};
use crate::options::shown_name;
use saphyr_parser::{Event, Marker, Parser, Span, StrInput};
use tidegate_config::Place;
use tidegate_config::limits::LISTENERS_MAX;

/// One word or text of the file.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) at: Place,
}

/// What stands behind a key.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// A text, which may be empty.
    Text(Text),
    /// A list and where it begins.
    List(Place, Vec<Text>),
    /// Something that twemproxy has no use for; its fault is noted.
    Wrong,
}

/// One option.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Text,
    pub(crate) value: Value,
}

/// One pool.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub(crate) name: Text,
    pub(crate) entries: Vec<Entry>,
    /// Whether it was read to its end, so that what it lacks is not there.
    pub(crate) whole: bool,
}

/// Reads the pools of a file as far as it can be read.
pub(crate) fn read(text: &str, notes: &mut Notes) -> Vec<Pool> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        text,
        characters: text.chars().collect(),
        notes,
    };
    let mut pools = Vec::new();
    // A file that cannot be read to its end has its fault, and its pools so far.
    let _read = reader.document(&mut pools);
    if pools.is_empty() && notes.is_readable() {
        notes.fault(
            START,
            "no pool: a file of twemproxy has a name with a colon, and below it indented lines of KEY: VALUE",
        );
    }
    pools
}

/// The end of what can be read.
struct Ended;

struct Reader<'t, 'n> {
    events: Parser<'t, StrInput<'t>>,
    text: &'t str,
    /// The characters of the text, to tell brackets from dashes: events do not.
    characters: Vec<char>,
    notes: &'n mut Notes,
}

impl<'t> Reader<'t, '_> {
    /// The next event and where it stands. What twemproxy does not take is noted on the way.
    fn next(&mut self) -> Result<(Event<'t>, Span), Ended> {
        match self.events.next_event() {
            Some(Ok((event, span))) => {
                if let Some(what) = self.refused(&event, span) {
                    let at = place(span.start);
                    self.notes
                        .syntax(at, format!("twemproxy does not take {what}"));
                }
                Ok((event, span))
            }
            Some(Err(error)) => {
                let at = place(*error.marker());
                let mut what = format!("not YAML: {}", error.info());
                // twemproxy takes a tab between a colon and a value.
                let line = self.text.lines().nth(at.line.saturating_sub(1));
                if line.is_some_and(|line| line.contains('\t')) {
                    what.push_str("; this line has a tab, write blanks");
                }
                self.notes.syntax(at, what);
                Err(Ended)
            }
            None => Err(Ended),
        }
    }

    /// What twemproxy does not take of an event, and what to write instead.
    fn refused(&self, event: &Event<'t>, span: Span) -> Option<&'static str> {
        const ANCHOR: &str = "anchors; a text that begins with & needs quotes";
        const TAG: &str = "tags; a text that begins with ! needs quotes";
        const MARKER: &str = "directives and document markers (--- and ...); remove them";
        let in_brackets = || matches!(self.characters.get(span.start.index()), Some('[' | '{'));
        match event {
            Event::DocumentStart(true) => Some(MARKER),
            Event::DocumentEnd if !span.is_empty() => Some(MARKER),
            Event::Alias(_) => Some("aliases; a text that begins with * needs quotes"),
            Event::Scalar(_, _, anchor, _)
            | Event::SequenceStart(anchor, _)
            | Event::MappingStart(anchor, _)
                if *anchor != 0 =>
            {
                Some(ANCHOR)
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Some(TAG),
            Event::SequenceStart(..) | Event::MappingStart(..) if in_brackets() => Some(
                "lists and tables in brackets; write a line for each entry, and a text that begins with a bracket in quotes",
            ),
            _ => None,
        }
    }

    fn document(&mut self, pools: &mut Vec<Pool>) -> Result<(), Ended> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::MappingStart(..) => {
                    self.pools(pools)?;
                    // Whether more follows, which twemproxy would refuse.
                    while !matches!(self.next()?.0, Event::StreamEnd) {}
                    return Ok(());
                }
                Event::StreamEnd => return Ok(()),
                Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_) => {
                    self.notes.syntax(
                        place(span.start),
                        "a file of twemproxy is a list of pools: a name with a colon, and below it indented lines of KEY: VALUE",
                    );
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn pools(&mut self, pools: &mut Vec<Pool>) -> Result<(), Ended> {
        while let Some(name) = self.key()? {
            let (event, _) = self.next()?;
            let at = name.at;
            if pools.len() == LISTENERS_MAX {
                let what =
                    format!("more than {LISTENERS_MAX} pools, which Tidegate has no room for");
                self.notes.fault(at, what);
                return Err(Ended);
            }
            pools.push(Pool {
                name,
                entries: Vec::new(),
                whole: false,
            });
            // It was pushed just now.
            let Some(pool) = pools.last_mut() else { break };
            match event {
                Event::MappingStart(..) => {
                    self.entries(&mut pool.entries)?;
                    pool.whole = true;
                }
                event => {
                    let what = format!(
                        "pool {} has no options: write them below it as indented lines of KEY: VALUE",
                        shown_name(&pool.name.text)
                    );
                    self.notes.fault(at, what);
                    self.skip(&event)?;
                }
            }
        }
        Ok(())
    }

    fn entries(&mut self, entries: &mut Vec<Entry>) -> Result<(), Ended> {
        while let Some(key) = self.key()? {
            let (event, span) = self.next()?;
            let value = match event {
                Event::Scalar(..) => Value::Text(text(&event, span)),
                Event::SequenceStart(..) => Value::List(place(span.start), self.list(&key)?),
                event => {
                    let what = format!("{} is neither a text nor a list", shown_name(&key.text));
                    self.notes.fault(key.at, what);
                    self.skip(&event)?;
                    Value::Wrong
                }
            };
            entries.push(Entry { key, value });
        }
        Ok(())
    }

    fn list(&mut self, key: &Text) -> Result<Vec<Text>, Ended> {
        let mut texts = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::SequenceEnd => return Ok(texts),
                Event::Scalar(..) => texts.push(text(&event, span)),
                event => {
                    let what = format!("an entry of {} is no text", shown_name(&key.text));
                    self.notes.fault(place(span.start), what);
                    self.skip(&event)?;
                }
            }
        }
    }

    /// The next key of a table that is a text; `None` at the end of the table.
    fn key(&mut self) -> Result<Option<Text>, Ended> {
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::MappingEnd => return Ok(None),
                Event::Scalar(..) => return Ok(Some(text(&event, span))),
                event => {
                    let at = place(span.start);
                    self.notes.fault(at, "a list or a table cannot be a key");
                    self.skip(&event)?;
                    let (value, _) = self.next()?;
                    self.skip(&value)?;
                }
            }
        }
    }

    /// Reads past the rest of the node that begins with `event`.
    fn skip(&mut self, event: &Event<'t>) -> Result<(), Ended> {
        let mut open = depth(event);
        while open > 0 {
            open += depth(&self.next()?.0);
        }
        Ok(())
    }
}

/// How an event changes the depth.
fn depth(event: &Event<'_>) -> isize {
    match event {
        Event::SequenceStart(..) | Event::MappingStart(..) => 1,
        Event::SequenceEnd | Event::MappingEnd => -1,
        _ => 0,
    }
}

fn text(event: &Event<'_>, span: Span) -> Text {
    let text = match event {
        // A value that is not there is told as `~` of no length, unlike one that is written.
        Event::Scalar(text, ..) if !span.is_empty() => text.to_string(),
        _ => String::new(),
    };
    Text {
        text,
        at: place(span.start),
    }
}

/// Columns are counted from 0 there.
fn place(marker: Marker) -> Place {
    Place {
        line: marker.line(),
        column: marker.col() + 1,
    }
}
