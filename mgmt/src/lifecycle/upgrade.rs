//! `tidegate upgrade`: the program on disk takes the place of the one that runs.
//!
//! The manager becomes the new program, in the same process, and adopts the workers as after any end of a manager. The command then has
//! them replaced one by one, so that at any time all but one serve. Connections of a worker that is replaced are closed in order.

use crate::control::Answer;
use crate::control::server::Ticket;
use crate::manager::Manager;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tidegate_channel::protocol::PROTOCOL;

/// How long the new program may take to say which one it is. The manager does nothing else meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most of its words that are read.
const WORDS_BYTES_MAX: u64 = 1_024;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// Also to a program that cannot take the workers over: it drains them all at once.
    #[serde(default)]
    pub force: bool,
}

/// What is about to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrading {
    /// What the program says that it is.
    pub version: String,
}

/// What `tidegate version` prints. The next version reads it.
pub fn own_version() -> String {
    format!(
        "tidegate {} (protocol {PROTOCOL:016x})",
        env!("CARGO_PKG_VERSION")
    )
}

/// Becomes the program on disk. Returns only if that cannot be.
pub fn begin(manager: &mut Manager, ticket: Ticket, request: UpgradeRequest) {
    let program = manager.parts.program.clone();
    let version = match may_begin(manager).and_then(|()| ask_version(&program)) {
        Ok(version) => version,
        Err(fault) => return refuse(manager, ticket, fault),
    };
    if !request.force && protocol(&version) != protocol(&own_version()) {
        let fault = format!(
            "{version} cannot take over workers of {}: it would drain them all at once; --force does that",
            own_version()
        );
        return refuse(manager, ticket, fault);
    }
    tracing::info!("{}: becoming {version}", program.display());
    manager.answer(ticket, &Upgrading { version });
    let mut words = std::env::args_os();
    let own_name = words.next().unwrap_or_else(|| OsString::from("tidegate"));
    let error = Command::new(&program).arg0(own_name).args(words).exec();
    tracing::error!("{} cannot be run: {error}", program.display());
}

/// What the manager knows without asking anybody.
fn may_begin(manager: &Manager) -> Result<(), String> {
    let fault = if manager.reload.is_some() || manager.replacement.is_some() {
        // The next manager would know nothing of it, and workers with different configurations are not taken over together.
        "another configuration is being taken up: try again when every worker has it"
    } else if manager.is_draining() || manager.slots.iter().any(|slot| slot.state() != "running") {
        "not every worker serves now"
    } else if !manager.parts.shared.config.worker.outlive_manager {
        "outlive_manager is false: the workers would end with this manager"
    } else {
        return Ok(());
    };
    Err(fault.into())
}

fn refuse(manager: &mut Manager, ticket: Ticket, fault: String) {
    manager.parts.control.answer(ticket, &Answer::fault(fault));
}

fn protocol(version: &str) -> Option<&str> {
    Some(version.split_once("(protocol ")?.1)
}

/// What the program says that it is: one that does not run must not be become.
fn ask_version(program: &Path) -> Result<String, String> {
    let shown = program.display();
    let mut child = Command::new(program)
        .arg("version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{shown} cannot be run: {error}"))?;
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) | Err(_) => {
                let _gone = child.kill().and_then(|()| child.wait());
                return Err(format!("{shown} version does not end"));
            }
        }
    };
    let mut words = String::new();
    let read = child
        .stdout
        .map(|out| out.take(WORDS_BYTES_MAX).read_to_string(&mut words));
    match read {
        Some(Ok(_)) if status.success() && words.starts_with("tidegate ") => {
            Ok(words.trim().to_owned())
        }
        _ => Err(format!("{shown} is no tidegate that runs ({status})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::request::Request;
    use crate::manager::fixture::Fixture;

    #[test]
    fn the_version_tells_the_protocol() {
        let own = own_version();
        assert!(
            protocol(&own).is_some_and(|protocol| protocol.len() == 17),
            "{own}"
        );
        assert_eq!(protocol("tidegate 0.0.1"), None);
    }

    #[test]
    fn nothing_is_asked_of_the_program_while_workers_take_up_a_configuration() {
        let mut fixture = Fixture::new("upgrade");
        fixture.manager.parts.program = "/no/such/program".into();
        let upgrade = Request::Upgrade(UpgradeRequest::default());
        let faults = fixture.ask(&upgrade).faults();
        assert_eq!(faults, "not every worker serves now");
        let _workers = fixture.serve();
        fixture.write(&Fixture::text("client_stall_ms = 9000\n"));
        let _client = fixture.ask(&Request::Reload { dry_run: false });
        let faults = fixture.ask(&upgrade).faults();
        assert!(faults.contains("is being taken up"), "{faults}");
        fixture.manager.reload = None;
        let faults = fixture.ask(&upgrade).faults();
        assert!(faults.contains("cannot be run"), "{faults}");
    }

    #[test]
    fn what_is_no_tidegate_is_not_become() {
        for (program, words) in [
            ("/no/such/program", "cannot be run"),
            ("/bin/false", "is no tidegate"),
            ("/bin/true", "is no tidegate"),
        ] {
            let fault = ask_version(Path::new(program)).unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
    }
}
