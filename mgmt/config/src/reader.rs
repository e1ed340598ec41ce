//! Reads one TOML table: typed values, a fault for each that is wrong, and a fault for each key that nobody asked for.

use crate::fault::Faults;
use crate::limits::Limit;
use crate::suggest::did_you_mean;
use toml::de::{DeTable, DeValue};

/// A value and where it came from. A value that was wrong is replaced by a sound one, so that reading can go on, and no
/// relation to others is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<T> {
    pub(crate) value: T,
    /// Byte offset; `None` for a default.
    pub(crate) at: Option<usize>,
    /// Whether the file (or the default) says this, rather than a stand-in for something wrong.
    pub(crate) sound: bool,
}

impl<T> Field<T> {
    pub(crate) fn default(value: T) -> Self {
        Self {
            value,
            at: None,
            sound: true,
        }
    }

    pub(crate) fn read(value: T, at: usize) -> Self {
        Self {
            value,
            at: Some(at),
            sound: true,
        }
    }

    pub(crate) fn stand_in(value: T, at: usize) -> Self {
        Self {
            value,
            at: Some(at),
            sound: false,
        }
    }

    /// The same with another type of value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Field<U> {
        Field {
            value: change(self.value),
            at: self.at,
            sound: self.sound,
        }
    }
}

/// A string and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
}

/// Reads one table.
pub(crate) struct Reader<'a> {
    /// How faults name the table.
    label: String,
    /// Where it begins.
    at: usize,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    faults: &'a Faults<'a>,
}

impl<'a> Reader<'a> {
    /// A reader of `table`, which begins at `at`. Faults begin with `label`, unless that is empty.
    pub(crate) fn new(
        label: String,
        at: usize,
        table: &'a DeTable<'a>,
        faults: &'a Faults<'a>,
    ) -> Self {
        Self {
            label,
            at,
            table,
            known: Vec::new(),
            faults,
        }
    }

    /// Where the table begins.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Where all faults go.
    pub(crate) fn faults(&self) -> &'a Faults<'a> {
        self.faults
    }

    /// Reports a fault at `at`.
    pub(crate) fn fault(&self, at: usize, what: &str) {
        self.faults.value(at, self.labelled(what));
    }

    /// Reports that something is not there.
    pub(crate) fn missing(&self, what: &str) {
        self.faults.missing(self.at, self.labelled(what));
    }

    /// Reports a relation between two fields that does not hold, where one of them is written. Nothing is reported when one
    /// of them is wrong by itself.
    pub(crate) fn relation<A, B>(&self, a: &Field<A>, b: &Field<B>, holds: bool, what: &str) {
        if a.sound && b.sound && !holds {
            self.fault(a.at.or(b.at).unwrap_or(self.at), what);
        }
    }

    /// The value of `key`, if it is there.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<(usize, &'a DeValue<'a>)> {
        self.known.push(key);
        self.find(key)
    }

    fn find(&self, key: &str) -> Option<(usize, &'a DeValue<'a>)> {
        self.table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| (value.span().start, value.get_ref()))
    }

    /// Whether `key` is there, of whatever type.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Where the value of `key` begins; where the table begins without it.
    pub(crate) fn at_of(&self, key: &str) -> usize {
        self.find(key).map_or(self.at, |(at, _)| at)
    }

    /// Whether the value of `key` is a list without elements.
    pub(crate) fn is_empty_list(&self, key: &str) -> bool {
        let list = self.find(key).and_then(|(_, value)| value.as_array());
        list.is_some_and(|array| array.is_empty())
    }

    /// A string.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<Text<'a>> {
        let (at, value) = self.value(key)?;
        self.as_text(key, at, value)
    }

    /// A string that has to be there.
    pub(crate) fn required_text(&mut self, key: &'static str, example: &str) -> Option<Text<'a>> {
        if !self.has(key) {
            self.missing(&format!("{key} is missing, for example {key} = {example}"));
        }
        self.text(key)
    }

    /// One string or a list of them.
    pub(crate) fn texts(&mut self, key: &'static str) -> Option<Vec<Text<'a>>> {
        let (at, value) = self.value(key)?;
        let Some(array) = value.as_array() else {
            return Some(self.as_text(key, at, value).into_iter().collect());
        };
        let text = |element: &'a toml::Spanned<DeValue<'a>>| {
            self.as_text(key, element.span().start, element.get_ref())
        };
        Some(array.iter().filter_map(text).collect())
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some((at, value)) => value.as_bool().unwrap_or_else(|| {
                self.wrong_type(key, at, value, "true or false");
                default
            }),
        }
    }

    /// An integer within `limit`.
    pub(crate) fn number(&mut self, key: &'static str, limit: &Limit) -> Field<u64> {
        let Some((at, value)) = self.value(key) else {
            return Field::default(limit.default);
        };
        let Some(integer) = value.as_integer() else {
            self.wrong_type(key, at, value, "an integer");
            return Field::stand_in(limit.default, at);
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if limit.contains(number) => Field::read(number, at),
            _ => {
                let Limit { min, max, .. } = limit;
                self.fault(
                    at,
                    &format!("{key} = {integer} must be between {min} and {max}"),
                );
                Field::stand_in(limit.default, at)
            }
        }
    }

    /// An integer within `limit` that fits 32 bits.
    pub(crate) fn number_u32(&mut self, key: &'static str, limit: &Limit) -> Field<u32> {
        assert!(
            u32::try_from(limit.max).is_ok(),
            "{key} does not fit 32 bits"
        );
        self.number(key, limit).map(|number| number as u32)
    }

    /// The same, 0 standing for "none".
    pub(crate) fn number_or_none(&mut self, key: &'static str, limit: &Limit) -> Option<u32> {
        assert!(limit.min == 0, "0 turns {key} off");
        Some(self.number_u32(key, limit).value).filter(|&number| number > 0)
    }

    /// A power of two within `limit`.
    pub(crate) fn power_of_two(&mut self, key: &'static str, limit: &Limit) -> Field<u32> {
        let mut field = self.number_u32(key, limit);
        if !field.value.is_power_of_two() {
            let above = u64::from(field.value).next_power_of_two();
            self.fault(
                field.at.unwrap_or(self.at),
                &format!(
                    "{key} = {} must be a power of two, for example {} or {}",
                    field.value,
                    above / 2,
                    above.min(limit.max)
                ),
            );
            field.sound = false;
        }
        field
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&'static str, T)],
        default: T,
    ) -> T {
        let Some(Text { text, at }) = self.text(key) else {
            return default;
        };
        if let Some(&(_, chosen)) = choices.iter().find(|(word, _)| *word == text) {
            return chosen;
        }
        let words: Vec<&str> = choices.iter().map(|&(word, _)| word).collect();
        let hint = did_you_mean(text, words.iter().copied());
        self.fault(
            at,
            &format!("{key} = {text:?} is not one of {}{hint}", words.join(", ")),
        );
        default
    }

    /// Reports every key that nobody asked for. Its value is not shown: it may be a password under a misspelt key.
    pub(crate) fn finish(self) {
        for (key, _) in self.table {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let hint = did_you_mean(name, self.known.iter().copied());
            let known = self.known.join(", ");
            self.fault(
                key.span().start,
                &format!("unknown key {name:?}{hint} (known here: {known})"),
            );
        }
    }

    fn as_text(&self, key: &str, at: usize, value: &'a DeValue<'a>) -> Option<Text<'a>> {
        let text = value.as_str();
        if text.is_none() {
            self.wrong_type(key, at, value, "a string in quotes");
        }
        text.map(|text| Text { text, at })
    }

    /// Reports a value of the wrong type. The value is not shown: it may be a password without quotes.
    pub(crate) fn wrong_type(&self, key: &str, at: usize, value: &DeValue<'_>, wanted: &str) {
        let found = value.type_str();
        self.fault(at, &format!("{key} must be {wanted}, not of type {found}"));
    }

    fn labelled(&self, what: &str) -> String {
        if self.label.is_empty() {
            what.to_owned()
        } else {
            format!("{}: {what}", self.label)
        }
    }
}
