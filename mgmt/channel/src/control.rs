//! The control socket: typed messages with descriptors, over `SOCK_SEQPACKET`.
//!
//! A packet is one message, so neither side ever has to find a boundary, and a reader gets a whole message or none.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most bytes of a message. The largest is a list of modes or an error text; anything bulky is a payload file.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Most descriptors of a message: the kernel's own limit (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 253;

/// Why a message could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The other process closed its end, or is gone.
    #[error("control socket: the other end is closed")]
    Closed,
    /// Nothing to read, or no room to write, right now.
    #[error("control socket: would block")]
    WouldBlock,
    /// A system call failed.
    #[error("control socket: {0}")]
    System(Errno),
    /// Not a socket of ours.
    #[error(
        "control socket: standard input is not a control socket: workers are started by `tidegate run`, not by hand"
    )]
    NotAControlSocket,
    /// More than a message may have.
    #[error(
        "control socket: a message of more than {MESSAGE_BYTES_MAX} bytes or {DESCRIPTORS_MAX} descriptors"
    )]
    TooLarge,
    /// Not a message of ours.
    #[error("control socket: {0}: manager and worker are of different builds")]
    Malformed(#[from] serde_json::Error),
}

impl From<Errno> for ControlError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::WouldBlock,
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            error => Self::System(error),
        }
    }
}

/// One end of the socket pair.
#[derive(Debug)]
pub struct ControlSocket {
    socket: OwnedFd,
}

impl ControlSocket {
    /// Makes a pair: our end, and the descriptor to be the other process's standard input.
    pub fn pair() -> Result<(Self, OwnedFd), ControlError> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: ours }, theirs))
    }

    /// Takes over a descriptor that has to be one end of such a pair.
    pub fn from_descriptor(socket: OwnedFd) -> Result<Self, ControlError> {
        match rustix::net::sockopt::socket_type(&socket) {
            Ok(SocketType::SEQPACKET) => Ok(Self { socket }),
            _ => Err(ControlError::NotAControlSocket),
        }
    }

    /// From now on [`ControlError::WouldBlock`] instead of waiting.
    pub fn set_nonblocking(&self) -> Result<(), ControlError> {
        Ok(rustix::io::ioctl_fionbio(&self.socket, true)?)
    }

    /// A second handle on the same end, for a thread of its own.
    pub fn try_clone(&self) -> Result<Self, ControlError> {
        let socket = self.socket.try_clone().map_err(|error| {
            ControlError::System(Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
        })?;
        Ok(Self { socket })
    }

    /// Sends one message with descriptors; they stay ours, the other process gets duplicates.
    pub fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ControlError> {
        self.send_with(message, descriptors, SendFlags::NOSIGNAL)
    }

    /// Sends one message, or nothing and [`ControlError::WouldBlock`] if it would have to wait.
    pub fn try_send<T: Serialize>(&self, message: &T) -> Result<(), ControlError> {
        self.send_with(message, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<(), ControlError> {
        let text = serde_json::to_vec(message)?;
        if text.len() > MESSAGE_BYTES_MAX || descriptors.len() > DESCRIPTORS_MAX {
            return Err(ControlError::TooLarge);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(ControlError::TooLarge);
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&text)], &mut ancillary, flags)?;
        Ok(())
    }

    /// Receives one message with its descriptors, which are closed on exec.
    pub fn receive<T: DeserializeOwned>(&self) -> Result<(T, Vec<OwnedFd>), ControlError> {
        let mut text = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut text)];
            match rustix::net::recvmsg(
                &self.socket,
                &mut parts,
                &mut ancillary,
                RecvFlags::CMSG_CLOEXEC,
            ) {
                Err(Errno::INTR) => {}
                outcome => break outcome?,
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            return Err(ControlError::TooLarge);
        }
        if received.bytes == 0 {
            return Err(ControlError::Closed);
        }
        let message = serde_json::from_slice(&text[..received.bytes])?;
        Ok((message, descriptors))
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Envelope, FromWorker, ToWorker};
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    fn pair() -> (ControlSocket, ControlSocket) {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        (ours, ControlSocket::from_descriptor(theirs).unwrap())
    }

    #[test]
    fn a_message_arrives_with_its_descriptors() {
        let (manager, worker) = pair();
        let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = File::from(file);
        file.write_all(b"hello").unwrap();
        let sent = Envelope {
            generation: 7,
            message: ToWorker::Drain { deadline_ms: 100 },
        };
        manager.send(&sent, &[file.as_fd(), file.as_fd()]).unwrap();
        let (received, mut descriptors) = worker.receive::<Envelope<ToWorker>>().unwrap();
        assert_eq!(received, sent);
        assert_eq!(descriptors.len(), 2);
        let mut copy = File::from(descriptors.remove(1));
        copy.rewind().unwrap();
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn messages_keep_their_boundaries_and_order() {
        let (manager, worker) = pair();
        for generation in 0..10 {
            worker
                .send(&FromWorker::Acknowledged { generation }, &[])
                .unwrap();
        }
        for generation in 0..10 {
            let (message, _) = manager.receive::<FromWorker>().unwrap();
            assert_eq!(message, FromWorker::Acknowledged { generation });
        }
    }

    #[test]
    fn the_other_end_closing_is_told_apart_from_nothing_to_read() {
        let (manager, worker) = pair();
        manager.set_nonblocking().unwrap();
        assert!(matches!(
            manager.receive::<FromWorker>(),
            Err(ControlError::WouldBlock)
        ));
        drop(worker);
        assert!(matches!(
            manager.receive::<FromWorker>(),
            Err(ControlError::Closed)
        ));
        assert!(matches!(manager.send(&1, &[]), Err(ControlError::Closed)));
    }

    #[test]
    fn nonsense_and_oversize_are_errors() {
        let (manager, worker) = pair();
        worker.send(&"nonsense", &[]).unwrap();
        assert!(matches!(
            manager.receive::<FromWorker>(),
            Err(ControlError::Malformed(_))
        ));
        assert!(matches!(
            worker.send(&"x".repeat(MESSAGE_BYTES_MAX), &[]),
            Err(ControlError::TooLarge)
        ));
        rustix::net::send(
            &worker,
            &vec![b' '; MESSAGE_BYTES_MAX + 1],
            SendFlags::empty(),
        )
        .unwrap();
        assert!(matches!(
            manager.receive::<FromWorker>(),
            Err(ControlError::TooLarge)
        ));
    }

    #[test]
    fn a_descriptor_of_another_kind_is_refused() {
        let file = File::open("/dev/null").unwrap();
        assert!(matches!(
            ControlSocket::from_descriptor(file.into()),
            Err(ControlError::NotAControlSocket)
        ));
    }
}
