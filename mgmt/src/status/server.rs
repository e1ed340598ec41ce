//! The manager's end of the status socket.

use super::report::Report;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

/// How long a client may take to read its report. Only root can connect; the limit keeps a forgotten client from stopping
/// the manager.
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);

/// A listening status socket.
pub struct StatusServer {
    listener: UnixListener,
}

impl StatusServer {
    /// Listens at `path`, for the owner alone. A socket that an earlier instance left there is replaced: the caller holds
    /// the instance's lock.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Answers everybody who waits.
    pub fn answer(&self, mut report: impl FnMut() -> Report) {
        while let Ok((mut client, _)) = self.listener.accept() {
            let answer = || -> io::Result<()> {
                client.set_nonblocking(false)?;
                client.set_write_timeout(Some(WRITE_TIMEOUT))?;
                let mut text = serde_json::to_vec(&report())?;
                text.push(b'\n');
                client.write_all(&text)
            };
            let mut answer = answer;
            if let Err(error) = answer() {
                tracing::debug!("a status client went away: {error}");
            }
        }
    }
}

impl AsFd for StatusServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
