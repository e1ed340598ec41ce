//! One thing of the machine that can be changed, and a change of it that can be undone.

use super::binding::Binding;
use super::irqbalance;
use super::pages::Pages;
use super::privilege::Privilege;
use super::stage::Stage;
use crate::host::{self, Host, numbers};
use crate::pci::Address;
use crate::runtime_dir::network_namespace;
use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use std::io;
use tidegate_dataplane::affinity::core_list;
use tidegate_port::nic::settings::{Counts, RingSizes};

/// The kernel's list of ports that it gives to nobody by itself.
const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// Whether the kernel backs memory with huge pages, and which.
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// A thing that has a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setting {
    /// Numbers of channels of an interface.
    Channels(Interface),
    /// Sizes of rings of an interface.
    Rings(Interface),
    /// A feature of an interface.
    Feature {
        /// The interface.
        of: Interface,
        /// The kernel's name of the feature.
        name: String,
    },
    /// The cores that take an interrupt.
    Affinity {
        /// Its number.
        interrupt: u32,
        /// What it is for: the number may be another card's by now.
        action: String,
    },
    /// The interrupts that irqbalance leaves alone.
    Bans,
    /// Transparent huge pages.
    HugePages,
    /// Reserved ports.
    Ports,
    /// The frequency governor of a core.
    Governor {
        /// The core.
        core: u32,
    },
    /// The driver of the card with this address.
    Driver(String),
    /// Huge pages that are set aside.
    Pages(Pages),
}

/// An interface that cannot be mistaken for another that got the same name later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
}

/// What a setting has, or should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    /// Of channels.
    Channels(Counts),
    /// Of rings.
    Rings(RingSizes),
    /// On or off.
    Switch(bool),
    /// One word.
    Word(String),
    /// A set to which others may add as well: written `0-3,8`. Undoing takes away what was added, no more.
    Set(String),
    /// A number that others may raise as well. Undoing takes away what was added, no more.
    Count(u64),
    /// Of a card.
    Driver(Box<Binding>),
}

impl Setting {
    /// What it has now; `None`: it is not there, or not the same thing any more.
    pub fn get(&self, host: &dyn Host) -> io::Result<Option<Value>> {
        let same = |interface: &Interface| host.index(&interface.name) == Some(interface.index);
        Ok(match self {
            Self::Channels(of) | Self::Rings(of) | Self::Feature { of, .. } if !same(of) => None,
            Self::Channels(of) => host
                .channels(&of.name)?
                .map(|channels| Value::Channels(channels.now)),
            Self::Rings(of) => host.rings(&of.name)?.map(|rings| Value::Rings(rings.now)),
            Self::Feature { of, name } => {
                let features = host.features(&of.name)?;
                let feature = features.iter().find(|feature| feature.name == *name);
                feature.map(|feature| Value::Switch(feature.wanted))
            }
            Self::Affinity { interrupt, action } => {
                if host::action(host, *interrupt).as_ref() != Some(action) {
                    return Ok(None);
                }
                let list = host.read(&affinity_file(*interrupt))?;
                Some(Value::Word(core_list(&numbers(&list))))
            }
            Self::Bans => irqbalance::bans(host)?.map(|bans| Value::Set(core_list(&bans))),
            Self::HugePages => {
                let text = present(host.read(HUGE_PAGES))?;
                text.as_deref().and_then(chosen).map(Value::Word)
            }
            Self::Ports => {
                let list = host.read(RESERVED_PORTS)?;
                Some(Value::Set(core_list(&numbers(&list))))
            }
            Self::Governor { core } => {
                let text = present(host.read(&governor_file(*core)))?;
                text.map(|text| Value::Word(text.trim().to_owned()))
            }
            Self::Driver(card) => Address::parse(card)
                .and_then(|card| Binding::get(host, &card))
                .map(|binding| Value::Driver(Box::new(binding))),
            Self::Pages(pages) => {
                let text = present(host.read(&pages.file()))?;
                let count = text.and_then(|text| text.trim().parse().ok());
                count.map(Value::Count)
            }
        })
    }

    /// Gives it a value.
    pub fn set(&self, host: &dyn Host, value: &Value) -> io::Result<()> {
        match (self, value) {
            (Self::Channels(of), Value::Channels(counts)) => host.set_channels(&of.name, *counts),
            (Self::Rings(of), Value::Rings(sizes)) => host.set_rings(&of.name, *sizes),
            (Self::Feature { of, name }, Value::Switch(on)) => {
                host.set_feature(&of.name, name, *on)
            }
            (Self::Affinity { interrupt, .. }, Value::Word(cores)) => {
                host.write(&affinity_file(*interrupt), cores)
            }
            (Self::Bans, Value::Set(list)) => irqbalance::ban(host, &numbers(list)),
            (Self::HugePages, Value::Word(choice)) => host.write(HUGE_PAGES, choice),
            // An empty write changes nothing, an empty line empties the list.
            (Self::Ports, Value::Set(list)) => host.write(RESERVED_PORTS, &format!("{list}\n")),
            (Self::Governor { core }, Value::Word(governor)) => {
                host.write(&governor_file(*core), governor)
            }
            (Self::Driver(card), Value::Driver(binding)) => match Address::parse(card) {
                Some(card) => binding.set(host, &card),
                None => Err(io::ErrorKind::InvalidInput.into()),
            },
            (Self::Pages(pages), Value::Count(count)) => {
                host.write(&pages.file(), &count.to_string())
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the record names a value of another kind",
            )),
        }
    }

    /// The stage that changes it.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Channels(_) => Stage::Channels,
            Self::Rings(_) => Stage::Rings,
            Self::Feature { .. } => Stage::Offloads,
            Self::Affinity { .. } => Stage::Irqs,
            Self::Bans => Stage::Irqbalance,
            Self::HugePages => Stage::Hugepages,
            Self::Ports => Stage::Ports,
            Self::Governor { .. } => Stage::Governor,
            Self::Driver(_) => Stage::Cards,
            Self::Pages(_) => Stage::Memory,
        }
    }

    /// Whether a change stops the interface for a moment, or takes queues, ports or the card from under workers.
    pub fn disturbs(&self) -> bool {
        matches!(
            self,
            Self::Channels(_)
                | Self::Rings(_)
                | Self::Feature { .. }
                | Self::Ports
                | Self::Driver(_)
        )
    }

    /// Whether each network namespace has its own. A card is the machine's, and its interface is in one.
    pub fn is_of_a_namespace(&self) -> bool {
        self.disturbs()
    }

    /// What a change needs.
    pub fn privilege(&self) -> Privilege {
        let is_a_file = matches!(self, Self::Driver(_));
        if self.is_of_a_namespace() && !is_a_file {
            Privilege::Network
        } else {
            Privilege::Files
        }
    }

    /// What to do when a change came to less than was asked for; `None`: drivers round, and that is fine.
    pub fn shortfall(&self, wanted: &Value, got: &Value) -> Option<String> {
        match (self, wanted, got) {
            (Self::Pages(_), Value::Count(wanted), Value::Count(got)) if got < wanted => {
                Some(format!(
                    "{self}: the kernel gave {got} of {wanted}: no more memory is free in pieces that large; end what uses it, or \
                     echo 3 > /proc/sys/vm/drop_caches, then init again; surest is hugepages={wanted} on the kernel's command line"
                ))
            }
            _ => None,
        }
    }

    /// What an error of [`set`](Self::set) or [`get`](Self::get) means.
    pub fn explain(&self, host: &dyn Host, error: &io::Error) -> String {
        let errno = error.raw_os_error().map(Errno::from_raw);
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let why = match (self, errno) {
            _ if denied => self.privilege().explain(host),
            (_, Some(Errno::EROFS)) => {
                "it is read-only here, as in a container: do it on the host".into()
            }
            (Self::Channels(of), Some(Errno::EINVAL)) => format!(
                "{error}: an RSS table that somebody set may name queues that would go (ethtool -X {} default)",
                of.name
            ),
            (Self::Channels(_) | Self::Rings(_) | Self::Feature { .. }, Some(Errno::EBUSY)) => {
                format!("{error}: something uses its queues, such as another XDP program")
            }
            (Self::Affinity { .. }, Some(Errno::EIO)) => {
                format!("{error}: the kernel places this interrupt itself and lets nobody move it")
            }
            _ => error.to_string(),
        };
        format!("{self}: {why}")
    }
}

/// A file that need not be there.
fn present(text: io::Result<String>) -> io::Result<Option<String>> {
    match text {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

fn affinity_file(interrupt: u32) -> String {
    format!("/proc/irq/{interrupt}/smp_affinity_list")
}

fn governor_file(core: u32) -> String {
    format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor")
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Channels(of) => write!(f, "{}: channels", of.name),
            Self::Rings(of) => write!(f, "{}: rings", of.name),
            Self::Feature { of, name } => write!(f, "{}: {name}", of.name),
            Self::Affinity { interrupt, action } => {
                write!(f, "cores of interrupt {interrupt} ({action})")
            }
            Self::Bans => f.write_str("interrupts that irqbalance leaves alone"),
            Self::HugePages => f.write_str("transparent huge pages"),
            Self::Ports => f.write_str("reserved ports"),
            Self::Governor { core } => write!(f, "governor of core {core}"),
            Self::Driver(card) => write!(f, "{card}: driver"),
            Self::Pages(pages) => {
                write!(f, "{}: huge pages of {} KB", pages.place(), pages.size_kb)
            }
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Channels(counts) => write!(
                f,
                "rx {} tx {} combined {}",
                counts.rx, counts.tx, counts.combined
            ),
            Self::Rings(sizes) => write!(f, "rx {} tx {}", sizes.rx, sizes.tx),
            Self::Switch(true) => f.write_str("on"),
            Self::Switch(false) => f.write_str("off"),
            Self::Set(text) if text.is_empty() => f.write_str("none"),
            Self::Word(text) | Self::Set(text) => f.write_str(text),
            Self::Count(count) => write!(f, "{count}"),
            Self::Driver(binding) => write!(f, "{binding}"),
        }
    }
}

/// A setting that gets another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The setting.
    pub setting: Setting,
    /// What it had.
    pub before: Value,
    /// What it gets.
    pub after: Value,
    /// The network namespace it is in; 0: it is the whole machine's.
    #[serde(default)]
    pub namespace: u64,
}

/// How undoing went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It has again what it had.
    Restored,
    /// It had it already.
    WasBack,
    /// Somebody changed it meanwhile, to this: left alone.
    Theirs(Value),
    /// It is no longer there.
    Gone,
    /// It is in another network namespace than this process.
    Elsewhere,
}

impl Change {
    /// A change that was not made yet.
    pub fn new(setting: Setting, before: Value, after: Value) -> Self {
        let namespace = if setting.is_of_a_namespace() {
            network_namespace()
        } else {
            0
        };
        Self {
            setting,
            before,
            after,
            namespace,
        }
    }

    /// Makes it, and returns what the setting has then: a driver may round.
    pub fn apply(&self, host: &dyn Host) -> io::Result<Value> {
        self.setting.set(host, &self.after)?;
        let now = self.setting.get(host)?;
        Ok(now.unwrap_or_else(|| self.after.clone()))
    }

    /// Undoes it, unless somebody else changed the setting since.
    pub fn undo(&self, host: &dyn Host) -> io::Result<Undone> {
        if self.namespace != 0 && self.namespace != network_namespace() {
            return Ok(Undone::Elsewhere);
        }
        let Some(now) = self.setting.get(host)? else {
            return Ok(Undone::Gone);
        };
        let target = match (&now, &self.before, &self.after) {
            (Value::Set(now), Value::Set(before), Value::Set(after)) => {
                let before = numbers(before);
                let mut added = numbers(after);
                added.retain(|number| before.binary_search(number).is_err());
                let mut left = numbers(now);
                left.retain(|number| added.binary_search(number).is_err());
                Value::Set(core_list(&left))
            }
            (Value::Driver(now), Value::Driver(before), Value::Driver(after)) => {
                match Binding::way_back(now, before, after) {
                    Some(back) => Value::Driver(Box::new(back)),
                    None => return Ok(Undone::Theirs(Value::Driver(now.clone()))),
                }
            }
            (Value::Count(now), Value::Count(before), Value::Count(after)) if now > after => {
                Value::Count(now - after.saturating_sub(*before))
            }
            _ if now == self.after || now == self.before => self.before.clone(),
            _ => return Ok(Undone::Theirs(now)),
        };
        if now == target {
            return Ok(Undone::WasBack);
        }
        self.setting.set(host, &target)?;
        Ok(Undone::Restored)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} → {}", self.setting, self.before, self.after)
    }
}
