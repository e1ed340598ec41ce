//! Tidegate inside the machine.

use crate::appliance::Status;
use crate::lab::addresses::Family;
use crate::lab::servers::{Server, ServerKind};
use crate::vm::Ground;
use crate::vm::machine::Machine;
use crate::vm::network::{Leg, prefix, servers};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How long Tidegate may take to do what it was asked. It turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// An instance, by its name, which is that of its pools too.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name.
    pub name: &'static str,
    /// Its only port's network.
    pub leg: Leg,
    /// Its workers, one for each queue.
    pub workers: usize,
}

impl Instance {
    /// Writes the configuration: a port with these lines, and a pool of each protocol.
    pub fn configure(
        &self,
        machine: &mut Machine,
        port_lines: &str,
        servers: &[Server],
    ) -> Result<()> {
        let mut text = format!(
            "name = \"{}\"\n[worker]\nclients_max = 1024\nserver_connections_max = 64\n[[port]]\n{port_lines}\n",
            self.name
        );
        for (protocol, kind, family) in [
            ("memcached", ServerKind::Memcached, Family::V4),
            ("redis", ServerKind::Redis, Family::V6),
        ] {
            let listen = Family::BOTH.map(|family| self.leg.pool(kind, family));
            let of_kind = servers.iter().filter(|server| server.kind == kind);
            let servers: Vec<String> = of_kind
                .map(|server| format!("\"{} {protocol}-{}\"", server.address(family), server.index))
                .collect();
            let _ = write!(
                text,
                "[[pool]]\nname = \"{protocol}\"\nprotocol = \"{protocol}\"\nhash = \"murmur\"\n\
                 listen = [\"{}\", \"{}\"]\nservers = [{}]\n",
                listen[0],
                listen[1],
                servers.join(", ")
            );
        }
        machine.write(&self.file(), &text)
    }

    /// Starts it, and waits until every worker serves. It does not remain when that fails.
    pub fn start(&self, machine: &mut Machine) -> Result<Status> {
        let (name, file) = (self.name, self.file());
        machine.run(&format!(
            "tidegate run -c {file} </dev/null >/run/{name}.log 2>&1 &\necho $! >/run/{name}.pid\n"
        ))?;
        let serving = self.wait_for(machine, "serving", |status| {
            let workers = status.workers();
            let running = workers.len() == self.workers
                && workers.iter().all(|worker| worker.state == "running");
            running && status.unreachable().is_empty()
        });
        if serving.is_err() {
            let _it_has_failed_already = self.stop(machine);
        }
        serving
    }

    /// Starts it, lets `work` do something with it, and ends it.
    pub fn while_it_runs<T>(
        &self,
        ground: &mut Ground,
        work: impl FnOnce(&mut Ground, Status) -> Result<T>,
    ) -> Result<T> {
        let status = self.start(&mut ground.machine)?;
        let outcome = work(ground, status);
        let stopped = self.stop(&mut ground.machine);
        outcome.and_then(|value| stopped.map(|()| value))
    }

    /// Starts it with the expectation that it refuses to, for this reason; the line that says so.
    pub fn is_refused(&self, machine: &mut Machine, reason: &str) -> Result<String> {
        let (status, printed) =
            machine.ask(&format!("timeout 20 tidegate run -c {}", self.file()))?;
        let line = printed.lines().find(|line| line.contains(reason));
        match line {
            Some(line) if status != 0 => Ok(line.trim().to_owned()),
            _ => bail!("it ended with status {status}, not because \"{reason}\":\n{printed}"),
        }
    }

    /// Runs another `tidegate` with its configuration: `doctor`, `configure`.
    pub fn ask(&self, machine: &mut Machine, arguments: &str) -> Result<(i32, String)> {
        machine.ask(&format!("tidegate {arguments} -c {}", self.file()))
    }

    /// What `tidegate status --json` says.
    pub fn status(&self, machine: &mut Machine) -> Result<Status> {
        let printed = machine.run(&format!("tidegate status --name {} --json", self.name))?;
        serde_json::from_str(&printed)
            .map(Status)
            .context("tidegate status --json printed something else")
    }

    /// What `tidegate stats --json` says.
    pub fn stats(&self, machine: &mut Machine) -> Result<serde_json::Value> {
        let printed = machine.run(&format!("tidegate stats --name {} --json", self.name))?;
        serde_json::from_str(&printed).context("tidegate stats --json printed something else")
    }

    /// Waits until `condition` holds for the status, and returns that status.
    pub fn wait_for(
        &self,
        machine: &mut Machine,
        what: &str,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let started = Instant::now();
        loop {
            let status = self.status(machine);
            if let Ok(status) = &status
                && condition(status)
            {
                return Ok(Status(status.0.clone()));
            }
            let (_, lives) = machine.ask(&format!("kill -0 $(cat /run/{}.pid)", self.name))?;
            if !lives.is_empty() || started.elapsed() > PATIENCE {
                let status = status.map_or_else(
                    |error| format!("{error:#}"),
                    |Status(status)| format!("{status:#}"),
                );
                bail!(
                    "no {what} after {:?}; the last status:\n{status}\nit printed\n{}",
                    started.elapsed(),
                    self.log(machine)
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it in order.
    pub fn stop(&self, machine: &mut Machine) -> Result<()> {
        let name = self.name;
        machine.run(&format!("kill $(cat /run/{name}.pid)"))?;
        let started = Instant::now();
        while machine.ask(&format!("kill -0 $(cat /run/{name}.pid)"))?.0 == 0 {
            if started.elapsed() > PATIENCE {
                bail!("it does not end; it printed\n{}", self.log(machine));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// What it printed.
    pub fn log(&self, machine: &mut Machine) -> String {
        let printed = machine.ask(&format!("cat /run/{}.log", self.name));
        printed.map_or_else(|error| format!("{error:#}"), |(_, printed)| printed)
    }

    fn file(&self) -> String {
        format!("/run/{}.toml", self.name)
    }
}

/// Gives the kernel's interface of `leg` its addresses, and lets the machine reach the servers through it.
pub fn raise_interface(machine: &mut Machine, leg: &Leg) -> Result<()> {
    let device = leg.interface;
    let mut script = format!(
        "set -e\ngrep -qi {} /sys/class/net/{device}/address\n",
        leg.mac()
    );
    for family in Family::BOTH {
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        let _ = writeln!(
            script,
            "/bin/ip addr add {}/{} dev {device}{nodad}",
            leg.vip(family),
            prefix(family)
        );
    }
    let _ = writeln!(script, "/bin/ip link set {device} up");
    for family in Family::BOTH {
        let _ = writeln!(
            script,
            "/bin/ip route replace {} via {} dev {device}",
            servers(family),
            leg.gateway(family)
        );
    }
    machine.run(&script).map(drop)
}

/// Takes from the kernel's interface of `leg` what [`raise_interface`] gave it.
pub fn lower_interface(machine: &mut Machine, leg: &Leg) -> Result<()> {
    let device = leg.interface;
    machine
        .run(&format!(
            "/bin/ip link set {device} down && /bin/ip addr flush dev {device}"
        ))
        .map(drop)
}
