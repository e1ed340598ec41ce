//! The options of one pool: typed values, a fault for each that twemproxy would refuse, and a fault for each that it does not know.

use crate::limits::{NUMBER_MAX, SHOWN_NAME_CHARS_MAX};
use crate::notes::Notes;
use crate::yaml::{Entry, Text, Value};
use std::collections::BTreeMap;
use tidegate_config::limits::Limit;
use tidegate_config::{Place, did_you_mean};

/// A value, and where it is written; `None` for twemproxy's default.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) at: Option<Place>,
}

/// Reads the options of one pool.
pub(crate) struct Options<'n> {
    /// How faults and warnings name the pool.
    pub(crate) label: String,
    /// Where the pool begins.
    pub(crate) at: Place,
    entries: BTreeMap<String, (Place, Value)>,
    known: Vec<&'static str>,
    pub(crate) notes: &'n mut Notes,
}

impl<'n> Options<'n> {
    /// The options `entries` of the pool that begins at `at`. twemproxy takes each once.
    pub(crate) fn new(label: String, at: Place, entries: Vec<Entry>, notes: &'n mut Notes) -> Self {
        let mut options = Self {
            label,
            at,
            entries: BTreeMap::new(),
            known: Vec::new(),
            notes,
        };
        for Entry { key, value } in entries {
            if let Some((first, _)) = options.entries.get(&key.text) {
                let what = format!(
                    "{} is written twice, first in line {}",
                    shown_name(&key.text),
                    first.line
                );
                options.fault(key.at, &what);
            } else {
                options.entries.insert(key.text, (key.at, value));
            }
        }
        options
    }

    pub(crate) fn fault(&mut self, at: Place, what: &str) {
        self.notes.fault(at, format!("{}: {what}", self.label));
    }

    pub(crate) fn warn(&mut self, at: Place, what: &str) {
        self.notes.warn(at, format!("{}: {what}", self.label));
    }

    /// The text of `key`, if it is there and is one. twemproxy refuses empty ones.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<Text> {
        let (at, value) = self.take(key)?;
        match value {
            Value::Text(text) if !text.text.is_empty() => return Some(text),
            Value::Text(_) => {
                self.fault(at, &format!("{key} has no value; write one or remove it"));
            }
            Value::List(..) => self.fault(at, &format!("{key} is one text, not a list")),
            Value::Wrong => {}
        }
        None
    }

    /// The texts of the list `key`, if it is there and is one.
    pub(crate) fn list(&mut self, key: &'static str) -> Option<(Place, Vec<Text>)> {
        let (at, value) = self.take(key)?;
        match value {
            Value::List(at, texts) => return Some((at, texts)),
            Value::Text(_) => {
                self.fault(
                    at,
                    &format!("{key} is a list: one line with a dash for each"),
                );
            }
            Value::Wrong => {}
        }
        None
    }

    /// Where `key` is written, of whatever type, unless it was asked for already.
    pub(crate) fn place_of(&self, key: &str) -> Option<Place> {
        self.entries.get(key).map(|&(at, _)| at)
    }

    /// `true` or `false`, which is all that twemproxy takes.
    pub(crate) fn flag(&mut self, key: &'static str) -> Setting<bool> {
        let words = [("false", false), ("true", true)];
        self.one_of(key, &words, "true or false, written so")
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy + Default>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Setting<T> {
        let names: Vec<&str> = words.iter().map(|&(word, _)| word).collect();
        self.one_of(key, words, &format!("one of {}", names.join(", ")))
    }

    fn one_of<T: Copy + Default>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        wanted: &str,
    ) -> Setting<T> {
        let mut setting = Setting {
            value: T::default(),
            at: None,
        };
        if let Some(Text { text, at }) = self.text(key) {
            setting.at = Some(at);
            if let Some(&(_, value)) = words.iter().find(|(word, _)| *word == text) {
                setting.value = value;
            } else {
                let hint = did_you_mean(&text, words.iter().map(|&(word, _)| word));
                self.fault(at, &format!("{key} = {text:?} is not {wanted}{hint}"));
            }
        }
        setting
    }

    /// A number of digits alone.
    pub(crate) fn number(&mut self, key: &'static str, default: u32) -> Setting<u32> {
        let mut setting = Setting {
            value: default,
            at: None,
        };
        if let Some(Text { text, at }) = self.text(key) {
            setting.at = Some(at);
            match digits(&text) {
                Some(number) if number <= NUMBER_MAX => setting.value = number as u32,
                Some(_) => {
                    let what = format!(
                        "{key} = {text} is over {NUMBER_MAX}: twemproxy takes it for another number"
                    );
                    self.fault(at, &what);
                }
                None => {
                    let what = format!("{key} = {text:?} is not a number of digits alone");
                    self.fault(at, &what);
                }
            }
        }
        setting
    }

    /// A number that Tidegate keeps within `limit`. What is outside becomes the nearest that is not, with a warning.
    pub(crate) fn fitted(&mut self, key: &'static str, default: u32, limit: Limit) -> Setting<u32> {
        let setting = self.number(key, default);
        self.fit(key, setting, limit)
    }

    /// The same for a number that was read already.
    pub(crate) fn fit(
        &mut self,
        key: &'static str,
        setting: Setting<u32>,
        limit: Limit,
    ) -> Setting<u32> {
        let value = u64::from(setting.value).clamp(limit.min, limit.max) as u32;
        if let Some(at) = setting.at
            && value != setting.value
        {
            let what = format!(
                "{key} = {} becomes {value}: Tidegate takes {} to {}",
                setting.value, limit.min, limit.max
            );
            self.warn(at, &what);
        }
        Setting { value, ..setting }
    }

    /// Notes every option that nobody asked for. Its value is not shown: it may be a password under a misspelt key.
    pub(crate) fn finish(mut self) {
        for (key, (at, _)) in std::mem::take(&mut self.entries) {
            let hint = did_you_mean(&key, self.known.iter().copied());
            self.fault(
                at,
                &format!("twemproxy has no option {}{hint}", shown_name(&key)),
            );
        }
    }

    fn take(&mut self, key: &'static str) -> Option<(Place, Value)> {
        let taken = self.entries.remove(key);
        self.known.push(key);
        taken
    }
}

/// How faults and warnings show the name of a pool or of an option.
pub(crate) fn shown_name(name: &str) -> String {
    match name.char_indices().nth(SHOWN_NAME_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// How faults and warnings show an address, or what stands in its place: a URL may hold a password.
pub(crate) fn shown(text: &str) -> String {
    if text.contains('@') || text.contains("://") {
        "\"***\"".to_owned()
    } else {
        format!("{text:?}")
    }
}

/// The number that `text` is, if it is digits alone. Those beyond 64 bits are the largest.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().unwrap_or(u64::MAX))
}
