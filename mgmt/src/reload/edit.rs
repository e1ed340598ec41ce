//! Single settings, changed in the text of a configuration: everything else in it stays as it was written, comments included.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use toml_edit::{DocumentMut, Item, Table, Value};

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
                    .map(|pool| set_all(pool, settings))
                    .ok_or_else(|| format!("there is no pool {name:?}"))
            }
            Edit::Worker { settings } => document
                .entry("worker")
                .or_insert_with(|| Item::Table(Table::new()))
                .as_table_mut()
                .map(|worker| set_all(worker, settings))
                .ok_or_else(|| "worker is not written as a table, [worker]".to_owned()),
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
        Ok(document.to_string())
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

fn set_all(table: &mut Table, settings: &[(String, String)]) {
    for (key, value) in settings {
        if value.is_empty() {
            table.remove(key);
        } else {
            set(table, key, parsed(value));
        }
    }
}

/// A value as TOML has it. Words need no quotes: `hash=murmur`.
fn parsed(text: &str) -> Value {
    text.parse().unwrap_or_else(|_| Value::from(text))
}

/// A value in the place of the old one keeps the comment behind it.
fn set(table: &mut Table, key: &str, mut value: Value) {
    let old = table.get_mut(key).and_then(Item::as_value_mut);
    match old {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            table.insert(key, Item::Value(value));
        }
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
