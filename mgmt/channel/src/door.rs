//! The door of a worker: a socket in the runtime directory at which a manager that did not start it knocks.
//!
//! The manager makes it and passes it on, because a worker may not write there. What is accepted is a control socket like any other.

use crate::control::{ControlError, ControlSocket};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with, sockopt,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Managers that may wait. There is never more than one that holds the lock of the instance; one that died meanwhile may be before it.
const BACKLOG: i32 = 4;

/// A listening socket.
#[derive(Debug)]
pub struct Door {
    socket: OwnedFd,
}

impl Door {
    /// Listens at `path`, for the owner alone. What an earlier worker left there is replaced.
    pub fn open(path: &Path) -> Result<Self, ControlError> {
        match rustix::fs::unlink(path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let address = SocketAddrUnix::new(path)?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &address)?;
        // Nobody can connect before `listen`, so nobody slips in before this.
        rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
        listen(&socket, BACKLOG)?;
        Ok(Self { socket })
    }

    /// One that came from another process.
    pub fn from_descriptor(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Waits for the next who knocks; with it comes the user that it runs as.
    pub fn accept(&self) -> Result<(ControlSocket, u32), ControlError> {
        loop {
            match accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let user = sockopt::socket_peercred(&socket)?.uid;
                    return Ok((ControlSocket::from_descriptor(socket)?, user.as_raw()));
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Knocks at the door at `path`; never waits.
pub fn knock(path: &Path) -> Result<ControlSocket, ControlError> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    connect(&socket, &address)?;
    ControlSocket::from_descriptor(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FromWorker;

    #[test]
    fn who_knocks_is_known_and_can_be_spoken_with() {
        let path = std::env::temp_dir().join(format!("tidegate-door-{}", std::process::id()));
        let door = Door::open(&path).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
        let manager = knock(&path).unwrap();
        let (worker, user) = door.accept().unwrap();
        assert_eq!(user, rustix::process::geteuid().as_raw());
        worker.send(&FromWorker::Ready, &[]).unwrap();
        assert_eq!(
            manager.receive::<FromWorker>().unwrap().0,
            FromWorker::Ready
        );
        drop(door);
        assert!(knock(&path).is_err(), "nobody is behind it");
        drop(Door::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(knock(&path).is_err());
    }
}
