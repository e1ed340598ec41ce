//! What a device of virtio_net agreed on with its driver, and what follows from it for programs in the driver.
//!
//! The host offers features, the driver takes those that it knows, and neither changes until the device is found anew. So what the
//! driver will do with a program can be told before there is one. The rules are those of the driver since Linux 5.13.

/// The driver's name.
pub const DRIVER: &str = "virtio_net";

/// Features by their number, in `linux/virtio_net.h` and `linux/virtio_config.h`.
const GUEST_CSUM: u32 = 1;
const CTRL_GUEST_OFFLOADS: u32 = 2;
const MTU: u32 = 3;
const MRG_RXBUF: u32 = 15;
const ANY_LAYOUT: u32 = 27;
const VERSION_1: u32 = 32;

/// What the host may do to frames on their way to us, by QEMU's name, and whether it joins frames.
const GUEST_OFFLOADS: [(u32, &str, bool); 7] = [
    (GUEST_CSUM, "guest_csum", false),
    (7, "guest_tso4", true),
    (8, "guest_tso6", true),
    (9, "guest_ecn", true),
    (10, "guest_ufo", true),
    (54, "guest_uso4", true),
    (55, "guest_uso6", true),
];

/// Above it the driver takes its large buffers, if it was the host that said so.
const ORDINARY_MTU_BYTES: usize = 1_500;

/// Features that were agreed on, one per bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Virtio(u64);

/// Why a program in the driver does not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trap {
    /// The driver refuses programs: the host does these to frames, and cannot be told to stop.
    Offloads {
        /// QEMU's names.
        names: Vec<&'static str>,
    },
    /// The driver refuses programs: it has its header in a buffer of its own.
    HeaderApart,
    /// The driver takes a program and never runs it: its buffers are lists of pages, made for joined or large frames.
    Bypass {
        /// QEMU's names of what asks for such buffers; empty: an MTU of more than 1,500 bytes.
        names: Vec<&'static str>,
    },
}

impl Virtio {
    /// Reads the file `features` of the device: a 0 or 1 for each, the first one first.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > u64::BITS as usize {
            return None;
        }
        let mut bits = 0;
        for (number, digit) in text.bytes().enumerate() {
            match digit {
                b'0' => {}
                b'1' => bits |= 1 << number,
                _ => return None,
            }
        }
        Some(Self(bits))
    }

    fn has(self, feature: u32) -> bool {
        self.0 >> feature & 1 == 1
    }

    /// Whether frames come without their checksums, from machines on the same host, or joined to ones that no socket of AF_XDP takes.
    /// A program in the driver makes the host stop both. In generic mode nothing stops the former, and not everything the latter.
    pub fn spoils_generic_mode(self) -> bool {
        let mut offloads = GUEST_OFFLOADS.into_iter();
        let fixed = |(feature, _, joins): (u32, _, bool)| {
            self.has(feature) && joins && !self.has(CTRL_GUEST_OFFLOADS)
        };
        self.has(GUEST_CSUM) || offloads.any(fixed)
    }

    /// What stands in the way of a program in the driver of an interface with this MTU.
    pub fn trap(self, mtu_bytes: usize) -> Option<Trap> {
        let offloads: Vec<_> = GUEST_OFFLOADS
            .into_iter()
            .filter(|(feature, ..)| self.has(*feature))
            .collect();
        let names =
            |of: &[(u32, &'static str, bool)]| of.iter().map(|(_, name, _)| *name).collect();
        let joining: Vec<_> = offloads
            .iter()
            .copied()
            .filter(|(.., joins)| *joins)
            .collect();
        if !self.has(CTRL_GUEST_OFFLOADS) && !offloads.is_empty() {
            return Some(Trap::Offloads {
                names: names(&offloads),
            });
        }
        if self.has(MRG_RXBUF) {
            let together = self.has(ANY_LAYOUT) || self.has(VERSION_1);
            return (!together).then_some(Trap::HeaderApart);
        }
        let large = self.has(MTU) && mtu_bytes > ORDINARY_MTU_BYTES;
        (large || !joining.is_empty()).then(|| Trap::Bypass {
            names: names(&joining),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// QEMU's device with its defaults, as Linux 6.1 agrees to it.
    const DEFAULTS: &str = "1110010111111111111101110000110010000000000000000000000000000000";

    fn with(changes: &[(u32, bool)]) -> Virtio {
        let mut virtio = Virtio::read(DEFAULTS).unwrap();
        for (feature, on) in changes {
            virtio.0 &= !(1 << feature);
            virtio.0 |= u64::from(*on) << feature;
        }
        virtio
    }

    #[test]
    fn features_are_read_as_sysfs_shows_them() {
        assert_eq!(Virtio::read("101\n"), Some(Virtio(5)));
        for wrong in ["", "\n", "10x", "-1", &"1".repeat(65)] {
            assert_eq!(Virtio::read(wrong), None, "{wrong:?}");
        }
        assert_eq!(Virtio::read(&"1".repeat(64)), Some(Virtio(u64::MAX)));
    }

    #[test]
    fn a_device_with_the_defaults_has_no_trap() {
        assert_eq!(with(&[]).trap(1_500), None);
        assert_eq!(with(&[(MTU, true)]).trap(1_700), None);
    }

    #[test]
    fn offloads_that_cannot_be_switched_are_refused() {
        let fixed = with(&[(CTRL_GUEST_OFFLOADS, false)]);
        let names = GUEST_OFFLOADS[..5].iter().map(|(_, name, _)| *name);
        let names = names.collect();
        assert_eq!(fixed.trap(1_500), Some(Trap::Offloads { names }));
        let none_joins = [7, 8, 9, 10].map(|feature| (feature, false));
        let mut changes = none_joins.to_vec();
        changes.push((CTRL_GUEST_OFFLOADS, false));
        let names = vec!["guest_csum"];
        assert_eq!(with(&changes).trap(1_500), Some(Trap::Offloads { names }));
        changes.push((GUEST_CSUM, false));
        assert_eq!(with(&changes).trap(1_500), None);
    }

    #[test]
    fn generic_mode_needs_checksums_and_frames_as_they_were_sent() {
        assert!(with(&[]).spoils_generic_mode());
        assert!(!with(&[(GUEST_CSUM, false)]).spoils_generic_mode());
        let fixed = [(GUEST_CSUM, false), (CTRL_GUEST_OFFLOADS, false)];
        assert!(with(&fixed).spoils_generic_mode());
    }

    #[test]
    fn buffers_without_mergeable_ones_never_see_a_program() {
        let small = with(&[(MRG_RXBUF, false)]);
        let names = vec!["guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo"];
        assert_eq!(small.trap(1_500), Some(Trap::Bypass { names }));
        let mut changes = [7, 8, 9, 10, MRG_RXBUF]
            .map(|feature| (feature, false))
            .to_vec();
        assert_eq!(with(&changes).trap(1_500), None);
        changes.push((MTU, true));
        assert_eq!(with(&changes).trap(1_500), None);
        let names = Vec::new();
        assert_eq!(with(&changes).trap(1_501), Some(Trap::Bypass { names }));
    }

    #[test]
    fn a_header_in_a_buffer_of_its_own_is_refused() {
        let old = [(ANY_LAYOUT, false), (VERSION_1, false)];
        assert_eq!(with(&old).trap(1_500), Some(Trap::HeaderApart));
        assert_eq!(
            with(&[(VERSION_1, false), (ANY_LAYOUT, true)]).trap(1_500),
            None
        );
    }
}
