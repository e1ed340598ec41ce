//! `[[port]]`: one interface, or the sockets of the kernel.

use crate::dpdk::{self, DpdkOptions};
use crate::limits::{DPDK_RING_SIZE, INTERFACE_NAME_BYTES_MAX, MTU_BYTES, RING_SIZE, WORKERS};
use crate::queues::{self, Queues};
use crate::reader::{Field, Reader};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use toml::de::{DeTable, DeValue};

/// Which engine moves the bytes of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// `AF_XDP` sockets.
    #[default]
    Afxdp,
    /// Sockets of the kernel and epoll: no privileges, no NIC.
    Kernel,
    /// Queues of a device that DPDK drives.
    Dpdk,
}

impl Driver {
    /// Every driver with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("afxdp", Driver::Afxdp),
        ("kernel", Driver::Kernel),
        ("dpdk", Driver::Dpdk),
    ];
}

/// What stands in place of an interface where a port is the kernel's sockets.
pub const KERNEL_PORT: &str = "kernel";

/// Keys that only a NIC gives a meaning.
const NIC_KEYS: [&str; 5] = [
    "interface",
    "rss",
    "ring_size",
    "mtu_bytes",
    "require_zero_copy",
];

/// When received bytes are acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AckMode {
    /// No later than the burst that brought them.
    #[default]
    Immediate,
    /// A complete request may wait up to 300 µs for its reply to carry the acknowledgement.
    WithReply,
}

impl AckMode {
    /// Every mode with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("immediate", AckMode::Immediate),
        ("with-reply", AckMode::WithReply),
    ];
}

/// How the queue of a tuple is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RssMode {
    /// Toeplitz where the NIC tells key and indirection table, else `software`.
    #[default]
    Auto,
    /// Toeplitz with the key and indirection table read from the NIC; an error where it does not tell.
    Toeplitz,
    /// `((source port ^ destination port) >> 1) % queues`: the steering of the lab.
    PortXor,
    /// The NIC's choice is unknown: a software hash owns the flow, frames that arrive elsewhere are handed over.
    Software,
}

impl RssMode {
    /// Every mode with its name in a file.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("auto", RssMode::Auto),
        ("toeplitz", RssMode::Toeplitz),
        ("port-xor", RssMode::PortXor),
        ("software", RssMode::Software),
    ];
}

/// One interface, or the sockets of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortConfig {
    /// Name of the interface, at most 15 bytes; the PCI address of a card on DPDK; [`KERNEL_PORT`] for kernel sockets.
    pub interface: String,
    /// The engine.
    pub driver: Driver,
    /// Queue → core. Every port of a configuration has the same queues: worker n owns queue n of each.
    /// Kernel sockets have no queues: there it is worker → core, and `auto` one worker per core that this process may use.
    pub queues: Queues,
    /// Workers that the scheduler places as it likes, in place of `queues`. Kernel sockets only.
    pub workers: Option<u32>,
    /// Each worker has listening sockets of its own (`SO_REUSEPORT`); otherwise they share those of the manager. Kernel sockets
    /// only.
    pub reuseport: bool,
    /// Refuse to start without zero copy.
    pub require_zero_copy: bool,
    /// When to acknowledge.
    pub ack: AckMode,
    /// How to know the queue of a tuple.
    pub rss: RssMode,
    /// Descriptors of each ring, a power of two.
    pub ring_size: u32,
    /// Largest packet; `None`: what the interface says. Frames hold 2,048 bytes, so it is at most 1,792.
    pub mtu_bytes: Option<u32>,
    /// What only a port on DPDK has: all of those and no other.
    #[serde(default)]
    pub dpdk: Option<DpdkOptions>,
}

/// A port and what is needed to check it against the rest of the file.
pub(crate) struct Draft {
    pub(crate) config: PortConfig,
    pub(crate) label: String,
    pub(crate) at: usize,
    pub(crate) interface: Field<()>,
    pub(crate) queues: Field<()>,
    pub(crate) ring_size: Field<u32>,
    pub(crate) mtu_bytes: Field<Option<u32>>,
    /// What only DPDK has, with its places.
    pub(crate) dpdk: Option<dpdk::Draft>,
}

/// Reads the table of one port.
pub(crate) fn read(mut reader: Reader<'_>, label: String) -> Draft {
    let driver = reader.choice("driver", Driver::NAMES, Driver::default());
    // The keys of the other driver are read all the same: their own faults count as well, and `finish` knows them.
    let interface = match driver {
        Driver::Afxdp | Driver::Dpdk => interface(&mut reader),
        Driver::Kernel => kernel_interface(&mut reader),
    };
    let dpdk = match driver {
        Driver::Dpdk => Some(dpdk::read(&mut reader, &interface)),
        Driver::Afxdp | Driver::Kernel => {
            dpdk::refuse(&mut reader);
            None
        }
    };
    let queues = queues(&mut reader);
    let workers = workers(&mut reader, driver, &queues);
    let reuseport = reader.flag("reuseport", true);
    if driver != Driver::Kernel && reader.has("reuseport") {
        let at = reader.at_of("reuseport");
        reader.fault(at, "reuseport needs driver = \"kernel\"");
    }
    if driver == Driver::Dpdk && reader.has("require_zero_copy") {
        let at = reader.at_of("require_zero_copy");
        reader.fault(
            at,
            "require_zero_copy needs driver = \"afxdp\": DPDK says itself what a device can do",
        );
    }
    let ring_size = reader.power_of_two(
        "ring_size",
        match driver {
            Driver::Dpdk => &DPDK_RING_SIZE,
            Driver::Afxdp | Driver::Kernel => &RING_SIZE,
        },
    );
    let mtu = reader.number_u32("mtu_bytes", &MTU_BYTES);
    // Without the key the interface's own MTU counts, not the default of the range.
    let written = mtu.at.is_some();
    let mtu_bytes = mtu.map(|bytes| written.then_some(bytes));
    let config = PortConfig {
        interface: interface.value.clone(),
        driver,
        queues: queues.value.clone(),
        workers,
        reuseport,
        require_zero_copy: reader.flag("require_zero_copy", false),
        ack: reader.choice("ack", AckMode::NAMES, AckMode::default()),
        rss: reader.choice("rss", RssMode::NAMES, RssMode::default()),
        ring_size: ring_size.value,
        mtu_bytes: mtu_bytes.value,
        dpdk: dpdk.as_ref().map(|draft| draft.options.clone()),
    };
    let at = reader.at();
    reader.finish();
    Draft {
        config,
        label,
        at,
        interface: interface.map(drop),
        queues: queues.map(drop),
        ring_size,
        mtu_bytes,
        dpdk,
    }
}

/// The name of a port that has no interface; a fault for each key that only an interface gives a meaning.
fn kernel_interface(reader: &mut Reader<'_>) -> Field<String> {
    for key in NIC_KEYS {
        if reader.has(key) {
            reader.fault(
                reader.at_of(key),
                &format!("{key} has no meaning with driver = \"kernel\"; remove it"),
            );
        }
    }
    let _known = reader.value("interface");
    Field::default(KERNEL_PORT.to_owned())
}

fn workers(reader: &mut Reader<'_>, driver: Driver, queues: &Field<Queues>) -> Option<u32> {
    let workers = reader.number_u32("workers", &WORKERS);
    let at = workers.at?;
    if driver != Driver::Kernel {
        reader.fault(
            at,
            "workers needs driver = \"kernel\": a NIC has one worker for each queue, see queues",
        );
    } else if queues.at.is_some() {
        reader.fault(
            at,
            "workers are not pinned to cores and queues are: write one of the two",
        );
    }
    Some(workers.value)
}

fn interface(reader: &mut Reader<'_>) -> Field<String> {
    let Some(text) = reader.required_text("interface", "\"eth1\"") else {
        return Field::stand_in(String::new(), reader.at());
    };
    let name = text.text;
    if queues::is_interface_name(name) {
        return Field::read(name.to_owned(), text.at);
    }
    reader.fault(
        text.at,
        &format!(
            "interface = {name:?} is not a name the kernel allows: 1 to {INTERFACE_NAME_BYTES_MAX} bytes without blanks and /"
        ),
    );
    Field::stand_in(name.to_owned(), text.at)
}

fn queues(reader: &mut Reader<'_>) -> Field<Queues> {
    const WANTED: &str = "\"auto\" or a table of queue = core, for example { 0 = 2, 1 = 3 }";
    let Some((at, value)) = reader.value("queues") else {
        return Field::default(Queues::Auto);
    };
    match value {
        DeValue::String(text) if text == "auto" => Field::read(Queues::Auto, at),
        DeValue::String(text) => {
            reader.fault(at, &format!("queues = {text:?} must be {WANTED}"));
            Field::stand_in(Queues::Auto, at)
        }
        DeValue::Table(table) => match map(reader, at, table) {
            Some(map) => Field::read(Queues::Map(map), at),
            None => Field::stand_in(Queues::Auto, at),
        },
        _ => {
            reader.wrong_type("queues", at, value, WANTED);
            Field::stand_in(Queues::Auto, at)
        }
    }
}

/// The map of a table; `None` when something in it is wrong.
fn map(reader: &Reader<'_>, at: usize, table: &DeTable<'_>) -> Option<BTreeMap<u32, u32>> {
    let mut map = BTreeMap::new();
    let mut sound = true;
    for (queue, core) in table {
        let core_text = match core.get_ref() {
            DeValue::Integer(integer) => integer.to_string(),
            other => other.type_str().to_owned(),
        };
        if let Err(error) = queues::insert(&mut map, queue.get_ref(), &core_text) {
            sound = false;
            reader.fault(queue.span().start, &format!("queues: {error}"));
        }
    }
    if sound {
        for error in queues::check(&map) {
            sound = false;
            reader.fault(at, &format!("queues: {error}"));
        }
    }
    sound.then_some(map)
}
