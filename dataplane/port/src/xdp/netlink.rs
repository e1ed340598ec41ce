//! Programs that are attached to interfaces over netlink, which answers in sentences where `bpf()` has numbers, and which keeps a program
//! attached when whoever attached it is gone.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::steering::AttachMode;

/// `RTM_SETLINK`, `NLMSG_ERROR`.
const SET_LINK: u16 = 19;
const ERROR: u16 = 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST: u16 = 0x0005;
/// `NLM_F_CAPPED`: the question is not repeated in the answer, but for its header.
const CAPPED: u16 = 0x0100;
/// `NLM_F_ACK_TLVS`: attributes follow.
const WITH_ATTRIBUTES: u16 = 0x0200;
/// `NLMSGERR_ATTR_MSG`: the sentence.
const SENTENCE: u16 = 1;
/// `IFLA_XDP`, as a nest of attributes, and in it `IFLA_XDP_FD`, `IFLA_XDP_FLAGS` and `IFLA_XDP_EXPECTED_FD`.
const XDP: u16 = 0x802b;
const XDP_FD: u16 = 1;
const XDP_FLAGS: u16 = 3;
const XDP_EXPECTED_FD: u16 = 8;
/// `XDP_FLAGS_UPDATE_IF_NOEXIST`: never in place of another program.
pub(super) const ONLY_IF_NONE: u32 = 1;
/// `XDP_FLAGS_REPLACE`: in place of the program that is expected.
const ONLY_IN_PLACE: u32 = 1 << 4;
/// `struct nlmsghdr`, and `struct nlmsgerr` before the question that it repeats.
const HEADER_BYTES: usize = 16;
const CODE_BYTES: usize = 4;
/// Room for an answer: a sentence of the kernel's is a line.
const ANSWER_BYTES: usize = 4_096;
/// The kernel answers while it is asked. Only an answer that never comes takes so long.
const ANSWER_TIMEOUT_S: i64 = 2;

/// Takes a program that was attached without a link off an interface: this one and no other, whoever attaches one meanwhile.
pub fn detach(ifindex: u32, mode: AttachMode, program: BorrowedFd<'_>) -> io::Result<()> {
    let flags = mode.flags() | ONLY_IN_PLACE;
    let question = set_program(ifindex, -1, flags, Some(program.as_raw_fd()));
    match Netlink::open()?.ask(&question)? {
        Answer { code: 0, .. } => Ok(()),
        Answer { code, .. } => Err(io::Error::from_raw_os_error(code.saturating_abs())),
    }
}

/// The question: a program for an interface, or none (-1), where `expected` is attached.
pub(super) fn set_program(ifindex: u32, fd: i32, flags: u32, expected: Option<i32>) -> Vec<u8> {
    let mut message = Vec::new();
    // `struct nlmsghdr`: length (below), type, flags, number, sender.
    message.extend(0u32.to_ne_bytes());
    message.extend(SET_LINK.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    // `struct ifinfomsg`: family, type, index, flags, mask.
    message.extend([0; 4]);
    message.extend(ifindex.to_ne_bytes());
    message.extend([0; 8]);
    let mut attributes = vec![(XDP_FD, fd.to_ne_bytes()), (XDP_FLAGS, flags.to_ne_bytes())];
    attributes.extend(expected.map(|fd| (XDP_EXPECTED_FD, fd.to_ne_bytes())));
    message.extend((4 + 8 * attributes.len() as u16).to_ne_bytes());
    message.extend(XDP.to_ne_bytes());
    for (kind, value) in attributes {
        message.extend(8u16.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(value);
    }
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// What the kernel says to a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// 0, or a negative error.
    pub(super) code: i32,
    pub(super) words: Option<String>,
}

impl Answer {
    /// Reads it. `None`: these bytes are no answer.
    fn read(bytes: &[u8]) -> Option<Self> {
        let length = u32_at(bytes, 0)? as usize;
        let (kind, flags) = (u16_at(bytes, 4)?, u16_at(bytes, 6)?);
        let bytes = bytes.get(..length)?;
        if kind != ERROR {
            return None;
        }
        let code = u32_at(bytes, HEADER_BYTES)?.cast_signed();
        let question = HEADER_BYTES + CODE_BYTES;
        let repeated = match flags & CAPPED {
            0 => u32_at(bytes, question)? as usize,
            _ => HEADER_BYTES,
        };
        let attributes = question.checked_add(repeated.checked_next_multiple_of(4)?)?;
        let words = match flags & WITH_ATTRIBUTES {
            0 => None,
            _ => bytes.get(attributes..).and_then(sentence),
        };
        Some(Self { code, words })
    }
}

/// The sentence among attributes.
fn sentence(mut attributes: &[u8]) -> Option<String> {
    loop {
        let (length, kind) = (u16_at(attributes, 0)? as usize, u16_at(attributes, 2)?);
        let value = attributes.get(4..length)?;
        if kind == SENTENCE {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at + 2)?;
    two.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?;
    four.try_into().ok().map(u32::from_ne_bytes)
}

/// A socket for questions on interfaces of the namespace of this thread.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes integers and returns a new descriptor or -1.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else owns it.
        let socket = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        socket.option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, &1i32)?;
        socket.option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, &1i32)?;
        let timeout = libc::timeval {
            tv_sec: ANSWER_TIMEOUT_S,
            tv_usec: 0,
        };
        socket.option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
        Ok(socket)
    }

    fn option<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let bytes = size_of::<T>() as libc::socklen_t;
        let value: *const T = value;
        // SAFETY: the value is live and as long as said; the kernel only reads it.
        let outcome =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, value.cast(), bytes) };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    pub(super) fn ask(&self, message: &[u8]) -> io::Result<Answer> {
        let fd = self.0.as_raw_fd();
        // SAFETY: the message is live and as long as said. Without an address it goes to the kernel.
        let sent = unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut answer = [0u8; ANSWER_BYTES];
        // SAFETY: the buffer is live and as long as said.
        let got = unsafe { libc::recv(fd, answer.as_mut_ptr().cast(), answer.len(), 0) };
        let got = usize::try_from(got).map_err(|_negative| io::Error::last_os_error())?;
        Answer::read(&answer[..got]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::ForeignProgram;
    use crate::test_lab::Lab;
    use crate::xdp::{SteeringMaps, load};
    use std::os::fd::AsFd;

    #[test]
    fn only_the_program_that_is_meant_is_taken_off() {
        let Some(lab) = Lab::new() else { return };
        let ifindex = lab.appliance.nic("tg0").ifindex;
        let maps = SteeringMaps::create(2).unwrap();
        let [program, other] = [(); 2].map(|()| load(&maps).unwrap());
        let mode = AttachMode::Native;
        let attach = || {
            let flags = mode.flags() | ONLY_IF_NONE;
            let question = set_program(ifindex, program.as_fd().as_raw_fd(), flags, None);
            Netlink::open().unwrap().ask(&question).unwrap().code
        };
        lab.appliance.run(|| {
            assert_eq!(attach(), 0);
            detach(ifindex, mode, other.as_fd()).unwrap_err();
            assert_ne!(attach(), 0, "it is attached still");
            detach(ifindex, mode, program.as_fd()).unwrap();
            assert_eq!(attach(), 0);
            detach(ifindex, mode, program.as_fd()).unwrap();
        });
    }

    #[test]
    fn a_program_that_is_gone_is_no_error() {
        let Some(_root) = Lab::new() else { return };
        assert!(ForeignProgram::by_id(u32::MAX).unwrap().is_none());
    }

    /// An answer of the kernel's with attributes, capped.
    fn answer(code: i32, flags: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(ERROR.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(code.to_ne_bytes());
        bytes.extend([0; HEADER_BYTES]);
        for (kind, value) in attributes {
            bytes.extend((4 + value.len() as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_sentence_is_found_among_attributes() {
        let flags = CAPPED | WITH_ATTRIBUTES;
        let offset: (u16, &[u8]) = (2, &[1, 0, 0, 0]);
        let bytes = answer(-95, flags, &[offset, (SENTENCE, b"x: no\0")]);
        let expected = Answer {
            code: -95,
            words: Some("x: no".into()),
        };
        assert_eq!(Answer::read(&bytes), Some(expected));
        let none = Answer {
            code: -22,
            words: None,
        };
        assert_eq!(Answer::read(&answer(-22, flags, &[offset])), Some(none));
        let done = Answer {
            code: 0,
            words: None,
        };
        assert_eq!(Answer::read(&answer(0, CAPPED, &[])), Some(done));
    }

    #[test]
    fn an_answer_that_is_cut_or_lies_about_its_lengths_is_none() {
        let whole = answer(
            -95,
            CAPPED | WITH_ATTRIBUTES,
            &[(SENTENCE, b"a sentence\0")],
        );
        for length in 0..whole.len() {
            assert_eq!(Answer::read(&whole[..length]), None, "{length}");
        }
        for wrong in [0u16, 1, 3, 200, u16::MAX] {
            let mut bytes = whole.clone();
            bytes[36..38].copy_from_slice(&wrong.to_ne_bytes());
            assert_eq!(
                Answer::read(&bytes).and_then(|answer| answer.words),
                None,
                "{wrong}"
            );
        }
        let mut huge = answer(-95, WITH_ATTRIBUTES, &[]);
        huge[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(
            Answer::read(&huge).and_then(|answer| answer.words),
            None,
            "a question that cannot be so long"
        );
    }
}
