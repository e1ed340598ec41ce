//! Why a driver refuses a program, in the driver's own words.
//!
//! `bpf()` answers with a number and nothing else. The same question over netlink is answered with a sentence, so it is asked again
//! there once a driver has refused. Should the program be attached after all, it is taken off again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::steering::AttachMode;
use crate::bpf::BpfError;

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
/// `IFLA_XDP`, as a nest of attributes, and in it `IFLA_XDP_FD` and `IFLA_XDP_FLAGS`.
const XDP: u16 = 0x802b;
const XDP_FD: u16 = 1;
const XDP_FLAGS: u16 = 3;
/// `XDP_FLAGS_UPDATE_IF_NOEXIST`: never in place of another program.
const ONLY_IF_NONE: u32 = 1;
/// `struct nlmsghdr`, and `struct nlmsgerr` before the question that it repeats.
const HEADER_BYTES: usize = 16;
const CODE_BYTES: usize = 4;
/// Room for an answer: a sentence of the kernel's is a line.
const ANSWER_BYTES: usize = 4_096;
/// The kernel answers while it is asked. Only an answer that never comes takes so long.
const ANSWER_TIMEOUT_S: i64 = 2;

/// A driver's "I cannot run a program".
#[derive(Debug, thiserror::Error)]
pub struct NativeRefusal {
    source: BpfError,
    words: Option<String>,
}

impl std::fmt::Display for NativeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.words {
            Some(words) => write!(f, "{}; the kernel's words: {words}", self.source),
            None => self.source.fmt(f),
        }
    }
}

impl NativeRefusal {
    /// Asks the kernel why it answered a program on an interface with `source`.
    pub(super) fn explain(source: BpfError, ifindex: u32, program: BorrowedFd<'_>) -> Self {
        let words = words(ifindex, program).ok().flatten();
        Self { source, words }
    }

    /// What the driver says; `None`: nothing but a number.
    pub fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }

    /// What to do about it.
    pub fn remedy(&self, interface: &str) -> String {
        remedy(self.words().unwrap_or_default(), interface)
    }
}

/// What to do about a sentence of the kernel's. Those of virtio_net changed little since Linux 5.11.
fn remedy(words: &str, interface: &str) -> String {
    let says = |part: &str| words.contains(part);
    if says("GRO_HW/CSUM") || says("LRO/CSUM") {
        "its host joins frames or leaves checksums out and cannot be told to stop: give the device ctrl_guest_offloads=on, or \
         guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off (as QEMU calls it); ethtool cannot"
            .into()
    } else if says("any_header_sg") {
        "make the device one of virtio 1.0 (QEMU: disable-modern=off), or give it any_layout=on"
            .into()
    } else if says("Too few free TX rings") {
        "update the kernel to 5.13 or later, or give the device one queue more for each CPU".into()
    } else if says("MTU") || says("mtu") {
        format!("ip link set dev {interface} mtu 1500, on a veth at both ends")
    } else if says("does not support XDP") {
        "a card or a driver with XDP".into()
    } else {
        format!("lower its MTU to 1500, turn LRO off (ethtool -K {interface} lro off)")
    }
}

/// The kernel's sentence on a program for the driver of an interface. `None`: it has none, or nothing against the program.
fn words(ifindex: u32, program: BorrowedFd<'_>) -> io::Result<Option<String>> {
    let socket = Netlink::open()?;
    match socket.ask(&set_program(ifindex, program.as_raw_fd()))? {
        Answer { code: 0, .. } => {
            socket.ask(&set_program(ifindex, -1))?;
            Ok(None)
        }
        answer => Ok(answer.words),
    }
}

/// The question: a program for the driver of an interface, or none (-1).
fn set_program(ifindex: u32, fd: i32) -> Vec<u8> {
    let flags = AttachMode::Native.flags() | if fd < 0 { 0 } else { ONLY_IF_NONE };
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
    for (length, kind) in [(20u16, XDP), (8, XDP_FD)] {
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
    }
    message.extend(fd.to_ne_bytes());
    message.extend(8u16.to_ne_bytes());
    message.extend(XDP_FLAGS.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

/// What the kernel says to a question.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    /// 0, or a negative error.
    code: i32,
    words: Option<String>,
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
struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> io::Result<Self> {
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

    fn ask(&self, message: &[u8]) -> io::Result<Answer> {
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
    use crate::test_lab::Lab;
    use crate::xdp::{AttachMode, AttachPolicy, XdpError, XdpSteering};

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

    #[test]
    fn each_sentence_of_virtio_net_has_its_own_remedy() {
        for (words, expected) in [
            (
                "virtio_net: Can't set XDP while host is implementing GRO_HW/CSUM, disable GRO_HW/CSUM first",
                "ctrl_guest_offloads=on",
            ),
            (
                "virtio_net: XDP expects header/data in single page, any_header_sg required",
                "any_layout=on",
            ),
            (
                "virtio_net: MTU too large to enable XDP",
                "ip link set dev eth1 mtu 1500",
            ),
            (
                "virtio_net: Too few free TX rings available",
                "kernel to 5.13",
            ),
            ("", "ethtool -K eth1 lro off"),
        ] {
            let remedy = remedy(words, "eth1");
            assert!(remedy.contains(expected), "{words}: {remedy}");
        }
    }

    #[test]
    fn a_driver_says_why_and_what_was_asked_leaves_nothing_behind() {
        let Some(lab) = Lab::new() else { return };
        let ifindex = lab.appliance.nic("tg0").ifindex;
        let attach = |policy| {
            lab.appliance
                .run(|| XdpSteering::attach(ifindex, 2, policy))
        };
        // A veth runs no program while the other end sends more than a page holds.
        lab.peer.ip("link set tg1 mtu 9000");
        let error = attach(AttachPolicy::NativeOnly).unwrap_err();
        assert!(matches!(&error, XdpError::NoNative { .. }), "{error}");
        let text = error.to_string();
        for expected in [
            "Peer MTU is too large to set XDP",
            "ip link set dev tg0 mtu 1500",
            "tg0 cannot run an XDP program in its driver",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in {text}");
        }
        let (generic, mode) = attach(AttachPolicy::NativeThenGeneric).unwrap();
        assert_eq!(mode, AttachMode::Generic);
        let refusal = generic.native_refusal().unwrap();
        assert!(refusal.words().unwrap().contains("Peer MTU"), "{refusal}");
        drop(generic);
        lab.peer.ip("link set tg1 mtu 1500");
        let (native, mode) = attach(AttachPolicy::NativeOnly).unwrap();
        assert_eq!(mode, AttachMode::Native);
        drop(native);
    }

    #[test]
    fn a_question_that_would_succeed_takes_the_program_off_again() {
        let Some(lab) = Lab::new() else { return };
        let ifindex = lab.appliance.nic("tg0").ifindex;
        let maps = crate::xdp::SteeringMaps::create(2).unwrap();
        let program = crate::xdp::load(&maps).unwrap();
        let words = lab
            .appliance
            .run(|| words(ifindex, std::os::fd::AsFd::as_fd(&program)));
        assert_eq!(words.unwrap(), None);
        lab.appliance
            .run(|| XdpSteering::attach(ifindex, 2, AttachPolicy::NativeOnly))
            .unwrap();
    }
}
