//! How a frame came here.

/// The bit of a [`Arrival::tag`] that says that the frame is verified. Ports have small numbers.
const VERIFIED: u8 = 0x80;

/// Where a frame arrived, and what the device says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The position of the port.
    pub port: usize,
    /// The device vouches for the TCP checksum.
    pub is_verified: bool,
    /// Another worker handed it over.
    pub is_handed_over: bool,
}

impl Arrival {
    /// In one byte, for a frame that is handed over: what the device said is lost with its buffer.
    pub fn tag(self) -> u8 {
        self.port as u8 | if self.is_verified { VERIFIED } else { 0 }
    }

    /// Reads what [`Arrival::tag`] wrote, when the frame was handed over.
    pub fn from_tag(tag: u8) -> Self {
        Self {
            port: usize::from(tag & !VERIFIED),
            is_verified: tag & VERIFIED != 0,
            is_handed_over: true,
        }
    }
}

/// On the port at this position, and nothing is known about it.
impl From<usize> for Arrival {
    fn from(port: usize) -> Self {
        Self {
            port,
            is_verified: false,
            is_handed_over: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arrival;

    #[test]
    fn a_tag_keeps_everything() {
        for port in [0, 1, 0x7f] {
            for is_verified in [false, true] {
                let arrival = Arrival {
                    is_verified,
                    ..port.into()
                };
                let handed = Arrival {
                    is_handed_over: true,
                    ..arrival
                };
                assert_eq!(Arrival::from_tag(arrival.tag()), handed);
            }
        }
        assert_eq!(Arrival::from(3).tag(), 3);
    }
}
