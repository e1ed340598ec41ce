//! Where a configuration says what: for faults that are found once the text has been read, when it meets the machine.

use crate::fault::Faults;
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// A table of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// What stands outside of tables.
    Root,
    /// A `[[port]]`, by its position.
    Port(usize),
    /// A `[[pool]]`, by its position.
    Pool(usize),
    /// `[worker]`.
    Worker,
}

/// The places of all keys of a file. They are no part of what it says: all are equal, and none crosses to another process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    file: String,
    /// Each with its line and column, for a table and its key. Elements of a list have the key of the list with their position behind it;
    /// a table itself has the empty key.
    /// `None`: somebody else than the file says it.
    known: BTreeMap<(Table, String), Option<(usize, usize)>>,
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

impl Places {
    pub(crate) fn read(root: &DeTable<'_>, faults: &Faults<'_>, file: &str) -> Self {
        let mut places = Self {
            file: file.to_owned(),
            known: BTreeMap::new(),
        };
        places.table(Table::Root, root, faults);
        for (name, value) in root {
            let (at, value) = (value.span().start, value.get_ref());
            match (name.get_ref().as_ref(), value) {
                ("worker", DeValue::Table(table)) => {
                    places.add(Table::Worker, String::new(), at, faults);
                    places.table(Table::Worker, table, faults);
                }
                ("port", DeValue::Array(tables)) => {
                    places.tables(Table::Port, tables, faults);
                }
                ("pool", DeValue::Array(tables)) => {
                    places.tables(Table::Pool, tables, faults);
                }
                _ => {}
            }
        }
        places
    }

    fn tables(
        &mut self,
        kind: fn(usize) -> Table,
        tables: &[toml::Spanned<DeValue<'_>>],
        faults: &Faults<'_>,
    ) {
        for (index, element) in tables.iter().enumerate() {
            if let DeValue::Table(table) = element.get_ref() {
                self.add(kind(index), String::new(), element.span().start, faults);
                self.table(kind(index), table, faults);
            }
        }
    }

    fn table(&mut self, table: Table, keys: &DeTable<'_>, faults: &Faults<'_>) {
        for (key, value) in keys {
            let key = key.get_ref();
            self.add(table, key.to_string(), value.span().start, faults);
            for (index, element) in value.get_ref().as_array().into_iter().flatten().enumerate() {
                let start = element.span().start;
                self.add(table, element_key(key, index), start, faults);
            }
        }
    }

    fn add(&mut self, table: Table, key: String, at: usize, faults: &Faults<'_>) {
        self.known.insert((table, key), Some(faults.position(at)));
    }

    /// What stands in front of a fault: the place of the first key that is there, or nothing where no place is known.
    fn first(&self, table: Table, keys: &[&str]) -> String {
        let mut places = keys
            .iter()
            .filter_map(|key| self.known.get(&(table, (*key).to_owned())));
        match places.next() {
            Some(Some((line, column))) => format!("{}:{line}:{column}: ", self.file),
            Some(None) | None => String::new(),
        }
    }

    /// The file is no longer what says this.
    pub(crate) fn forget(&mut self, table: Table, key: &str) {
        self.known.insert((table, key.to_owned()), None);
    }

    /// `FILE:LINE:COLUMN: `
    pub(crate) fn of_key(&self, table: Table, key: &str) -> String {
        self.first(table, &[key, ""])
    }

    /// The same for an element of a list, which may be written without one if it is the only one.
    pub(crate) fn of_element(&self, table: Table, key: &str, index: usize) -> String {
        self.first(table, &[&element_key(key, index), key, ""])
    }
}

fn element_key(key: &str, index: usize) -> String {
    format!("{key}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::Table;
    use crate::Config;

    const TEXT: &str = r#"name = "shop"
[[port]]
interface = "eth1"
queues = { 0 = 2 }

[[pool]]
name = "sessions"
listen = ["10.0.0.10:1", "10.0.0.10:2"]
protocol = "redis"
servers = "10.0.1.11:1"
"#;

    #[test]
    fn keys_and_elements_have_places_and_what_is_missing_has_that_of_its_table() {
        let mut config = Config::parse(TEXT, "shop.toml").expect("a configuration");
        for (place, expected) in [
            (config.place(Table::Root, "name"), "shop.toml:1:8: "),
            (
                config.place(Table::Port(0), "interface"),
                "shop.toml:3:13: ",
            ),
            (config.place(Table::Port(0), "rss"), "shop.toml:2:1: "),
            (config.place_of_map(), "shop.toml:4:10: "),
            (
                config.place_of(Table::Pool(0), "listen", 1),
                "shop.toml:8:26: ",
            ),
            (
                config.place_of(Table::Pool(0), "servers", 0),
                "shop.toml:10:11: ",
            ),
            (config.place(Table::Worker, "user"), ""),
            (config.place(Table::Pool(7), "name"), ""),
        ] {
            assert_eq!(place, expected);
        }
        let same = config.clone();
        let map = "eth1:0=3".parse().expect("a map");
        config.apply_maps(&[map]).expect("a port");
        assert_eq!(config.place_of_map(), "", "the command line says it");
        assert_ne!(config, same);
        let text = TEXT.replace("name = \"shop\"", "\nname = \"shop\"");
        let moved = Config::parse(&text, "other.toml").expect("a configuration");
        assert_eq!(moved, same, "places are no part of what it says");
        config.forget_places();
        assert_eq!(config.place(Table::Root, "name"), "");
    }
}
