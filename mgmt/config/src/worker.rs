//! `[worker]`: limits and habits of each worker.

use crate::address::{self, decimal};
use crate::limits::{
    CLIENT_BUFFER_BYTES, CLIENT_REPLY_HOLD_BYTES, CLIENT_REQUESTS_MAX, CLIENT_STALL_MS,
    CLIENTS_MAX, DRAIN_TIMEOUT_MS, HALF_OPEN_MAX, REPLY_HOLD_BYTES, REQUEST_HOLD_BYTES,
    REQUESTS_MAX, SERVER_BUFFER_BYTES, SERVER_CONNECTIONS_MAX, SOURCE_PORT_MIN, SOURCE_PORTS,
    SPLIT_KEYS_MAX,
};
use crate::reader::{Field, Reader, Text};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdleMode {
    /// Poll for ever: lowest latency, a whole core.
    Spin,
    /// Poll, then pause, then sleep on the queue's descriptor.
    #[default]
    Adaptive,
}

impl IdleMode {
    /// Every mode with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("spin", IdleMode::Spin), ("adaptive", IdleMode::Adaptive)];
}

/// Limits and habits of each worker. Each default's reason stands in [`limits`](crate::limits).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerConfig {
    /// Client connections.
    pub clients_max: u32,
    /// Handshakes that are not finished.
    pub half_open_max: u32,
    /// Bytes of the receive and of the send buffer of each client connection (each), a power of two.
    pub client_buffer_bytes: u32,
    /// Server connections, the exclusive ones included.
    pub server_connections_max: u32,
    /// Bytes of the receive and of the send buffer of each server connection (each), a power of two.
    pub server_buffer_bytes: u32,
    /// Requests under way in one worker.
    pub requests_max: u32,
    /// Requests under way of one client; at it the client is not read.
    pub client_requests_max: u32,
    /// Keys of split requests under way in one worker.
    pub split_keys_max: u32,
    /// Longest request line or key, and longest split request that is held as a whole; longer ones are taken in chunks.
    pub request_hold_bytes: u32,
    /// Memory for replies that have to wait for their turn, of one worker.
    pub reply_hold_bytes: u64,
    /// The same of one client.
    pub client_reply_hold_bytes: u64,
    /// A client that has a reply waiting and does not read, or that stops in the middle of a request larger than its receive buffer, is closed after
    /// this long without progress.
    pub client_stall_ms: u32,
    /// What to do when idle.
    pub idle: IdleMode,
    /// Source ports towards servers, of all workers together, first and last.
    pub source_ports: (u16, u16),
    /// Unprivileged user that workers become; `None`: `nobody`.
    pub user: Option<String>,
    /// How long a shutdown waits for what is owed.
    pub drain_timeout_ms: u32,
    /// Source address towards servers of its family; `None`: what the kernel would choose.
    pub source_address: Option<IpAddr>,
    /// Whether workers go on when the manager is killed, until another one adopts them.
    pub outlive_manager: bool,
    /// What happens when a worker uses a system call that it does not need.
    pub seccomp: Seccomp,
}

/// What happens when a worker uses a system call that it does not need: it never does, unless somebody has taken it over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seccomp {
    /// The kernel kills it.
    #[default]
    Kill,
    /// The kernel logs it (audit) and lets it pass.
    Log,
    /// No call is watched.
    Off,
}

impl Seccomp {
    /// Every choice with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("kill", Seccomp::Kill),
        ("log", Seccomp::Log),
        ("off", Seccomp::Off),
    ];
}

impl WorkerConfig {
    /// Bytes that the buffers of one worker take: both directions of every connection, and the replies that wait.
    pub fn buffer_bytes(&self) -> u64 {
        let clients = u64::from(self.clients_max) * 2 * u64::from(self.client_buffer_bytes);
        let servers =
            u64::from(self.server_connections_max) * 2 * u64::from(self.server_buffer_bytes);
        clients + servers + self.reply_hold_bytes
    }
}

/// The worker table and what is needed to check it against the rest of the file.
pub(crate) struct Draft {
    pub(crate) config: WorkerConfig,
    pub(crate) clients_max: Field<u32>,
    pub(crate) client_buffer_bytes: Field<u32>,
    pub(crate) server_buffer_bytes: Field<u32>,
    pub(crate) server_connections_max: Field<u32>,
    pub(crate) source_ports: Field<(u16, u16)>,
    pub(crate) source_address_at: usize,
}

/// Reads the worker table.
pub(crate) fn read(mut reader: Reader<'_>) -> Draft {
    let clients_max = reader.number_u32("clients_max", &CLIENTS_MAX);
    let half_open_max = half_open_max(&mut reader, &clients_max);
    let client_buffer_bytes = reader.power_of_two("client_buffer_bytes", &CLIENT_BUFFER_BYTES);
    let mut server_buffer_bytes = reader.power_of_two("server_buffer_bytes", &SERVER_BUFFER_BYTES);
    let server_connections_max =
        reader.number_u32("server_connections_max", &SERVER_CONNECTIONS_MAX);
    let requests_max = reader.number_u32("requests_max", &REQUESTS_MAX);
    let client_requests_max = client_requests_max(&mut reader, &requests_max);
    let request_hold_bytes =
        request_hold_bytes(&mut reader, &client_buffer_bytes, &mut server_buffer_bytes);
    let (reply_hold_bytes, client_reply_hold_bytes) = reply_holds(&mut reader);
    let source_ports = source_ports(&mut reader);
    let config = WorkerConfig {
        clients_max: clients_max.value,
        half_open_max: half_open_max.value,
        client_buffer_bytes: client_buffer_bytes.value,
        server_connections_max: server_connections_max.value,
        server_buffer_bytes: server_buffer_bytes.value,
        requests_max: requests_max.value,
        client_requests_max: client_requests_max.value,
        split_keys_max: reader.number_u32("split_keys_max", &SPLIT_KEYS_MAX).value,
        request_hold_bytes: request_hold_bytes.value,
        reply_hold_bytes: reply_hold_bytes.value,
        client_reply_hold_bytes: client_reply_hold_bytes.value,
        client_stall_ms: reader.number_u32("client_stall_ms", &CLIENT_STALL_MS).value,
        idle: reader.choice("idle", IdleMode::NAMES, IdleMode::default()),
        source_ports: source_ports.value,
        user: user(&mut reader),
        drain_timeout_ms: reader
            .number_u32("drain_timeout_ms", &DRAIN_TIMEOUT_MS)
            .value,
        source_address: source_address(&mut reader),
        outlive_manager: reader.flag("outlive_manager", true),
        seccomp: reader.choice("seccomp", Seccomp::NAMES, Seccomp::default()),
    };
    let source_address_at = reader.at_of("source_address");
    reader.finish();
    Draft {
        config,
        clients_max,
        client_buffer_bytes,
        server_buffer_bytes,
        server_connections_max,
        source_ports,
        source_address_at,
    }
}

/// Half-open connections sit in client slots, so there are never more of them. Without the key a small `clients_max` takes the
/// default down with it.
fn half_open_max(reader: &mut Reader<'_>, clients_max: &Field<u32>) -> Field<u32> {
    let mut half_open_max = reader.number_u32("half_open_max", &HALF_OPEN_MAX);
    if half_open_max.at.is_none() {
        half_open_max.value = half_open_max.value.min(clients_max.value);
    }
    reader.relation(
        &half_open_max,
        clients_max,
        half_open_max.value <= clients_max.value,
        &format!(
            "half_open_max = {} must not exceed clients_max = {}",
            half_open_max.value, clients_max.value
        ),
    );
    half_open_max
}

/// A limit per client means something only below that of the worker. Without the key a small `requests_max` takes the default
/// down with it.
fn client_requests_max(reader: &mut Reader<'_>, requests_max: &Field<u32>) -> Field<u32> {
    let mut of_client = reader.number_u32("client_requests_max", &CLIENT_REQUESTS_MAX);
    if of_client.at.is_none() {
        of_client.value = of_client.value.min(requests_max.value);
    }
    reader.relation(
        &of_client,
        requests_max,
        of_client.value <= requests_max.value,
        &format!(
            "client_requests_max = {} must not exceed requests_max = {}",
            of_client.value, requests_max.value
        ),
    );
    of_client
}

/// A request that fits the receive buffer must be held as well, or it could be received and never served. One that was held
/// goes into a server's send buffer as a whole, with room for what the proxy adds.
fn request_hold_bytes(
    reader: &mut Reader<'_>,
    client_buffer_bytes: &Field<u32>,
    server_buffer_bytes: &mut Field<u32>,
) -> Field<u32> {
    let mut hold = reader.number_u32("request_hold_bytes", &REQUEST_HOLD_BYTES);
    if hold.at.is_none() {
        if server_buffer_bytes.at.is_some() {
            hold.value = hold.value.min(server_buffer_bytes.value / 2);
        }
        hold.value = hold.value.max(client_buffer_bytes.value);
    }
    if server_buffer_bytes.at.is_none() {
        let needed = hold.value.saturating_mul(2).checked_next_power_of_two();
        server_buffer_bytes.value = server_buffer_bytes.value.max(needed.unwrap_or(u32::MAX));
    }
    reader.relation(
        &hold,
        client_buffer_bytes,
        hold.value >= client_buffer_bytes.value,
        &format!(
            "request_hold_bytes = {} must be at least client_buffer_bytes = {}",
            hold.value, client_buffer_bytes.value
        ),
    );
    reader.relation(
        &hold,
        server_buffer_bytes,
        hold.value <= server_buffer_bytes.value / 2,
        &format!(
            "request_hold_bytes = {} must be at most half of server_buffer_bytes = {}",
            hold.value, server_buffer_bytes.value
        ),
    );
    hold
}

fn reply_holds(reader: &mut Reader<'_>) -> (Field<u64>, Field<u64>) {
    let of_worker = reader.number("reply_hold_bytes", &REPLY_HOLD_BYTES);
    let mut of_client = reader.number("client_reply_hold_bytes", &CLIENT_REPLY_HOLD_BYTES);
    if of_client.at.is_none() {
        of_client.value = of_client.value.min(of_worker.value);
    }
    reader.relation(
        &of_client,
        &of_worker,
        of_client.value <= of_worker.value,
        &format!(
            "client_reply_hold_bytes = {} must not exceed reply_hold_bytes = {}",
            of_client.value, of_worker.value
        ),
    );
    (of_worker, of_client)
}

fn source_ports(reader: &mut Reader<'_>) -> Field<(u16, u16)> {
    let Some(Text { text, at }) = reader.text("source_ports") else {
        return if reader.has("source_ports") {
            Field::stand_in(SOURCE_PORTS, reader.at())
        } else {
            Field::default(SOURCE_PORTS)
        };
    };
    let port = |text: &str| decimal(text.trim()).and_then(|port| u16::try_from(port).ok());
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some((port(first)?, port(last)?)));
    match range {
        Some((first, last)) if SOURCE_PORT_MIN <= first && first <= last => {
            Field::read((first, last), at)
        }
        _ => {
            let (first, last) = SOURCE_PORTS;
            reader.fault(
                at,
                &format!(
                    "source_ports = {text:?} must be FIRST-LAST, first not above last, within {SOURCE_PORT_MIN}-65535, for example \"{first}-{last}\""
                ),
            );
            Field::stand_in(SOURCE_PORTS, at)
        }
    }
}

fn user(reader: &mut Reader<'_>) -> Option<String> {
    let Text { text, at } = reader.text("user")?;
    let word = !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    if !word {
        reader.fault(at, &format!("user = {text:?} must be the name of a user"));
    } else if text == "root" {
        reader.fault(
            at,
            "user = \"root\" would let workers keep every privilege; name an unprivileged user",
        );
    }
    Some(text.to_owned())
}

fn source_address(reader: &mut Reader<'_>) -> Option<IpAddr> {
    let Text { text, at } = reader.text("source_address")?;
    match address::check_kind(text).and_then(|()| address::ip(text)) {
        Ok(ip) => Some(ip),
        Err(error) => {
            reader.fault(at, &format!("source_address: {error}"));
            None
        }
    }
}
