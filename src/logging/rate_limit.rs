//! One line per interval for what can repeat without end.

use crate::clock::MonoTime;
use std::fmt;

/// Lets one message through per interval and counts the others.
///
/// Lives beside what it limits, so that one kind of message cannot silence another's first line.
#[derive(Clone, Debug)]
pub struct RateLimit {
    interval_ms: i64,
    last: Option<MonoTime>,
    skipped: u32,
}

/// How many messages were held back since the last one let through. Prints as nothing, or as a
/// remark to end a line with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped(pub u32);

impl RateLimit {
    /// One message in `interval_ms` milliseconds.
    #[must_use]
    pub const fn every_millis(interval_ms: i64) -> Self {
        Self { interval_ms, last: None, skipped: 0 }
    }

    /// Whether a message may be logged now, and how many were not since the last.
    pub fn admit(&mut self, now: MonoTime) -> Option<Skipped> {
        if self.last.is_some_and(|last| now.millis_since(last) < self.interval_ms) {
            self.skipped = self.skipped.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(Skipped(std::mem::take(&mut self.skipped)))
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more since the last such line)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_passes_and_the_next_tells_how_many_did_not() {
        let mut limit = RateLimit::every_millis(1000);
        let at = MonoTime::from_millis;
        assert_eq!(limit.admit(at(0)), Some(Skipped(0)));
        assert_eq!(limit.admit(at(1)), None);
        assert_eq!(limit.admit(at(999)), None);
        assert_eq!(limit.admit(at(1000)), Some(Skipped(2)));
        assert_eq!(limit.admit(at(2000)), Some(Skipped(0)));
    }

    #[test]
    fn nothing_skipped_prints_as_nothing() {
        assert_eq!(Skipped(0).to_string(), "");
        assert_eq!(Skipped(2).to_string(), " (2 more since the last such line)");
    }
}
