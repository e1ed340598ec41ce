//! Files of Unix sockets: whose they are, and when one may be removed.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
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
    match UnixStream::connect(path) {
        Ok(_) => Found::Taken,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Found::Stale,
        // A datagram socket, for one, is another process's as well.
        Err(error) if error.raw_os_error() == Some(nix::libc::EPROTOTYPE) => Found::Taken,
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
        Err(error) => Found::Unknown(error),
    }
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
}

impl SocketFile {
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
}
