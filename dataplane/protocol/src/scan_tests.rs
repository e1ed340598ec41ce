use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[test]
fn numbers_of_every_length_are_read() {
    for digits in 1..=DIGITS_MAX {
        for number in [10_i64.pow(digits as u32 - 1), 10_i64.pow(digits as u32) - 1] {
            for (line, value) in [
                (format!("{number}\r\n"), number),
                (format!("-{number}\r\n"), -number),
            ] {
                let expected = NumberLine::Number {
                    value,
                    end: line.len(),
                };
                assert_eq!(number_line(line.as_bytes(), 0), expected);
                assert_eq!(
                    number_line((line.clone() + "behind it").as_bytes(), 0),
                    expected
                );
                for end in 0..line.len() {
                    assert_eq!(
                        number_line(&line.as_bytes()[..end], 0),
                        NumberLine::Incomplete,
                        "{line:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_not_exactly_a_number_is_refused() {
    for line in [
        "\r\n",
        "-\r\n",
        "x\r\n",
        "1x\r\n",
        "12x\r\n",
        "123x\r\n",
        "00\r\n",
        "01\r\n",
        "012\r\n",
        "-0\r\n",
        "+1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1\n",
        "1\rx",
        "12\rx",
        "123\rx",
        "--1\r\n",
        "1000000000000000000\r\n",
        "1\r\r\n",
    ] {
        assert_eq!(number_line(line.as_bytes(), 0), NumberLine::Bad, "{line:?}");
        assert_eq!(
            number_line((line.to_owned() + "behind it").as_bytes(), 0),
            NumberLine::Bad,
            "{line:?}"
        );
    }
}

#[test]
fn positions_behind_the_end_find_nothing() {
    assert_eq!(find_byte(b"abc", 3, b'a'), None);
    assert_eq!(find_byte(b"abc", 9, b'a'), None);
    assert_eq!(token_end(b"abc", 9), 3);
    assert_eq!(number_line(b"1\r\n", 9), NumberLine::Incomplete);
    assert_eq!(word_at(b"12345678", 1), None);
}

proptest! {
    #[test]
    fn words_find_the_same_as_bytes_one_by_one(bytes in vec(prop_oneof![any::<u8>(), Just(b' '), Just(0x7f), Just(0x80), Just(0x21)], 0..40), at in 0..40_usize) {
        prop_assume!(at <= bytes.len());
        let rest = bytes[at..].iter();
        let plain = rest.clone().position(|&byte| byte <= b' ' || byte == 0x7f).map_or(bytes.len(), |place| at + place);
        prop_assert_eq!(token_end(&bytes, at), plain);
        for wanted in [b' ', b'\n', 0x80, 0x7f, 0] {
            prop_assert_eq!(find_byte(&bytes, at, wanted), rest.clone().position(|&byte| byte == wanted).map(|place| at + place));
        }
    }

    #[test]
    fn a_short_number_is_what_the_general_case_reads(text in "[0-9\r\nx-]{8}") {
        let word = word_at(text.as_bytes(), 0).expect("eight bytes");
        if let Some((value, bytes)) = short_number(word) {
            let expected = NumberLine::Number { value: i64::from(value), end: bytes };
            prop_assert_eq!(long_number_line(text.as_bytes(), 0), expected);
        }
    }
}
