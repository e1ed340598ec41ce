//! Faults: their words where several places say the same, and how they are printed, all of them, one per line.

use crate::out::complain;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// To standard error, numbered when there are several.
pub fn print(faults: &[String]) {
    for fault in faults {
        complain(&format!("error: {fault}"));
    }
    if faults.len() > 1 {
        complain(&format!("{} errors", faults.len()));
    }
}

/// Adds those that are not among them yet: several who look at the same thing say the same.
pub fn add(faults: &mut Vec<String>, more: Vec<String>) {
    for fault in more {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
}

/// Why the address of this key cannot be listened on.
pub fn cannot_listen(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::AddrInUse => format!(
            ": another process listens there (ss -ltnp 'sport = :{}' says which); choose another port",
            address.port()
        ),
        ErrorKind::AddrNotAvailable => ": this machine does not have the address".into(),
        ErrorKind::PermissionDenied => {
            ": ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one".into()
        }
        _ => String::new(),
    };
    format!("{key} = \"{address}\": {error}{hint}")
}
