//! The way of frames between a host and the appliance, in fair weather and foul.

use crate::random::Random;
use serde::{Deserialize, Serialize};

/// Frames that a clogged link holds back in each direction; what comes beyond is lost.
const CLOGGED_MAX: usize = 256;

/// What befalls frames, in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Weather {
    /// Lost, of a thousand.
    pub lost: u16,
    /// Twice, of a thousand.
    pub doubled: u16,
    /// Overtaken by later ones, of a thousand.
    pub late: u16,
    /// Damaged, of a thousand.
    pub damaged: u16,
    /// How much longer each takes, in microseconds.
    pub delay_us: u32,
    /// None arrives.
    pub parted: bool,
    /// None arrives before this is over.
    pub clogged: bool,
}

/// One direction.
#[derive(Debug)]
pub struct Link {
    weather: Weather,
    random: Random,
    /// Frames keep their order unless one is late.
    last_us: u64,
    held: Vec<Vec<u8>>,
    /// What was lost here.
    pub lost: u64,
}

/// How long a frame takes at the least, and how much longer in fair weather, in microseconds.
const WAY_US: (u64, u64) = (8, 20);

impl Link {
    /// A link in fair weather.
    pub fn new(seed: u64, number: u64) -> Self {
        Self {
            weather: Weather::default(),
            random: Random::new(seed, 0x11_0000 + number),
            last_us: 0,
            held: Vec::new(),
            lost: 0,
        }
    }

    /// The weather changes. Returns what was held back until now.
    pub fn change(&mut self, weather: Weather) -> Vec<Vec<u8>> {
        self.weather = weather;
        if weather.clogged {
            return Vec::new();
        }
        std::mem::take(&mut self.held)
    }

    /// A frame sets out at `now_us`: `arrive` is told when it, or what became of it, arrives.
    pub fn send(&mut self, now_us: u64, mut frame: Vec<u8>, mut arrive: impl FnMut(u64, Vec<u8>)) {
        let Weather {
            lost,
            doubled,
            late,
            damaged,
            delay_us,
            parted,
            clogged,
        } = self.weather;
        if parted || self.random.per_mille(lost) {
            self.lost += 1;
            return;
        }
        if clogged {
            if self.held.len() < CLOGGED_MAX {
                self.held.push(frame);
            } else {
                self.lost += 1;
            }
            return;
        }
        let way_us = WAY_US.0 + self.random.below(WAY_US.1) + u64::from(delay_us);
        let mut at_us = (now_us + way_us).max(self.last_us);
        if self.random.per_mille(late) {
            at_us += self.random.below(3_000 + 2 * u64::from(delay_us));
        } else {
            self.last_us = at_us;
        }
        if self.random.per_mille(doubled) {
            let again_us = at_us + self.random.below(20_000);
            arrive(again_us, frame.clone());
        }
        if self.random.per_mille(damaged) {
            // Within one byte: the Internet checksum finds any such damage.
            let at = self.random.below(frame.len() as u64) as usize;
            frame[at] ^= self.random.between(1, 255) as u8;
        }
        arrive(at_us, frame);
    }
}
