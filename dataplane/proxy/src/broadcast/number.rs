//! The numbers in what servers tell about themselves: integers, and decimals of a few digits.

use crate::links::itoa;

/// Digits behind the point that are kept. Servers write at most six.
const FRACTION_DIGITS: usize = 6;

/// Most digits before the point: those of a number of 64 bits.
const INTEGER_DIGITS_MAX: usize = 20;

const ONE: i128 = 1_000_000;

/// Longest text of a number: sign, 39 digits, point and fraction, unit.
pub(super) const NUMBER_BYTES_MAX: usize = 64;

/// A decimal number, exactly as it was written, and the form it is to be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number {
    /// In millionths.
    pub millionths: i128,
    /// Digits behind the point.
    pub fraction_digits: u8,
    /// A `%` follows.
    pub percent: bool,
}

/// The text of a number.
pub(super) struct Text {
    bytes: [u8; NUMBER_BYTES_MAX],
    end: usize,
}

impl Text {
    const EMPTY: Self = Self {
        bytes: [0; NUMBER_BYTES_MAX],
        end: 0,
    };

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    fn push(&mut self, text: &[u8]) {
        let room = &mut self.bytes[self.end..];
        let n = text.len().min(room.len());
        room[..n].copy_from_slice(&text[..n]);
        self.end += n;
    }
}

impl Number {
    /// A whole number.
    pub fn whole(value: i128) -> Self {
        Self {
            millionths: value.saturating_mul(ONE),
            ..Self::default()
        }
    }

    /// Reads `12`, `-1`, `0.008713` or `99.58%`; `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (text, percent) = match text.strip_suffix(b"%") {
            Some(number) => (number, true),
            None => (text, false),
        };
        let (digits, negative) = match text.strip_prefix(b"-") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let point = digits.iter().position(|&byte| byte == b'.');
        let (integer, fraction) = match point {
            Some(at) => (&digits[..at], &digits[at + 1..]),
            None => (digits, &[][..]),
        };
        let sound = (1..=INTEGER_DIGITS_MAX).contains(&integer.len())
            && fraction.len() <= FRACTION_DIGITS
            && (point.is_none() || !fraction.is_empty());
        if !sound {
            return None;
        }
        let mut millionths = decimal(integer)? * ONE;
        let scale = 10i128.pow((FRACTION_DIGITS - fraction.len()) as u32);
        millionths += decimal(fraction)? * scale;
        Some(Self {
            millionths: if negative { -millionths } else { millionths },
            fraction_digits: fraction.len() as u8,
            percent,
        })
    }

    /// Adds another one; the sum is as exact as the more exact of both.
    pub fn add(&mut self, other: Self) {
        self.millionths = self.millionths.saturating_add(other.millionths);
        self.fraction_digits = self.fraction_digits.max(other.fraction_digits);
    }

    /// `self * other` for whole numbers.
    pub fn times(self, other: Self) -> Self {
        Self {
            millionths: self.millionths.saturating_mul(other.millionths / ONE),
            ..self
        }
    }

    /// `self / other` for whole numbers, rounded down; 0 where that has no meaning.
    pub fn average(self, other: Self) -> Self {
        let whole = self.millionths.checked_div(other.millionths).unwrap_or(0);
        Self::whole(whole)
    }

    /// `self / other` with two digits behind the point; 0 where that has no meaning.
    pub fn per(self, other: Self) -> Self {
        let hundredths = self
            .millionths
            .saturating_mul(100)
            .checked_div(other.millionths)
            .unwrap_or(0);
        Self {
            millionths: hundredths.saturating_mul(ONE / 100),
            fraction_digits: 2,
            percent: false,
        }
    }

    pub fn text(self) -> Text {
        let mut text = Text::EMPTY;
        if self.millionths < 0 {
            text.push(b"-");
        }
        let all = self.millionths.unsigned_abs();
        let one = ONE.unsigned_abs();
        push_decimal(&mut text, all / one);
        let digits = usize::from(self.fraction_digits).min(FRACTION_DIGITS);
        if digits > 0 {
            text.push(b".");
            let mut rest = all % one;
            for _ in 0..digits {
                rest *= 10;
                text.push(&[b'0' + (rest / one) as u8]);
                rest %= one;
            }
        }
        if self.percent {
            text.push(b"%");
        }
        text
    }

    /// A count of bytes as Redis writes it for people: `918.95K`.
    pub fn for_people(self) -> Text {
        let bytes = self.millionths.max(0) / ONE;
        let mut text = Text::EMPTY;
        let units = [
            (1i128 << 50, b"P"),
            (1 << 40, b"T"),
            (1 << 30, b"G"),
            (1 << 20, b"M"),
            (1 << 10, b"K"),
        ];
        let Some((unit, letter)) = units.iter().find(|(unit, _)| bytes >= *unit) else {
            push_decimal(&mut text, bytes.unsigned_abs());
            text.push(b"B");
            return text;
        };
        let rounded = (bytes * 100 + unit / 2) / unit;
        let number = Self {
            millionths: rounded * (ONE / 100),
            fraction_digits: 2,
            percent: false,
        };
        text.push(number.text().bytes());
        text.push(*letter);
        text
    }
}

/// Digits only.
fn decimal(digits: &[u8]) -> Option<i128> {
    digits.iter().try_fold(0i128, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| value * 10 + i128::from(digit))
    })
}

fn push_decimal(text: &mut Text, value: u128) {
    // Two halves, because most of what is printed has 64 bits.
    const HALF: u128 = 10_000_000_000_000_000_000;
    if value < HALF {
        return text.push(itoa(value as usize).bytes());
    }
    push_decimal(text, value / HALF);
    let low = itoa((value % HALF) as usize);
    for _ in low.bytes().len()..19 {
        text.push(b"0");
    }
    text.push(low.bytes());
}

#[cfg(test)]
mod tests {
    use super::Number;

    fn shown(text: &[u8]) -> Option<String> {
        let number = Number::parse(text)?;
        Some(String::from_utf8(number.text().bytes().to_vec()).unwrap())
    }

    #[test]
    fn numbers_are_written_as_they_were_read() {
        for text in [
            "0",
            "7",
            "-1",
            "18446744073709551615",
            "0.008713",
            "99.58%",
            "-3.5",
            "12345678901234567890",
        ] {
            assert_eq!(shown(text.as_bytes()).as_deref(), Some(text));
        }
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "1.2345678",
            "0x1",
            "+1",
            "1 ",
            "123456789012345678901",
        ] {
            assert_eq!(shown(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn sums_keep_every_digit_and_do_not_overflow() {
        let mut sum = Number::parse(b"0.5").unwrap();
        sum.add(Number::parse(b"1.25").unwrap());
        assert_eq!(sum.text().bytes(), b"1.75");
        let mut large = Number::parse(b"18446744073709551615").unwrap();
        for _ in 0..3 {
            large.add(large);
        }
        assert_eq!(large.text().bytes(), b"147573952589676412920");
        let third = Number::whole(10).per(Number::whole(3));
        assert_eq!(third.text().bytes(), b"3.33");
        assert_eq!(
            Number::whole(1).per(Number::whole(0)).text().bytes(),
            b"0.00"
        );
    }

    #[test]
    fn bytes_are_written_for_people_as_redis_does() {
        for (bytes, text) in [
            (0, "0B"),
            (200, "200B"),
            (941_008, "918.95K"),
            (12_140_544, "11.58M"),
            (25_276_502_016, "23.54G"),
        ] {
            let shown = Number::whole(bytes).for_people();
            assert_eq!(String::from_utf8_lossy(shown.bytes()), text);
        }
    }
}
