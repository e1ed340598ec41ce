//! `[[pool]]`: listening addresses and the servers behind them.

use crate::address;
use crate::compat::Compat;
use crate::endpoint::Listen;
use crate::limits::{
    BACKLOG, CLIENT_KEEPALIVE_S, DATABASE, DATABASES, NAME_BYTES_MAX, OWN_CONNECTIONS_MAX,
    POOL_CLIENTS_MAX, SERVER_CONNECTIONS, SERVER_FAILURE_LIMIT, SERVER_RETRY_TIMEOUT_MS,
    SLOWLOG_US, TIMEOUT_MS, USER_BYTES_MAX,
};
use crate::partial::Partial;
use crate::reader::{Field, Reader, Text};
use crate::secret::{self, Secret};
use crate::server::ServerConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The protocol of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// memcached: text with its meta commands, and binary.
    Memcached,
    /// Redis, RESP2 and RESP3.
    Redis,
}

impl Protocol {
    /// Every protocol with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("memcached", Protocol::Memcached),
        ("redis", Protocol::Redis),
    ];
}

/// How a hash value becomes a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// Consistent hashing as libketama and twemproxy do it.
    #[default]
    Ketama,
    /// Hash modulo the sum of weights.
    Modula,
    /// Any live server, per request.
    Random,
}

impl Distribution {
    /// Every distribution with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("ketama", Distribution::Ketama),
        ("modula", Distribution::Modula),
        ("random", Distribution::Random),
    ];
}

/// How a key becomes a number. Values are twemproxy's, bit for bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum HashKind {
    OneAtATime,
    Md5,
    Crc16,
    Crc32,
    Crc32a,
    #[serde(rename = "fnv1_64")]
    Fnv1_64,
    #[default]
    #[serde(rename = "fnv1a_64")]
    Fnv1a64,
    #[serde(rename = "fnv1_32")]
    Fnv1_32,
    #[serde(rename = "fnv1a_32")]
    Fnv1a32,
    Hsieh,
    Murmur,
    Jenkins,
}

impl HashKind {
    /// Every hash with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("one_at_a_time", HashKind::OneAtATime),
        ("md5", HashKind::Md5),
        ("crc16", HashKind::Crc16),
        ("crc32", HashKind::Crc32),
        ("crc32a", HashKind::Crc32a),
        ("fnv1_64", HashKind::Fnv1_64),
        ("fnv1a_64", HashKind::Fnv1a64),
        ("fnv1_32", HashKind::Fnv1_32),
        ("fnv1a_32", HashKind::Fnv1a32),
        ("hsieh", HashKind::Hsieh),
        ("murmur", HashKind::Murmur),
        ("jenkins", HashKind::Jenkins),
    ];
}

/// One pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolConfig {
    /// Unique name.
    pub name: String,
    /// Listening addresses, unique over all pools. At least one.
    pub listen: Vec<Listen>,
    /// Connections that wait to be accepted, of each listening socket of the kernel.
    pub backlog: u32,
    /// Protocol of clients and servers.
    pub protocol: Protocol,
    /// Hash value → server.
    pub distribution: Distribution,
    /// Key → hash value.
    pub hash: HashKind,
    /// Two bytes; only what stands between them in a key is hashed.
    pub hash_tag: Option<[u8; 2]>,
    /// Servers in file order. At least one. Routing sorts them as twemproxy does.
    pub servers: Vec<ServerConfig>,
    /// Longest time for one request from its arrival to its reply, queueing and connecting included. `None`: no limit.
    pub timeout_ms: Option<u32>,
    /// A request that takes longer than this is written down in the slow log. `None`: none is.
    pub slowlog_us: Option<u32>,
    /// Clients of each worker that it may have open at once; more get an error and are closed. `None`: as many as the worker has.
    pub clients_max: Option<u32>,
    /// Connections of each worker to each server.
    pub server_connections: u32,
    /// Clients of each worker that may have a server connection of their own at once (Redis).
    pub own_connections_max: u32,
    /// Open server connections at start.
    pub preconnect: bool,
    /// Take a failing server out of the distribution.
    pub auto_eject_hosts: bool,
    /// How long an ejected server stays out.
    pub server_retry_timeout_ms: u32,
    /// Failures in a row that eject a server.
    pub server_failure_limit: u32,
    /// Probe idle clients after this long; `None`: do not.
    pub client_keepalive_s: Option<u32>,
    /// Databases that clients can SELECT (Redis), numbered from 0.
    pub databases: u32,
    /// The one that clients are in until they SELECT another.
    pub database: u32,
    /// Clients must AUTH with it (Redis). Never printed: see [`Secret`].
    pub redis_auth: Option<Secret>,
    /// The user whose password that is; `None`: `default`, who is meant by `AUTH password` as well.
    pub redis_user: Option<String>,
    /// Clients must authenticate with it (memcached): SASL in binary, `set` with user and password as value in text.
    pub memcached_auth: Option<Secret>,
    /// The user whose password that is.
    pub memcached_user: Option<String>,
    /// Sent to the servers on connect (Redis).
    pub server_auth: Option<Secret>,
    /// The user that servers know by it; `None`: they are sent the password alone.
    pub server_user: Option<String>,
    /// What a reply of several servers becomes when one of them fails. Without meaning where `compat` is twemproxy, which has a rule of
    /// its own.
    pub partial: Partial,
    /// Whose habits the pool keeps where the protocol leaves a choice.
    pub compat: Compat,
}

/// A pool and what is needed to check it against the rest of the file.
pub(crate) struct Draft {
    pub(crate) config: PoolConfig,
    pub(crate) label: String,
    pub(crate) at: usize,
    pub(crate) name: Field<()>,
    /// Where each of `config.listen` stands.
    pub(crate) listen_at: Vec<usize>,
    pub(crate) backlog: Field<u32>,
    pub(crate) clients_max: Field<Option<u32>>,
    /// Where each of `config.servers` stands.
    pub(crate) servers_at: Vec<usize>,
}

/// Reads the table of one pool.
pub(crate) fn read(mut reader: Reader<'_>, label: String) -> Draft {
    let name = name(&mut reader);
    let (listen, listen_at) = listen(&mut reader);
    let backlog = reader.number_u32("backlog", &BACKLOG);
    let protocol = protocol(&mut reader);
    let (servers, servers_at) = servers(&mut reader);
    let databases = databases(&mut reader, protocol);
    let clients_max = clients_max(&mut reader);
    let config = PoolConfig {
        name: name.value.clone(),
        listen,
        backlog: backlog.value,
        protocol: protocol.unwrap_or(Protocol::Memcached),
        distribution: reader.choice("distribution", Distribution::NAMES, Distribution::default()),
        hash: reader.choice("hash", HashKind::NAMES, HashKind::default()),
        hash_tag: hash_tag(&mut reader),
        servers,
        timeout_ms: reader.number_or_none("timeout_ms", &TIMEOUT_MS),
        slowlog_us: reader.number_or_none("slowlog_us", &SLOWLOG_US),
        clients_max: clients_max.value,
        server_connections: reader
            .number_u32("server_connections", &SERVER_CONNECTIONS)
            .value,
        own_connections_max: reader
            .number_u32("own_connections_max", &OWN_CONNECTIONS_MAX)
            .value,
        preconnect: reader.flag("preconnect", false),
        auto_eject_hosts: reader.flag("auto_eject_hosts", false),
        server_retry_timeout_ms: reader
            .number_u32("server_retry_timeout_ms", &SERVER_RETRY_TIMEOUT_MS)
            .value,
        server_failure_limit: reader
            .number_u32("server_failure_limit", &SERVER_FAILURE_LIMIT)
            .value,
        client_keepalive_s: reader.number_or_none("client_keepalive_s", &CLIENT_KEEPALIVE_S),
        databases: databases.value,
        database: database(&mut reader, protocol, databases.value),
        redis_auth: password(&mut reader, "redis_auth", protocol),
        redis_user: user(&mut reader, "redis_user", "redis_auth"),
        memcached_auth: memcached_password(&mut reader, protocol),
        memcached_user: user(&mut reader, "memcached_user", "memcached_auth"),
        server_auth: password(&mut reader, "server_auth", protocol),
        server_user: user(&mut reader, "server_user", "server_auth"),
        partial: reader.choice("partial", Partial::NAMES, Partial::default()),
        compat: reader.choice("compat", Compat::NAMES, Compat::default()),
    };
    let at = reader.at();
    reader.finish();
    Draft {
        config,
        label,
        at,
        name: name.map(drop),
        listen_at,
        backlog,
        clients_max,
        servers_at,
    }
}

fn name(reader: &mut Reader<'_>) -> Field<String> {
    let Some(text) = reader.required_text("name", "\"sessions\"") else {
        return Field::stand_in(String::new(), reader.at());
    };
    if is_name(text.text) {
        return Field::read(text.text.to_owned(), text.at);
    }
    reader.fault(text.at, &format!("name = {:?} {NAME_RULE}", text.text));
    Field::stand_in(text.text.to_owned(), text.at)
}

/// What [`is_name`] demands.
pub(crate) const NAME_RULE: &str =
    "must be 1 to 64 ASCII letters, digits, '-', '_' and '.', the first one a letter or digit";

/// Whether `name` can stand in a file name and in a line for people.
pub fn is_name(name: &str) -> bool {
    const { assert!(NAME_BYTES_MAX == 64, "NAME_RULE says 64") };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(allowed)
}

fn protocol(reader: &mut Reader<'_>) -> Option<Protocol> {
    const KEY: &str = "protocol";
    let found = reader.choice(
        KEY,
        &Protocol::NAMES
            .iter()
            .map(|&(name, protocol)| (name, Some(protocol)))
            .collect::<Vec<_>>(),
        None,
    );
    if found.is_none() && !reader.has(KEY) {
        reader.missing("protocol is missing, write \"memcached\" or \"redis\"");
    }
    found
}

fn listen(reader: &mut Reader<'_>) -> (Vec<Listen>, Vec<usize>) {
    const EXAMPLE: &str = "for example listen = \"10.0.0.10:11211\"";
    let Some(texts) = reader.texts("listen") else {
        reader.missing(&format!("listen is missing, {EXAMPLE}"));
        return (Vec::new(), Vec::new());
    };
    if reader.is_empty_list("listen") {
        reader.fault(
            reader.at_of("listen"),
            &format!("listen needs an address, {EXAMPLE}"),
        );
    }
    let mut read = |Text { text, at }| match Listen::parse(text) {
        Ok(listen) => Some((listen, at)),
        Err(error) => {
            reader.fault(at, &format!("listen {}: {error}", address::shown(text)));
            None
        }
    };
    texts.into_iter().filter_map(&mut read).unzip()
}

fn servers(reader: &mut Reader<'_>) -> (Vec<ServerConfig>, Vec<usize>) {
    const EXAMPLE: &str = "for example servers = [\"10.0.1.11:11211:1\"]";
    let Some(texts) = reader.texts("servers") else {
        reader.missing(&format!("servers is missing, {EXAMPLE}"));
        return (Vec::new(), Vec::new());
    };
    if reader.is_empty_list("servers") {
        reader.fault(
            reader.at_of("servers"),
            &format!("servers needs a server, {EXAMPLE}"),
        );
    }
    let mut names = BTreeMap::new();
    let mut read = |Text { text, at }| match ServerConfig::parse(text) {
        Ok(server) => {
            if let Some(first) = names.insert(server.name.clone(), at) {
                reader.fault(
                    at,
                    &format!(
                        "server {text:?}: the name {:?} is taken by the server of line {}; ketama tells servers apart by it",
                        server.name,
                        reader.faults().line(first)
                    ),
                );
            }
            Some((server, at))
        }
        Err(error) => {
            reader.fault(at, &format!("server {}: {error}", address::shown(text)));
            None
        }
    };
    texts.into_iter().filter_map(&mut read).unzip()
}

fn hash_tag(reader: &mut Reader<'_>) -> Option<[u8; 2]> {
    let Text { text, at } = reader.text("hash_tag")?;
    let tag = text.as_bytes().try_into().ok();
    if tag.is_none() {
        reader.fault(
            at,
            &format!("hash_tag = {text:?} must be exactly two bytes, for example \"{{}}\""),
        );
    }
    tag
}

/// How many clients it may have. Without the key only the worker's limit counts, and not the default of the range.
fn clients_max(reader: &mut Reader<'_>) -> Field<Option<u32>> {
    let clients = reader.number_u32("clients_max", &POOL_CLIENTS_MAX);
    let written = clients.at.is_some();
    clients.map(|clients| written.then_some(clients))
}

/// The number of databases, which only Redis has.
fn databases(reader: &mut Reader<'_>, protocol: Option<Protocol>) -> Field<u32> {
    let databases = reader.number_u32("databases", &DATABASES);
    if let (Some(Protocol::Memcached), Some(at)) = (protocol, databases.at) {
        reader.fault(at, "databases needs protocol = \"redis\"");
    }
    databases
}

/// The database that clients start in.
fn database(reader: &mut Reader<'_>, protocol: Option<Protocol>, databases: u32) -> u32 {
    let database = reader.number_u32("database", &DATABASE);
    let Some(at) = database.at else {
        return database.value;
    };
    if protocol == Some(Protocol::Memcached) {
        reader.fault(at, "database needs protocol = \"redis\"");
    } else if database.value >= databases {
        reader.fault(
            at,
            &format!(
                "database = {} is none of the {databases} databases (numbered from 0); raise databases",
                database.value
            ),
        );
    }
    database.value
}

/// The name of the user whose password is at the key `secret`.
fn user(reader: &mut Reader<'_>, key: &'static str, secret: &str) -> Option<String> {
    let Text { text, at } = reader.text(key)?;
    if !reader.has(secret) {
        reader.fault(
            at,
            &format!("{key} needs {secret}, the password of that user"),
        );
    }
    // Redis has no users with blanks in their names.
    let word = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if !word || text.len() > USER_BYTES_MAX {
        reader.fault(
            at,
            &format!("{key} = {text:?} must be 1 to {USER_BYTES_MAX} bytes without blanks"),
        );
    }
    Some(text.to_owned())
}

/// The password of memcached's clients, which goes with a user. No fault shows it.
fn memcached_password(reader: &mut Reader<'_>, protocol: Option<Protocol>) -> Option<Secret> {
    const KEY: &str = "memcached_auth";
    let (secret, at) = secret::read(reader, KEY)?;
    let text = secret.reveal();
    if protocol == Some(Protocol::Redis) {
        reader.fault(at, &format!("{KEY} needs protocol = \"memcached\""));
    }
    if !reader.has("memcached_user") {
        reader.fault(
            at,
            &format!("{KEY} needs memcached_user, whose password it is"),
        );
    }
    if reader.has("compat") {
        reader.fault(
            at,
            &format!("{KEY} is not for pools with compat: twemproxy knows no users of memcached"),
        );
    }
    // In text it is a word.
    if text.is_empty()
        || text.len() > USER_BYTES_MAX
        || text.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        reader.fault(
            at,
            &format!("{KEY} must be 1 to {USER_BYTES_MAX} bytes without blanks"),
        );
    }
    Some(secret)
}

/// A password, which only Redis knows. No fault shows it.
fn password(
    reader: &mut Reader<'_>,
    key: &'static str,
    protocol: Option<Protocol>,
) -> Option<Secret> {
    let (secret, at) = secret::read(reader, key)?;
    if protocol == Some(Protocol::Memcached) {
        reader.fault(at, &format!("{key} needs protocol = \"redis\""));
    }
    if secret.reveal().is_empty() {
        reader.fault(at, &format!("{key} is empty; leave it out for no password"));
    }
    Some(secret)
}
