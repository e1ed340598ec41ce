//! The command's end of the status socket.

use super::report::Report;
use super::table;
use crate::runtime_dir::{instances, is_of_a_user, status_socket};
use anyhow::{Context, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the manager may take; it answers within a turn of its loop.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the status of `name`, or of the only instance there is.
pub fn run(root: &Path, name: Option<&str>, json: bool) -> anyhow::Result<()> {
    let name = match name {
        Some(name) if name.is_empty() || name.starts_with('.') || name.contains('/') => {
            anyhow::bail!(
                "{name:?} is no name of an instance; `tidegate status` alone finds the only one"
            )
        }
        Some(name) => name.to_owned(),
        None => only_instance(root)?,
    };
    let path = status_socket(root, &name);
    let mut socket =
        UnixStream::connect(&path).map_err(|error| unreachable(error, &name, &path))?;
    socket.set_read_timeout(Some(READ_TIMEOUT))?;
    let mut text = String::new();
    socket
        .read_to_string(&mut text)
        .context("the manager did not answer in time")?;
    let out = if json {
        text
    } else {
        let report: Report =
            serde_json::from_str(&text).context("the manager is of another version: try --json")?;
        table::render(&report)
    };
    // A reader that went away (`| head`) is no error of ours.
    let _closed = std::io::stdout().write_all(out.as_bytes());
    Ok(())
}

/// Why there is no answer: nobody is there, or it is somebody else's instance.
fn unreachable(error: std::io::Error, name: &str, path: &Path) -> anyhow::Error {
    let path = path.display();
    let what = if error.kind() == std::io::ErrorKind::PermissionDenied {
        format!("{path} belongs to another user: ask for the status as that user, or as root")
    } else {
        format!("no instance named {name:?} answers at {path}")
    };
    anyhow::Error::new(error).context(what)
}

fn only_instance(root: &Path) -> anyhow::Result<String> {
    let mut names = instances(root);
    match (names.pop(), names.is_empty()) {
        (None, _) if is_of_a_user(root) => bail!(
            "no instance of yours is running (looked in {}; ask for root's as root)",
            root.display()
        ),
        (None, _) => bail!("no instance is running (looked in {})", root.display()),
        (Some(name), true) => Ok(name),
        (Some(last), false) => bail!(
            "several instances are running, choose one with --name: {}, {last}",
            names.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn an_instance_of_somebody_else_is_told_apart_from_none() {
        let path = Path::new("/run/tidegate/cache/status.sock");
        let said = |kind: ErrorKind| format!("{:#}", unreachable(kind.into(), "cache", path));
        let foreign = said(ErrorKind::PermissionDenied);
        assert!(foreign.contains("belongs to another user"), "{foreign}");
        let missing = said(ErrorKind::NotFound);
        assert!(missing.contains("no instance named \"cache\""), "{missing}");
    }
}
