//! twemproxy's configuration in, Tidegate's out: the same pools, every key with the same server.
//!
//! [`import`] is a function from the bytes of a `nutcracker.yml` to the text of a configuration. It takes what twemproxy takes and
//! nothing else, with twemproxy's defaults written out where Tidegate's differ, and it checks what it made with
//! [`Config`] itself. What cannot be carried over is a warning; what twemproxy or Tidegate would refuse is
//! a fault, and then there is no text. Every warning and every fault has its place in the file that was read, and none holds a
//! password.
//!
//! **Keys stay** because nothing that decides about them is left to a default: hash, distribution, hash tag and weights are
//! written, and so is the name of every server, by twemproxy's rules. Pools that Tidegate cannot call what twemproxy called them
//! get another name, which decides nothing.
//!
//! The crate reads no file. Names of hosts are looked up only where the caller brings somebody who can.
#![forbid(unsafe_code)]

mod hosts;
pub mod limits;
mod listen;
mod names;
mod notes;
mod options;
mod pool;
mod server;
mod write;
mod yaml;

pub use hosts::Resolve;

use hosts::Hosts;
use limits::FILE_BYTES_MAX;
use notes::{Notes, START};
use tidegate_config::{Compat, Config, ConfigErrors, Fault, Place};

/// What moves the bytes of the configuration that is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// Sockets of the kernel.
    Kernel {
        /// Worker processes.
        workers: u32,
    },
    /// AF_XDP.
    Afxdp {
        /// The interface, with all its queues.
        interface: String,
    },
}

impl Port {
    /// Whether listening sockets have a `backlog`.
    fn has_backlog(&self) -> bool {
        matches!(self, Port::Kernel { .. })
    }
}

/// What the file of twemproxy does not say.
pub struct Options<'r> {
    /// What moves the bytes.
    pub port: Port,
    /// Whose habits the pools keep.
    pub compat: Compat,
    /// Who looks up names of hosts. Without it they are faults.
    pub resolve: Option<Resolve<'r>>,
}

/// A configuration, and what it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The configuration. It holds the passwords of the file it was made from.
    pub toml: String,
    /// What was not carried over as it stood, in the order of the file it was made from.
    pub warnings: Vec<Fault>,
}

/// Makes a configuration of Tidegate from one of twemproxy. `file` is only named in the errors.
///
/// # Errors
/// Every fault of the file, each with its place and what would be right.
pub fn import(
    bytes: &[u8],
    file: &str,
    mut options: Options<'_>,
) -> Result<Imported, ConfigErrors> {
    let mut notes = Notes::default();
    let mut hosts = Hosts::new(options.resolve.take());
    let pools = match text(bytes, &mut notes) {
        Some(text) => yaml::read(text, &mut notes),
        None => Vec::new(),
    };
    let names = names::choose(&pools, &mut notes);
    let has_backlog = options.port.has_backlog();
    let pools: Vec<pool::Pool> = pools
        .into_iter()
        .zip(names)
        .filter_map(|(pool, name)| pool::read(pool, name, has_backlog, &mut hosts, &mut notes))
        .collect();
    let sheet = write::write(&pools, &options);
    // Without a pool all that the checks could find is that there is none.
    if !pools.is_empty()
        && let Err(errors) = Config::parse_made(&sheet.text, file, &sheet.origins)
    {
        notes.extend(errors);
    }
    if let Some(password) = pools.iter().find_map(|pool| pool.redis_auth.as_ref()) {
        notes.warn(
            password.at.unwrap_or(START),
            "redis_auth: the configuration that is made holds passwords; chmod 0600 the file it goes to",
        );
    }
    let warnings = notes.into_result(file)?;
    Ok(Imported {
        toml: sheet.text,
        warnings,
    })
}

/// The text of a file, if it is one.
fn text<'b>(bytes: &'b [u8], notes: &mut Notes) -> Option<&'b str> {
    if bytes.len() > FILE_BYTES_MAX {
        let what =
            format!("more than {FILE_BYTES_MAX} bytes: this is no configuration of twemproxy");
        notes.syntax(START, what);
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let last = before.rsplit('\n').next().unwrap_or_default();
            let at = Place {
                line: before.matches('\n').count() + 1,
                column: last.chars().count() + 1,
            };
            notes.syntax(at, "not UTF-8; save the file in this encoding");
            None
        }
    }
}
