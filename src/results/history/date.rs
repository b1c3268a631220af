//! Days of the calendar, UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A day, as days since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(i64);

impl Date {
    /// By this machine's clock.
    pub fn today() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self::of_unix(now.map_or(0, |d| d.as_secs()))
    }

    /// Of seconds since 1970.
    pub fn of_unix(seconds: u64) -> Self {
        Self((seconds / 86_400) as i64)
    }

    /// So many days later.
    pub fn later(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// Its digits, as in 20261126.
    pub fn digits(self) -> u32 {
        let (year, month, day) = self.parts();
        u32::try_from(year * 10_000 + month * 100 + day).unwrap_or(0)
    }

    /// Year, month and day of the Gregorian calendar: years begin in March, so that a leap day is their last.
    fn parts(self) -> (i64, i64, i64) {
        let days = self.0 + 719_468;
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        (year, month, day)
    }

    fn of_parts(year: i64, month: i64, day: i64) -> Self {
        let year = year - i64::from(month <= 2);
        let era = year.div_euclid(400);
        let of_era = year.rem_euclid(400);
        let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
        let days = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
        Self(era * 146_097 + days - 719_468)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Date {
    type Err = String;

    /// `2026-11-26`, and nothing else.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?}: expected a date as in 2026-11-26");
        let numbers: Option<Vec<i64>> = text.split('-').map(|n| n.parse().ok()).collect();
        let Some([year, month, day]) = numbers.as_deref() else {
            return Err(wrong());
        };
        let date = Self::of_parts(*year, *month, *day);
        // A 31st of February is another day, and is written otherwise.
        if date.to_string() == text {
            Ok(date)
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_as_calendars_do() {
        for (days, text) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_783, "2026-11-26"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(Date(days).to_string(), text);
            assert_eq!(text.parse(), Ok(Date(days)));
            assert_eq!(Date(days).digits().to_string(), text.replace('-', ""));
        }
        for days in 0..60_000 {
            assert_eq!(Date(days).to_string().parse(), Ok(Date(days)));
        }
        for wrong in ["2026-02-30", "2026-1-1", "today", "2026-11-26-1", ""] {
            assert!(wrong.parse::<Date>().is_err(), "{wrong}");
        }
    }
}
