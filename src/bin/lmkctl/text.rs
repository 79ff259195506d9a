//! Times as text.

use std::fmt;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// A moment of the wall clock, as RFC 3339 with milliseconds, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Utc(pub SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = date(days);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}", second % 60)?;
        write!(f, ".{:03}Z", since.subsec_millis())
    }
}

/// The date, so many days after 1970-01-01.
///
/// Counts from 1 March of the year 0, so that a leap day is the last of its year; 400 years have
/// 146,097 days, and five months from March on have 153.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// A duration in the unit that suits it: `35us`, `4.19ms`, `2.50s`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            0..1000 => write!(f, "{micros}us"),
            1000..1_000_000 => write!(f, "{}.{:02}ms", micros / 1000, micros % 1000 / 10),
            _ => write!(f, "{}.{:02}s", micros / 1_000_000, micros % 1_000_000 / 10_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let at = |seconds| Utc(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(1_709_251_200), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59.000Z");
        let later = UNIX_EPOCH + Duration::from_millis(1_763_902_584_042);
        assert_eq!(Utc(later).to_string(), "2025-11-23T12:56:24.042Z");
    }

    #[test]
    fn spans_have_three_figures_or_so() {
        let of = |micros| Span(Duration::from_micros(micros)).to_string();
        assert_eq!([of(35), of(4193), of(2_501_000)], ["35us", "4.19ms", "2.50s"]);
    }
}
