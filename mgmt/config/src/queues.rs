//! Which core serves which queue.

use crate::address::decimal;
use crate::limits::{CORE_MAX, INTERFACE_NAME_BYTES_MAX, QUEUES_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Queue → core of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Queues {
    /// Every queue of the NIC, spread over the cores of its NUMA node. Who knows the NIC resolves it.
    #[default]
    Auto,
    /// As written: queues 0, 1, 2 … without a gap, each with its core.
    Map(BTreeMap<u32, u32>),
}

impl Queues {
    /// The map, unless the queues are still to be resolved.
    pub fn map(&self) -> Option<&BTreeMap<u32, u32>> {
        match self {
            Queues::Auto => None,
            Queues::Map(map) => Some(map),
        }
    }
}

impl fmt::Display for Queues {
    /// As it stands in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(map) = self.map() else {
            return f.write_str("\"auto\"");
        };
        let pairs: Vec<String> = map
            .iter()
            .map(|(queue, core)| format!("{queue} = {core}"))
            .collect();
        write!(f, "{{ {} }}", pairs.join(", "))
    }
}

/// Why a queue → core map cannot be used; the text says what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Not the shape of a `--map`.
    #[error("{0:?} is not INTERFACE:QUEUE=CORE,QUEUE=CORE, for example eth1:0=2,1=3")]
    Shape(String),
    /// No such port in the file.
    #[error("no [[port]] has the interface {0:?}; the file has {1}")]
    UnknownInterface(String, String),
    /// The same interface twice on the command line.
    #[error("interface {0:?} is mapped twice")]
    MappedTwice(String),
    /// Nothing in the map.
    #[error("no queue; name at least queue 0, for example 0 = 2")]
    Empty,
    /// Not a queue number.
    #[error("queue {0:?} is not a number below {QUEUES_MAX}")]
    Queue(String),
    /// Not a core number.
    #[error("core {0:?} is not a number from 0 to {CORE_MAX}")]
    Core(String),
    /// The same queue twice.
    #[error("queue {0} is named twice")]
    QueueTwice(u32),
    /// A queue without a core below one that has it.
    #[error(
        "queue {0} has no core; the NIC spreads over queues 0, 1, 2 … and frames of a queue without a worker are lost"
    )]
    Gap(u32),
    /// A port with other queues than the first one.
    #[error(
        "worker {queue} owns queue {queue} of every port, but {second} lacks a queue that {first} has, or the reverse"
    )]
    OtherQueues {
        /// The first queue that only one of them has.
        queue: u32,
        /// The first port with a map.
        first: String,
        /// The port that differs from it.
        second: String,
    },
    /// One worker on two cores.
    #[error(
        "queue {queue} is on core {core}, but on core {first_core} for {first}; one worker owns queue {queue} of every port"
    )]
    OtherCore {
        /// The queue.
        queue: u32,
        /// Its core here.
        core: u32,
        /// The first port with a map.
        first: String,
        /// Its core there.
        first_core: u32,
    },
}

/// Checks one map by itself: every fault of it.
pub(crate) fn check(map: &BTreeMap<u32, u32>) -> Vec<QueueError> {
    if map.is_empty() {
        return vec![QueueError::Empty];
    }
    let mut errors = Vec::new();
    for (expected, &queue) in (0..).zip(map.keys()) {
        if queue != expected {
            errors.push(QueueError::Gap(expected));
            break;
        }
    }
    errors
}

/// Checks the map of a second port against that of a first one: every fault of it.
pub(crate) fn compare(
    (first, first_map): (&str, &BTreeMap<u32, u32>),
    (second, second_map): (&str, &BTreeMap<u32, u32>),
) -> Vec<QueueError> {
    let mut errors: Vec<QueueError> = second_map
        .iter()
        .filter_map(|(&queue, &core)| {
            let &first_core = first_map.get(&queue)?;
            (core != first_core).then(|| QueueError::OtherCore {
                queue,
                core,
                first: first.to_owned(),
                first_core,
            })
        })
        .collect();
    let only_one =
        |queue: &&u32| !(first_map.contains_key(queue) && second_map.contains_key(queue));
    let different = first_map.keys().chain(second_map.keys()).filter(only_one);
    if let Some(&queue) = different.min() {
        errors.push(QueueError::OtherQueues {
            queue,
            first: first.to_owned(),
            second: second.to_owned(),
        });
    }
    errors
}

/// Adds a pair of texts to a map.
pub(crate) fn insert(
    map: &mut BTreeMap<u32, u32>,
    queue: &str,
    core: &str,
) -> Result<(), QueueError> {
    let number = |text: &str, max: u32| {
        decimal(text)
            .and_then(|number| u32::try_from(number).ok())
            .filter(|&number| number <= max)
    };
    let queue = number(queue, QUEUES_MAX - 1).ok_or_else(|| QueueError::Queue(queue.to_owned()))?;
    let core = number(core, CORE_MAX).ok_or_else(|| QueueError::Core(core.to_owned()))?;
    match map.insert(queue, core) {
        None => Ok(()),
        Some(_) => Err(QueueError::QueueTwice(queue)),
    }
}

/// A queue → core map of the command line: `eth1:0=2,1=3`. It replaces the `queues` of that port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMap {
    /// The port it is for.
    pub interface: String,
    /// Queue → core.
    pub queues: BTreeMap<u32, u32>,
}

impl FromStr for QueueMap {
    type Err = QueueError;

    fn from_str(text: &str) -> Result<Self, QueueError> {
        let shape = || QueueError::Shape(text.to_owned());
        // An interface may have a colon in its name, a queue or a core may not.
        let (interface, pairs) = text.rsplit_once(':').ok_or_else(shape)?;
        if !is_interface_name(interface) {
            return Err(shape());
        }
        let mut queues = BTreeMap::new();
        for pair in pairs.split(',') {
            let (queue, core) = pair.split_once('=').ok_or_else(shape)?;
            insert(&mut queues, queue.trim(), core.trim())?;
        }
        match check(&queues).into_iter().next() {
            Some(error) => Err(error),
            None => Ok(Self {
                interface: interface.to_owned(),
                queues,
            }),
        }
    }
}

/// Whether the kernel would take this as the name of an interface.
pub fn is_interface_name(name: &str) -> bool {
    let letters = name
        .chars()
        .all(|c| !c.is_whitespace() && !c.is_control() && c != '/');
    letters && !["", ".", ".."].contains(&name) && name.len() <= INTERFACE_NAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::{QueueError, QueueMap, Queues};
    use std::collections::BTreeMap;

    #[test]
    fn a_map_of_the_command_line() {
        let map: QueueMap = "eth1:0=2, 1=3".parse().expect("a map");
        assert_eq!(map.interface, "eth1");
        assert_eq!(map.queues, BTreeMap::from([(0, 2), (1, 3)]));
        assert_eq!(
            "eth1:5:0=7".parse::<QueueMap>().map(|map| map.interface),
            Ok("eth1:5".to_owned())
        );
    }

    #[test]
    fn each_mistake_in_a_map_has_its_own_error() {
        let shape = |text: &str| QueueError::Shape(text.to_owned());
        let cases = [
            ("eth1", shape("eth1")),
            (":0=1", shape(":0=1")),
            ("eth1:", shape("eth1:")),
            ("eth1:0", shape("eth1:0")),
            ("a-name-of-16-byt:0=1", shape("a-name-of-16-byt:0=1")),
            ("eth1:x=1", QueueError::Queue("x".into())),
            ("eth1:256=1", QueueError::Queue("256".into())),
            ("eth1:0=-1", QueueError::Core("-1".into())),
            ("eth1:0=1024", QueueError::Core("1024".into())),
            ("eth1:0=1,0=2", QueueError::QueueTwice(0)),
            ("eth1:0=1,2=2", QueueError::Gap(1)),
            ("eth1:1=1", QueueError::Gap(0)),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<QueueMap>(), Err(error), "{text}");
        }
    }

    #[test]
    fn queues_travel_as_json() {
        for queues in [Queues::Auto, Queues::Map(BTreeMap::from([(0, 2), (1, 3)]))] {
            let json = serde_json::to_string(&queues).expect("JSON");
            assert_eq!(
                serde_json::from_str::<Queues>(&json).expect("queues"),
                queues
            );
        }
    }
}
