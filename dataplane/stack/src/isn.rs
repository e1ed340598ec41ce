//! Where the sequence numbers of a connection begin.
//!
//! RFC 9293, section 3.4.1: "A TCP implementation MUST use the above type of "clock" for clock-driven selection of initial sequence
//! numbers (MUST-8), and SHOULD generate its initial sequence numbers with the expression: ISN = M + F(localip, localport, remoteip,
//! remoteport, secretkey) where M is the 4 microsecond timer, and F() is a pseudorandom function (PRF) of the connection's
//! identifying parameters". F makes the number of one connection say nothing of that of another, which is all that keeps somebody
//! who cannot see our answers from sending requests in a client's name. M makes a reused port's numbers begin behind the last ones,
//! so that a server whose old connection is in TIME-WAIT takes the new one.
//!
//! smoltcp draws the number from a generator that each interface has, whose state four numbers in a row give away. Which number it
//! draws next is decided here, by giving the interface a generator that stands right before it.

use crate::flow_table::FlowKey;
use crate::stack::Stack;

/// Microseconds per tick of RFC 9293's clock.
const TICK_US: u64 = 4;

/// smoltcp's generator (`rand.rs`): sPCG32, a step of which is a multiplication and an addition.
const MULTIPLIER: u64 = 0xbb2e_fcec_3c39_611d;
const INCREMENT: u64 = 0x7590_ef39;
const INVERSE: u64 = inverse(MULTIPLIER);
/// A state draws the 32 bits from here on where its three highest are zero.
const OUTPUT_SHIFT: u32 = 29;
/// What a new interface draws for itself (the identification of its first IPv4 packet).
const DRAWN_BY_INTERFACE: usize = 1;

/// The inverse of an odd number modulo 2**64, by Newton's method: each round doubles the bits that are right, and an odd number is
/// its own inverse in the lowest three.
const fn inverse(odd: u64) -> u64 {
    let mut inverse = odd;
    let mut bits = 3;
    while bits < 64 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
        bits *= 2;
    }
    inverse
}

const _: () = assert!(MULTIPLIER.wrapping_mul(INVERSE) == 1);

/// The seed of an interface whose next connection begins at `number`.
fn seed_before(number: u32) -> u64 {
    let drawing = u64::from(number) << OUTPUT_SHIFT;
    (0..=DRAWN_BY_INTERFACE).fold(drawing, |state, _| {
        state.wrapping_sub(INCREMENT).wrapping_mul(INVERSE)
    })
}

/// The number at which a connection begins.
fn initial_number(key: &FlowKey, secret: [u64; 2], now_us: u64) -> u32 {
    let clock = (now_us / TICK_US) as u32;
    clock.wrapping_add(key.hash(secret) as u32)
}

impl Stack {
    /// Lets the connection that is opened next on a port begin at the number that is its own.
    pub(crate) fn choose_initial_number(&mut self, key: &FlowKey, port: usize) {
        if let Some(state) = self.ports.get_mut(port) {
            let number = initial_number(key, self.isn_secret, self.now_us);
            state.renew_interface(seed_before(number), self.now_us);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{initial_number, inverse};
    use crate::flow_table::FlowKey;
    use proptest::prelude::*;

    fn key(local: &str, remote: &str) -> FlowKey {
        FlowKey::new(local.parse().unwrap(), remote.parse().unwrap())
    }

    #[test]
    fn numbers_of_a_connection_follow_the_clock_and_those_of_others_say_nothing() {
        let (one, other) = (
            key("10.0.0.1:40000", "10.0.0.2:80"),
            key("10.0.0.1:40001", "10.0.0.2:80"),
        );
        let secret = [1, 2];
        let first = initial_number(&one, secret, 1_000_000);
        let second = initial_number(&one, secret, 1_000_400);
        assert_eq!(second.wrapping_sub(first), 100);
        let third = initial_number(&other, secret, 1_000_000);
        assert!(third.abs_diff(first) > 1 << 16);
        assert_ne!(initial_number(&one, [1, 3], 1_000_000), first);
    }

    proptest! {
        #[test]
        fn an_inverse_undoes(odd: u64, number: u64) {
            let odd = odd | 1;
            prop_assert_eq!(number.wrapping_mul(odd).wrapping_mul(inverse(odd)), number);
        }
    }
}
