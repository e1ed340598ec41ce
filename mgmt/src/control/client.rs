//! The command's end of the control socket.

use super::request::Request;
use super::{Answer, DESCRIPTOR_SPACE};
pub use crate::out::print;
use crate::runtime_dir::{Presence, control_socket, instances, is_of_a_user, orphaned};
use anyhow::{Context, bail};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{ErrorKind, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// A manager that refused, in its own words.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\nerror: "))]
pub struct Refused(pub Vec<String>);

/// Asks the manager of `name`, or of the only instance there is.
///
/// # Errors
/// [`Refused`] with everything that is wrong; others tell that there is no manager, or none that answers.
pub fn ask(root: &Path, name: Option<&str>, request: &Request) -> anyhow::Result<Value> {
    Ok(ask_for_descriptors(root, name, request)?.0)
}

/// What an answer says, for a command that understands it.
pub fn read<T: DeserializeOwned>(answer: Value) -> anyhow::Result<T> {
    serde_json::from_value(answer).context(
        "the manager is of another version, and its answer not understood; --json, where there is one, prints it as it is",
    )
}

/// The same as [`ask`], with the descriptors that come along.
pub fn ask_for_descriptors(
    root: &Path,
    name: Option<&str>,
    request: &Request,
) -> anyhow::Result<(Value, Vec<OwnedFd>)> {
    let name = instance(root, name)?;
    let path = control_socket(root, &name);
    let mut socket = UnixStream::connect(&path).map_err(|error| unreachable(error, root, &name))?;
    let patience = request.patience();
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // One that is refused for its user finds the socket closed; what it was told can still be read.
    let _closed = socket.write_all(&line);
    let (text, descriptors) = receive(&socket, patience)?;
    if text.is_empty() {
        bail!(
            "the manager of {name:?} closed the connection without an answer: it serves its own user and root alone, and ends \
             clients when there are too many; its log says which"
        );
    }
    let answer = serde_json::from_slice(&text)
        .context("the manager is of another version: its answer cannot be read")?;
    match answer {
        Answer::Ok(value) => Ok((value, descriptors)),
        Answer::Error { faults } => Err(Refused(faults).into()),
    }
}

fn receive(socket: &UnixStream, patience: Duration) -> anyhow::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut text, mut descriptors) = (Vec::new(), Vec::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let mut space = [MaybeUninit::uninit(); DESCRIPTOR_SPACE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut chunk)];
        let received = recvmsg(socket, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        let read = match received {
            Ok(received) => received.bytes,
            Err(Errno::INTR) => continue,
            Err(Errno::CONNRESET) => 0,
            Err(Errno::AGAIN) => bail!("the manager did not answer within {patience:?}"),
            Err(error) => return Err(error.into()),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if read == 0 {
            return Ok((text, descriptors));
        }
        text.extend_from_slice(&chunk[..read]);
    }
}

/// The instance that is meant.
pub fn instance(root: &Path, name: Option<&str>) -> anyhow::Result<String> {
    match name {
        Some(name) if name.is_empty() || name.starts_with('.') || name.contains('/') => {
            bail!("{name:?} is no name of an instance; without --name the only one is found")
        }
        Some(name) => Ok(name.to_owned()),
        None => only_instance(root),
    }
}

/// Why there is no answer: nobody is there, or it is somebody else's instance.
fn unreachable(error: std::io::Error, root: &Path, name: &str) -> anyhow::Error {
    let path = control_socket(root, name);
    let path = path.display();
    let what = if error.kind() == ErrorKind::PermissionDenied {
        format!("{path} belongs to another user: ask as that user, or as root")
    } else if let Presence::Workers(workers) = Presence::of(root, name) {
        orphaned(name, &workers)
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

    #[test]
    fn an_instance_of_somebody_else_is_told_apart_from_none() {
        let root = Path::new("/no/such/place");
        let said = |kind: ErrorKind| format!("{:#}", unreachable(kind.into(), root, "cache"));
        let foreign = said(ErrorKind::PermissionDenied);
        assert!(foreign.contains("belongs to another user"), "{foreign}");
        let missing = said(ErrorKind::NotFound);
        assert!(missing.contains("no instance named \"cache\""), "{missing}");
    }
}
