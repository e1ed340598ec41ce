use super::hash;
use tidegate_config::HashKind;

const APPLE: [(HashKind, u32); 12] = [
    (HashKind::OneAtATime, 2_297_466_611),
    (HashKind::Md5, 3_195_025_439),
    (HashKind::Crc16, 3_662_830_516),
    (HashKind::Crc32, 10_542),
    (HashKind::Crc32a, 2_838_417_488),
    (HashKind::Fnv1_64, 473_199_127),
    (HashKind::Fnv1a64, 1_488_911_807),
    (HashKind::Fnv1_32, 67_176_023),
    (HashKind::Fnv1a32, 280_767_167),
    (HashKind::Hsieh, 3_738_850_110),
    (HashKind::Murmur, 4_142_305_122),
    (HashKind::Jenkins, 1_442_444_624),
];

#[test]
fn every_hash_of_apple_is_twemproxys() {
    for (kind, value) in APPLE {
        assert_eq!(hash(kind, b"apple"), value, "{kind:?}");
    }
}

#[test]
fn bytes_above_127_are_sign_extended_where_twemproxy_does_it() {
    // One step of each formula by hand with the byte 0xff, which is -1 as a signed char.
    let minus_one = u32::MAX;
    assert_eq!(
        hash(HashKind::Fnv1a32, b"\xff"),
        (0x811c_9dc5 ^ minus_one).wrapping_mul(0x0100_0193)
    );
    assert_eq!(
        hash(HashKind::Fnv1_32, b"\xff"),
        0x811c_9dc5_u32.wrapping_mul(0x0100_0193) ^ minus_one
    );
    assert_eq!(
        hash(HashKind::Fnv1a64, b"\xff"),
        (0x8422_2325 ^ minus_one).wrapping_mul(0x1b3)
    );
    // The low half of a 64-bit FNV-1 of two bytes: the sign of the first one reaches it through the multiplication.
    let first = 0xcbf2_9ce4_8422_2325_u64.wrapping_mul(0x100_0000_01b3) ^ u64::MAX;
    assert_eq!(
        hash(HashKind::Fnv1_64, b"\xffa"),
        (first.wrapping_mul(0x100_0000_01b3) ^ 0x61) as u32
    );
    // Hsieh reads a tail of one byte as unsigned and the third byte of a tail of three as signed.
    assert_ne!(
        hash(HashKind::Hsieh, b"ab\xff"),
        hash(HashKind::Hsieh, b"ab\x7f")
    );
}

#[test]
fn checks_of_the_standard_test_string() {
    assert_eq!(hash(HashKind::Crc32a, b"123456789"), 0xcbf4_3926);
    assert_eq!(hash(HashKind::Crc32, b"123456789"), 0x4bf4);
    // CRC-16/XMODEM in the low half, leftovers above it.
    assert_eq!(hash(HashKind::Crc16, b"123456789") & 0xffff, 0x31c3);
}

#[test]
fn crc32_stays_below_32768() {
    for number in 0..2_000_u32 {
        assert!(hash(HashKind::Crc32, &number.to_le_bytes()) < 32_768);
    }
}

#[test]
fn no_length_of_key_panics() {
    let key = [0xa5_u8; 260];
    for (kind, _) in APPLE {
        for length in 0..key.len() {
            let _ = hash(kind, &key[..length]);
        }
    }
}
