//! A whole configuration: its objects, and how they have to fit together.

use crate::dpdk::{self, Way};
use crate::endpoint::Listen;
use crate::fault::{ConfigErrors, Faults, Place};
use crate::http::{self, HttpConfig};
use crate::limits::SLOWLOG_ENTRIES_MAX;
use crate::log_format::LogFormat;
use crate::places::{Places, Table};
use crate::pool::{self, NAME_RULE, PoolConfig, is_name};
use crate::port::{self, Driver, PortConfig};
use crate::queues::{self, QueueError, QueueMap, Queues};
use crate::reader::{Reader, Text};
use crate::relations;
use crate::server::ServerConfig;
use crate::worker::{self, WorkerConfig};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use toml::de::{DeTable, DeValue};

/// The name of an instance that has none in its file.
const NAME: &str = "tidegate";

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Instance name: names the runtime directory and the control socket.
    pub name: String,
    /// Entries that the slow log keeps.
    pub slowlog_entries_max: u32,
    /// How lines of the log look.
    pub log_format: LogFormat,
    /// Where the status page is served; `None`: nowhere.
    pub http: Option<HttpConfig>,
    /// Interfaces, in file order. At least one.
    pub ports: Vec<PortConfig>,
    /// Pools, in file order. At least one.
    pub pools: Vec<PoolConfig>,
    /// Limits of each worker.
    pub worker: WorkerConfig,
    /// Where statistics are told as twemproxy tells them; `None`: nowhere.
    #[serde(default)]
    pub stats_listen: Option<SocketAddr>,
    /// Where the file says all that.
    #[serde(skip)]
    places: Places,
}

/// Everything that a text says, with the places that checks between objects need.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) slowlog_entries_max: u32,
    pub(crate) log_format: LogFormat,
    pub(crate) http: http::Draft,
    pub(crate) ports: Vec<port::Draft>,
    pub(crate) pools: Vec<pool::Draft>,
    pub(crate) worker: worker::Draft,
    pub(crate) stats_listen: Option<SocketAddr>,
}

impl Config {
    /// Reads a configuration from TOML. `file` is only named in the errors.
    ///
    /// # Errors
    /// Every fault of the text, each with its line and what would be right.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, file, Faults::new(text))
    }

    /// Reads TOML that was made from another file. `origins` has a place of that file for each line of `text`; every place in an
    /// error is one of them.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_made(text: &str, file: &str, origins: &[Place]) -> Result<Self, ConfigErrors> {
        Self::parse_with(text, file, Faults::with_origins(text, origins))
    }

    fn parse_with(text: &str, file: &str, faults: Faults<'_>) -> Result<Self, ConfigErrors> {
        let (root, syntax) = DeTable::parse_recoverable(text);
        for error in syntax {
            let at = error.span().map_or(text.len(), |span| span.start);
            faults.syntax(at, format!("not TOML: {}", error.message()));
        }
        let draft = read(root.get_ref(), &faults);
        relations::check(&draft, &faults);
        let places = Places::read(root.get_ref(), &faults, file);
        drop(root);
        faults.into_result(file)?;
        Ok(Self {
            name: draft.name,
            slowlog_entries_max: draft.slowlog_entries_max,
            log_format: draft.log_format,
            http: draft.http.config,
            ports: draft.ports.into_iter().map(|port| port.config).collect(),
            pools: draft.pools.into_iter().map(|pool| pool.config).collect(),
            worker: draft.worker.config,
            stats_listen: draft.stats_listen,
            places,
        })
    }

    /// What stands in front of a fault that is found on this machine, and that a key is to blame for: `FILE:LINE:COLUMN: `, of the table if
    /// the key is not there. Nothing where the file does not say it, but the command line or an earlier manager.
    pub fn place(&self, table: Table, key: &str) -> String {
        self.places.of_key(table, key)
    }

    /// The same for an element of a list.
    pub fn place_of(&self, table: Table, key: &str, index: usize) -> String {
        self.places.of_element(table, key, index)
    }

    /// Where the queues of the ports are mapped to cores.
    pub fn place_of_map(&self) -> String {
        let mapped = self
            .ports
            .iter()
            .position(|port| port.queues.map().is_some());
        self.place(Table::Port(mapped.unwrap_or(0)), "queues")
    }

    /// Says of no fault from now on where it is: nobody has seen the text.
    pub fn forget_places(&mut self) {
        self.places = Places::default();
    }

    /// The port of kernel sockets, which is then the only one.
    pub fn kernel_port(&self) -> Option<&PortConfig> {
        self.ports.iter().find(|port| port.driver == Driver::Kernel)
    }

    /// Whether its ports are DPDK's, which all are then.
    pub fn is_on_dpdk(&self) -> bool {
        self.ports.iter().any(|port| port.driver == Driver::Dpdk)
    }

    /// The way to an address over ports on DPDK, of which the kernel knows nothing; on others it knows all.
    pub fn way(&self, destination: IpAddr) -> Option<Way> {
        let mut way = dpdk::way(
            self.ports.iter().filter_map(|port| port.dpdk.as_ref()),
            destination,
        )?;
        let source = self.worker.source_address;
        let source = source.filter(|source| source.is_ipv4() == destination.is_ipv4());
        way.source = source.unwrap_or(way.source);
        Some(way)
    }

    /// Listening addresses with the position of their pool, in the order that numbers them.
    pub fn listeners(&self) -> impl Iterator<Item = (usize, &Listen)> {
        self.pools
            .iter()
            .enumerate()
            .flat_map(|(index, pool)| pool.listen.iter().map(move |listen| (index, listen)))
    }

    /// Servers with the position of their pool, in the order that numbers them.
    pub fn servers(&self) -> impl Iterator<Item = (usize, &ServerConfig)> {
        self.pools
            .iter()
            .enumerate()
            .flat_map(|(index, pool)| pool.servers.iter().map(move |server| (index, server)))
    }

    /// Queue → core, the same for every port; `None` when every port says `auto`. A port that says `auto` beside one with a
    /// map follows the map.
    pub fn queue_map(&self) -> Option<&BTreeMap<u32, u32>> {
        self.ports.iter().find_map(|port| port.queues.map())
    }

    /// Replaces the queues of ports by those of the command line.
    ///
    /// # Errors
    /// Every fault of the maps; then the configuration is left as it was.
    pub fn apply_maps(&mut self, maps: &[QueueMap]) -> Result<(), Vec<QueueError>> {
        let mut errors = Vec::new();
        let mut ports = self.ports.clone();
        let mut mapped = BTreeSet::new();
        let mut forgotten = Vec::new();
        for map in maps {
            let interface = &map.interface;
            if !mapped.insert(interface) {
                errors.push(QueueError::MappedTwice(interface.clone()));
            }
            errors.extend(queues::check(&map.queues));
            let mut with_index = ports.iter_mut().enumerate();
            if let Some((index, port)) = with_index.find(|(_, port)| port.interface == *interface) {
                forgotten.push(index);
                port.queues = Queues::Map(map.queues.clone());
                port.workers = None;
            } else {
                let known: Vec<&str> = self.ports.iter().map(|p| p.interface.as_str()).collect();
                let error = QueueError::UnknownInterface(interface.clone(), known.join(", "));
                errors.push(error);
            }
        }
        let mut with_map = ports
            .iter()
            .filter_map(|port| Some((port.interface.as_str(), port.queues.map()?)));
        if let Some(first) = with_map.next() {
            for second in with_map {
                errors.extend(queues::compare(first, second));
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        self.ports = ports;
        for index in forgotten {
            self.places.forget(Table::Port(index), "queues");
        }
        Ok(())
    }
}

fn read<'a>(root: &'a DeTable<'a>, faults: &'a Faults<'a>) -> Draft {
    let mut reader = Reader::new(String::new(), 0, root, faults);
    let name = match reader.text("name") {
        None => NAME.to_owned(),
        Some(Text { text, at }) => {
            if !is_name(text) {
                reader.fault(at, &format!("name = {text:?} {NAME_RULE}"));
            }
            text.to_owned()
        }
    };
    let slowlog_entries_max = reader
        .number_u32("slowlog_entries_max", &SLOWLOG_ENTRIES_MAX)
        .value;
    let log_format = reader.choice("log_format", LogFormat::NAMES, LogFormat::default());
    let http = http::read(&mut reader);
    let ports = tables(&mut reader, "port")
        .into_iter()
        .enumerate()
        .map(|(index, (at, table))| {
            let label = label("port", "interface", index, table);
            port::read(Reader::new(label.clone(), at, table, faults), label)
        })
        .collect();
    let pools = tables(&mut reader, "pool")
        .into_iter()
        .enumerate()
        .map(|(index, (at, table))| {
            let label = label("pool", "name", index, table);
            pool::read(Reader::new(label.clone(), at, table, faults), label)
        })
        .collect();
    let empty = DeTable::new();
    let worker = read_worker(&mut reader, &empty, faults);
    let stats_listen = stats_listen(&mut reader);
    reader.finish();
    Draft {
        name,
        slowlog_entries_max,
        log_format,
        http,
        ports,
        pools,
        worker,
        stats_listen,
    }
}

fn stats_listen(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let Text { text, at } = reader.text("stats_listen")?;
    let address: Option<SocketAddr> = text.parse().ok();
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        let fault = format!(
            "stats_listen = {text:?} must be an IP address and a port, for example \"127.0.0.1:22222\""
        );
        reader.fault(at, &fault);
    }
    address
}

fn read_worker(reader: &mut Reader<'_>, empty: &DeTable<'_>, faults: &Faults<'_>) -> worker::Draft {
    let label = "worker".to_owned();
    match reader.value("worker") {
        Some((at, DeValue::Table(table))) => {
            worker::read(Reader::new(label, at, table, reader.faults()))
        }
        other => {
            if let Some((at, value)) = other {
                reader.wrong_type("worker", at, value, "a table, written [worker]");
            }
            worker::read(Reader::new(label, 0, empty, faults))
        }
    }
}

/// The tables of `[[key]]`; a fault when there is none.
fn tables<'a>(reader: &mut Reader<'a>, key: &'static str) -> Vec<(usize, &'a DeTable<'a>)> {
    let wanted = format!("tables, written [[{key}]]");
    let Some((at, value)) = reader.value(key) else {
        reader.missing(&format!("no [[{key}]]: at least one is needed"));
        return Vec::new();
    };
    let Some(array) = value.as_array() else {
        reader.wrong_type(key, at, value, &wanted);
        return Vec::new();
    };
    if array.is_empty() {
        reader.fault(at, &format!("no [[{key}]]: at least one is needed"));
    }
    let mut tables = Vec::new();
    for element in array {
        let at = element.span().start;
        match element.get_ref() {
            DeValue::Table(table) => tables.push((at, table)),
            other => reader.wrong_type(key, at, other, &wanted),
        }
    }
    tables
}

/// How faults name a table: by its name, or by its number where that is missing.
fn label(kind: &str, key: &str, index: usize, table: &DeTable<'_>) -> String {
    let name = table.iter().find(|(name, _)| name.get_ref() == key);
    match name.and_then(|(_, value)| value.get_ref().as_str()) {
        Some(name) => format!("{kind} {name:?}"),
        None => format!("{kind} #{}", index + 1),
    }
}
