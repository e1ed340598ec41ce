//! Numbers and names as they are shown.

/// A number in at most five characters.
pub fn number(value: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let mut value = value;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let unit = UNITS[unit];
    if value == 0.0 || value >= 99.95 {
        format!("{value:.0}{unit}")
    } else if unit.is_empty() && value >= 9.95 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}{unit}")
    }
}

/// Microseconds; a dash where there was nothing to measure.
pub fn time(us: Option<u64>) -> String {
    let Some(us) = us else {
        return "-".into();
    };
    let scaled = |value: f64, unit: &str| {
        let digits = usize::from(value < 99.95) + usize::from(value < 9.995);
        format!("{value:.digits$}{unit}")
    };
    match us {
        0..1_000 => format!("{us}µs"),
        1_000..1_000_000 => scaled(us as f64 / 1e3, "ms"),
        _ => scaled(us as f64 / 1e6, "s"),
    }
}

/// A name that somebody else chose: what cannot be seen, or turns its neighbours around, is written out.
pub fn name(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Only these of what is escaped can be seen.
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    shown
}

/// Time of day of a moment, in UTC.
pub fn clock(unix_ms: u64) -> String {
    let second = unix_ms / 1_000 % 86_400;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{hour:02}:{minute:02}:{:02} UTC", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        for (value, shown) in [
            (0.0, "0"),
            (0.04, "0.0"),
            (9.94, "9.9"),
            (42.4, "42"),
            (999.4, "999"),
            (999.5, "1.0k"),
            (81_234.0, "81.2k"),
            (120_412.0, "120k"),
            (999_600.0, "1.0M"),
            (1e18, "1000000T"),
        ] {
            assert_eq!(number(value), shown, "{value}");
        }
        for (us, shown) in [
            (Some(0), "0µs"),
            (Some(999), "999µs"),
            (Some(2_300), "2.30ms"),
            (Some(23_000), "23.0ms"),
            (Some(999_999), "1000ms"),
            (Some(1_200_000), "1.20s"),
            (None, "-"),
        ] {
            assert_eq!(time(us), shown, "{us:?}");
        }
        assert_eq!(clock(1_763_750_000_000), "18:33:20 UTC");
    }

    #[test]
    fn names_cannot_change_what_is_around_them() {
        assert_eq!(name("cache-a"), "cache-a");
        assert_eq!(name("a\"b\\ü"), "a\"b\\ü");
        let hostile = "\u{1b}[2J\u{202e}x\u{7}\u{200b}";
        assert_eq!(name(hostile), "\\u{1b}[2J\\u{202e}x\\u{7}\\u{200b}");
    }
}
