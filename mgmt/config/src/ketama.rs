//! How ketama divides its ring. Routing builds the ring with it, and the configuration's warnings ask it who gets nothing.

/// Points of a server with the average weight.
pub const KETAMA_POINTS_PER_SERVER: u16 = 160;
/// Points that one MD5 digest gives.
pub const KETAMA_POINTS_PER_DIGEST: u16 = 4;

/// How many digests a live server of weight `weight` gets. The arithmetic is twemproxy's, in single precision, step by step:
/// another order of operations moves servers across a rounding edge.
pub fn ketama_digests(weight: u32, live_weight: u64, live_servers: usize) -> u32 {
    let share = weight as f32 / live_weight as f32;
    let points = share * f32::from(KETAMA_POINTS_PER_SERVER);
    let digests = points / f32::from(KETAMA_POINTS_PER_DIGEST) * live_servers as f32;
    (f64::from(digests) + 1e-10) as f32 as u32
}

#[cfg(test)]
mod tests {
    use super::ketama_digests;

    #[test]
    fn equal_weights_get_40_digests_or_39_where_single_precision_rounds_down() {
        assert_eq!(ketama_digests(1, 1, 1), 40);
        assert_eq!(ketama_digests(1, 3, 3), 40);
        for servers in 1..200 {
            let digests = ketama_digests(1, servers, servers as usize);
            assert!((39..=40).contains(&digests), "{servers}: {digests}");
        }
    }

    #[test]
    fn weights_divide_the_ring_and_tiny_ones_get_nothing() {
        let of_six = [1, 2, 3].map(|weight| ketama_digests(weight, 6, 3));
        assert_eq!(of_six, [20, 40, 60]);
        assert_eq!(ketama_digests(1, 1_001, 2), 0);
    }
}
