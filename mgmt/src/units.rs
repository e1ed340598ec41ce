//! Times and amounts as people read them.

use std::time::UNIX_EPOCH;

/// This moment, in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_millis() as u64)
}

/// A moment given in microseconds since 1970, to the millisecond.
pub fn utc(unix_us: u64) -> String {
    let (seconds, millis) = (unix_us / 1_000_000, unix_us / 1_000 % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}")
}

/// Year, month and day of the `days`th day after 1970-01-01, by the Gregorian calendar. Years are counted from March, so that a leap
/// day is the last of its year, in eras of 400 years, which all have the same number of days.
fn date(days: u64) -> (u64, u64, u64) {
    const ERA_DAYS: u64 = 146_097;
    // 0000-03-01 was so many days before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, later) = if month_from_march < 10 {
        (month_from_march + 3, 0)
    } else {
        (month_from_march - 9, 1)
    };
    (era * 400 + year_of_era + later, month, day)
}

/// A length of time, with three digits at most before and one behind the point.
pub fn duration(us: u64) -> String {
    let (unit_us, unit) = match us {
        0..1_000 => return format!("{us} µs"),
        1_000..1_000_000 => (1_000, "ms"),
        _ => (1_000_000, "s"),
    };
    let tenths = us / (unit_us / 10);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01 00:00:00.000"),
            (68_169_599, "1972-02-28 23:59:59.000"),
            (68_169_600, "1972-02-29 00:00:00.000"),
            (951_782_400, "2000-02-29 00:00:00.000"),
            (1_700_000_000, "2023-11-14 22:13:20.000"),
            (4_107_542_400, "2100-03-01 00:00:00.000"),
        ] {
            assert_eq!(utc(unix_s * 1_000_000), text);
        }
        assert_eq!(utc(1_999), "1970-01-01 00:00:00.001");
        assert!(!utc(u64::MAX).is_empty());
    }

    #[test]
    fn lengths_of_time_have_few_digits() {
        for (us, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.0 ms"),
            (25_349, "25.3 ms"),
            (999_999, "999.9 ms"),
            (5_000_000, "5.0 s"),
        ] {
            assert_eq!(duration(us), text);
        }
    }
}
