//! `tidegate capture`: copies of a pool's frames, from the ports of the workers into a file.
//!
//! The manager makes a ring for each worker, gives one end to the worker and the other to the command, and steps aside: the command writes
//! the file. What it is given besides is one end of a socket on which nothing is ever said. When the command ends, in whatever way, the
//! manager finds it closed and ends the capture.

pub mod command;
mod output;
mod pcapng;
mod tcpdump;
mod write;

use crate::control::Answer;
use crate::supervisor::Slot;
use crate::worker_process::Stage;
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use tidegate_channel::capture::CaptureOrder;
use tidegate_channel::message::ToWorker;
use tidegate_channel::payload;
use tidegate_config::{Config, PoolConfig};
use tidegate_port::capture;

/// Longest capture. Why: nobody forgets one for longer than a day. The command ends it before.
pub const SECONDS_MAX: u64 = 86_400;
/// Most frames a second of one worker. Why: more than a core can copy.
pub const RATE_MAX: u64 = 10_000_000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Name of the pool.
    pub pool: String,
    /// Most bytes of a frame; `None`: its headers.
    pub snaplen: Option<u32>,
    /// Most frames of each worker in a second.
    pub rate: u64,
    /// How long at most.
    pub seconds: u64,
}

/// What comes with the descriptors: first the socket, then the ring of each worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Name of the instance.
    pub instance: String,
    /// Interfaces, in the order of the configuration.
    pub interfaces: Vec<String>,
    /// Workers, of which number n owns queue n of every interface.
    pub workers: u32,
}

/// A capture under way.
struct Running {
    order: CaptureOrder,
    life: UnixStream,
    rings: Vec<OwnedFd>,
}

/// The capture of the instance, if there is one.
#[derive(Default)]
pub struct Capture {
    ids: u64,
    running: Option<Running>,
}

impl Capture {
    /// Begins a capture, or says why there is none.
    pub fn begin(
        &mut self,
        ask: &Ask,
        config: &Config,
        slots: &mut [Slot],
    ) -> (Answer, Vec<OwnedFd>) {
        // The one before may be over, and not have been looked at since.
        self.look(slots);
        let begun = check(ask, config).and_then(|pool| {
            if self.is_running() {
                return Err(vec![
                    "a capture is under way: there is one at a time".into(),
                ]);
            }
            self.start(ask, pool, config, slots)
                .map_err(|error| vec![format!("{error:#}")])
        });
        match begun {
            Ok((begun, descriptors)) => (Answer::of(&begun), descriptors),
            Err(faults) => (Answer::Error { faults }, Vec::new()),
        }
    }

    fn start(
        &mut self,
        ask: &Ask,
        pool: &PoolConfig,
        config: &Config,
        slots: &mut [Slot],
    ) -> anyhow::Result<(Begun, Vec<OwnedFd>)> {
        let (life, theirs) = UnixStream::pair()?;
        life.set_nonblocking(true)?;
        let rings: Vec<OwnedFd> = slots
            .iter()
            .map(|_| capture::create())
            .collect::<Result<_, _>>()?;
        let mut descriptors = vec![OwnedFd::from(theirs)];
        for ring in &rings {
            descriptors.push(ring.try_clone()?);
        }
        self.ids += 1;
        let running = Running {
            order: CaptureOrder {
                id: self.ids,
                addresses: addresses(pool),
                snaplen: ask.snaplen,
                rate: ask.rate,
                lasts_ms: ask.seconds * 1_000,
            },
            life,
            rings,
        };
        for slot in slots.iter_mut() {
            running.send_to(slot);
        }
        tracing::info!("capture {} of pool {} begins", self.ids, ask.pool);
        self.running = Some(running);
        let begun = Begun {
            instance: config.name.clone(),
            interfaces: config.ports.iter().map(|p| p.interface.clone()).collect(),
            workers: slots.len() as u32,
        };
        Ok((begun, descriptors))
    }

    /// A worker began to forward: it takes part.
    pub fn join(&self, slot: &mut Slot) {
        if let Some(running) = &self.running {
            running.send_to(slot);
        }
    }

    /// Ends the capture whose command is gone.
    pub fn look(&mut self, slots: &mut [Slot]) {
        let Some(running) = &mut self.running else {
            return;
        };
        let said = running.life.read(&mut [0]);
        if said.is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            return;
        }
        let id = running.order.id;
        self.running = None;
        tracing::info!("capture {id} ends");
        for slot in slots {
            if let Some(process) = &mut slot.process
                && process.stage != Stage::Starting
            {
                process.send(ToWorker::EndCapture { id }, &[]);
            }
        }
    }

    fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

impl Running {
    fn send_to(&self, slot: &mut Slot) {
        let Some(process) = &mut slot.process else {
            return;
        };
        if process.stage != Stage::Running {
            return;
        }
        match payload::write(&self.order) {
            Ok(order) => {
                let ring = &self.rings[slot.worker];
                process.send(ToWorker::Capture, &[order.as_fd(), ring.as_fd()]);
            }
            Err(error) => tracing::error!("capture {}: {error}", self.order.id),
        }
    }
}

/// The pool, or all that is wrong.
fn check<'a>(ask: &Ask, config: &'a Config) -> Result<&'a PoolConfig, Vec<String>> {
    let mut faults = Vec::new();
    for (what, number, max) in [
        ("seconds", ask.seconds, SECONDS_MAX),
        ("rate", ask.rate, RATE_MAX),
    ] {
        if !(1..=max).contains(&number) {
            faults.push(format!("{what} = {number} must be between 1 and {max}"));
        }
    }
    let pool = config.pools.iter().find(|pool| pool.name == ask.pool);
    if pool.is_none() {
        let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
        let names = names.join(", ");
        faults.push(format!("there is no pool {:?}, only {names}", ask.pool));
    }
    if let (Some(pool), true) = (pool, config.kernel_port().is_some()) {
        faults.push(tcpdump::hint(pool));
    }
    match pool {
        Some(pool) if faults.is_empty() => Ok(pool),
        _ => Err(faults),
    }
}

/// Where the pool listens, and where its servers are.
fn addresses(pool: &PoolConfig) -> Vec<SocketAddr> {
    let listen = pool.listen.iter().filter_map(|listen| listen.endpoint.ip());
    let servers = pool.servers.iter().filter_map(|server| server.address.ip());
    listen.chain(servers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(port: &str) -> Config {
        let text = format!(
            "[[port]]\n{port}\n[[pool]]\nname = \"a\"\nprotocol = \"redis\"\nlisten = \"192.0.2.1:1\"\n\
             servers = [\"192.0.2.2:1\", \"[2001:db8::1]:7\"]\n"
        );
        Config::parse(&text, "test").unwrap()
    }

    fn ask(pool: &str) -> Ask {
        Ask {
            pool: pool.into(),
            snaplen: None,
            rate: 1_000,
            seconds: 10,
        }
    }

    #[test]
    fn a_capture_sees_the_pools_listeners_and_servers() {
        let config = config("interface = \"eth1\"");
        let pool = check(&ask("a"), &config).unwrap();
        let addresses: Vec<String> = addresses(pool).iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:7"]);
    }

    #[test]
    fn what_is_wrong_is_said_at_once() {
        let wrong = Ask {
            rate: 0,
            seconds: SECONDS_MAX + 1,
            ..ask("b")
        };
        let faults = check(&wrong, &config("interface = \"eth1\"")).unwrap_err();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert_eq!(faults[2], "there is no pool \"b\", only a");
    }

    #[test]
    fn over_kernel_sockets_it_says_what_to_use_instead() {
        let faults = check(&ask("a"), &config("driver = \"kernel\"")).unwrap_err();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("tcpdump"), "{faults:?}");
        assert!(
            faults[0].contains("host 192.0.2.1 and tcp port 1"),
            "{faults:?}"
        );
    }

    #[test]
    fn a_capture_ends_when_its_command_is_gone() {
        let config = config("interface = \"eth1\"");
        let mut capture = Capture::default();
        let (answer, descriptors) = capture.begin(&ask("a"), &config, &mut []);
        assert!(matches!(answer, Answer::Ok(_)), "{answer:?}");
        capture.look(&mut []);
        let (second, none) = capture.begin(&ask("a"), &config, &mut []);
        assert!(matches!(second, Answer::Error { .. }) && none.is_empty());
        drop(descriptors);
        let (third, _) = capture.begin(&ask("a"), &config, &mut []);
        assert!(matches!(third, Answer::Ok(_)), "{third:?}");
    }
}
