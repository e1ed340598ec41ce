//! Why a driver refuses a program, in the driver's own words.
//!
//! `bpf()` answers with a number and nothing else. The same question over netlink is answered with a sentence, so it is asked again
//! there once a driver has refused. Should the program be attached after all, it is taken off again.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::netlink::{Answer, Netlink, ONLY_IF_NONE, set_program};
use super::steering::AttachMode;
use crate::bpf::BpfError;

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
    let flags = AttachMode::Native.flags();
    let question = set_program(ifindex, program.as_raw_fd(), flags | ONLY_IF_NONE, None);
    match socket.ask(&question)? {
        Answer { code: 0, .. } => {
            socket.ask(&set_program(ifindex, -1, flags, None))?;
            Ok(None)
        }
        answer => Ok(answer.words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_lab::Lab;
    use crate::xdp::{AttachMode, AttachPolicy, XdpError, XdpSteering};

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
