//! Files of Unix sockets: whose they are, and when one may be removed.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is at the path of a socket.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A socket that nobody listens on: what a killed process leaves.
    Stale,
    /// A socket that somebody listens on.
    Taken,
    /// Another kind of file.
    NoSocket,
    /// It cannot be told.
    Unknown(io::Error),
}

/// Looks at `path`. Whether somebody listens only a connection can tell; it is closed at once.
pub fn look(path: &Path) -> Found {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return Found::Unknown(error),
        Ok(file) if !file.file_type().is_socket() => return Found::NoSocket,
        Ok(_) => {}
    }
    match connect_at_once(path) {
        // With a full queue somebody listens, too. A datagram socket, for one, is another process's as well.
        Ok(()) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Found::Taken,
        Err(Errno::CONNREFUSED) => Found::Stale,
        Err(Errno::NOENT) => Found::Nothing,
        Err(error) => Found::Unknown(error.into()),
    }
}

/// The manager asks this of every path in each reload, and must not wait until somebody else accepts.
fn connect_at_once(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Removes the file of a socket that nobody listens on; whatever else is there stays.
pub fn remove_stale(path: &Path) {
    if matches!(look(path), Found::Stale)
        && let Err(error) = std::fs::remove_file(path)
    {
        tracing::warn!("cannot remove the socket {}: {error}", path.display());
    }
}

/// A file that this process made, removed with this value unless somebody has put another in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number.
    identity: Option<(u64, u64)>,
}

impl SocketFile {
    /// The file at `path`, which was made just now.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            identity: identity(path),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_none() || identity(&self.path) != self.identity {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the socket {}: {error}", self.path.display());
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_socket_without_a_listener_is_stale_and_removed() {
        let folder = std::env::temp_dir().join(format!("tidegate-unix-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("a.sock");
        assert!(matches!(look(&path), Found::Nothing));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(look(&path), Found::Taken));
        remove_stale(&path);
        assert!(path.exists(), "somebody listens");
        drop(listener);
        assert!(matches!(look(&path), Found::Stale));
        remove_stale(&path);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(look(&path), Found::NoSocket));
        remove_stale(&path);
        assert!(path.exists(), "another kind of file");

        let other = folder.join("b.sock");
        let made = UnixListener::bind(&other).unwrap();
        let file = SocketFile::new(&other);
        std::fs::rename(&path, &other).unwrap();
        drop(file);
        assert!(other.exists(), "somebody put another file there");
        drop(made);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_listener_that_accepts_nobody_is_seen_at_once() {
        let folder = std::env::temp_dir().join(format!("tidegate-busy-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("a.sock");
        let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        // Those that were closed stay in its queue.
        let looks = std::iter::repeat_with(|| connect_at_once(&path));
        assert_eq!(looks.take(9).last(), Some(Err(Errno::AGAIN)));
        assert!(matches!(look(&path), Found::Taken));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
