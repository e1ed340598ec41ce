//! Where something listens: an address with a port, or a Unix socket.

use crate::address::{self, AddressError};
use crate::limits::{SOCKET_MODE_MAX, UNIX_PATH_BYTES_MAX};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where something listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix stream socket at an absolute path, which the kernel driver alone can reach.
    Unix(PathBuf),
}

impl Endpoint {
    /// The address, unless it is a Unix socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Ip(address) => Some(*address),
            Endpoint::Unix(_) => None,
        }
    }

    /// The path, if it is a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Endpoint::Ip(_) => None,
            Endpoint::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for Endpoint {
    /// As in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ip(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Endpoint::Ip(address)
    }
}

/// One listening address of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// Where.
    pub endpoint: Endpoint,
    /// Permissions of the file of a Unix socket; `None`: what the umask leaves.
    pub mode: Option<u32>,
}

impl Listen {
    /// Parses `ADDRESS:PORT` or `/PATH[ MODE]`, the mode in octal digits. `0.0.0.0` and `[::]`, which mean every address, pass.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        if !text.starts_with('/') {
            return Ok(address::parse_listen(text)?.into());
        }
        let (path, mode) = match text.split_once(' ') {
            None => (text, None),
            Some((path, digits)) => (path, Some(mode(digits.trim_start_matches(' '))?)),
        };
        Ok(Self {
            endpoint: Endpoint::Unix(unix_path(path)?),
            mode,
        })
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Self {
        Self {
            endpoint: address.into(),
            mode: None,
        }
    }
}

impl fmt::Display for Listen {
    /// As in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)?;
        match self.mode {
            Some(mode) => write!(f, " {mode:04o}"),
            None => Ok(()),
        }
    }
}

fn mode(digits: &str) -> Result<u32, AddressError> {
    let octal = digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|&mode| octal && mode <= SOCKET_MODE_MAX)
        .ok_or_else(|| AddressError::Mode(digits.to_owned()))
}

/// The path of a Unix socket.
pub(crate) fn unix_path(text: &str) -> Result<PathBuf, AddressError> {
    if text.len() > UNIX_PATH_BYTES_MAX {
        return Err(AddressError::PathLong(text.len()));
    }
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if !text.starts_with('/') || text.ends_with('/') || text.contains(odd) {
        return Err(AddressError::Path(text.to_owned()));
    }
    Ok(PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Listen};
    use crate::address::AddressError;

    #[test]
    fn a_listening_path_may_have_a_mode() {
        for (text, shown, mode) in [
            ("/run/a.sock", "/run/a.sock", None),
            ("/run/a.sock 0660", "/run/a.sock 0660", Some(0o660)),
            ("/run/a.sock 777", "/run/a.sock 0777", Some(0o777)),
            ("/run/a:1", "/run/a:1", None),
        ] {
            let listen = Listen::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(listen.mode, mode);
            assert_eq!(listen.to_string(), shown);
            assert_eq!(Listen::parse(shown).as_ref(), Ok(&listen));
            assert!(listen.endpoint.ip().is_none() && listen.endpoint.path().is_some());
        }
        let every = Listen::parse("0.0.0.0:1").expect("every address");
        assert_eq!(every.endpoint, Endpoint::Ip(([0; 4], 1).into()));
    }

    #[test]
    fn each_mistake_has_its_own_error() {
        let long = format!("/{}", "a".repeat(107));
        for (text, error) in [
            ("/run/a.sock 0888", AddressError::Mode("0888".into())),
            ("/run/a.sock 1777", AddressError::Mode("1777".into())),
            ("/run/a.sock +7", AddressError::Mode("+7".into())),
            ("/run/a.sock ", AddressError::Mode(String::new())),
            ("/run/a b.sock", AddressError::Mode("b.sock".into())),
            ("/run/", AddressError::Path("/run/".into())),
            (&long, AddressError::PathLong(108)),
            ("./a.sock", AddressError::Relative),
            ("run/a.sock 0660", AddressError::Relative),
            ("@a", AddressError::Abstract),
        ] {
            assert_eq!(Listen::parse(text), Err(error), "{text}");
        }
    }
}
