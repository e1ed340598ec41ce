use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn the_short_paths_take_what_they_are_for() {
    for stream in [
        "get k\r\n",
        "get 0123456789abcdef\r\nget",
        "set k 0 0 3\r\nabc\r\n",
        "set key 4294967 60 10\r\n0123456789\r\nget",
    ] {
        assert!(parse_frequent(stream.as_bytes()).is_some(), "{stream:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn the_short_paths_say_what_the_general_one_says(
        words in vec(prop::sample::select(vec!["k", "key", "", "0", "7", "03", "-1", "2147483648", "999999999", "12345678901", "noreply", "k\t"]), 0..6),
        name in prop::sample::select(vec!["get", "set", "gets"]),
        end in prop::sample::select(vec!["\r\n", "\n", "\r", ""]),
        block in prop::sample::select(vec!["\r\n", "abc\r\n", "0123456\r\n", "xy\r\n\r\n", ""]),
        long in prop::option::weighted(0.1, 240..260_usize),
    ) {
        let mut stream = format!("{name} {}", "l".repeat(long.unwrap_or(0)));
        stream += &words.join(" ");
        stream += end;
        stream += block;
        if let Some(short) = parse_frequent(stream.as_bytes()) {
            prop_assert_eq!(Parsed::Whole(short), parse_line(stream.as_bytes(), &mut Resume::default()), "{:?}", stream);
        }
    }
}
