//! CLOCK_MONOTONIC as a type of its own.
//!
//! `std::time::Instant` is CLOCK_BOOTTIME on Android, whose toolchain patches std; lmkd's windows
//! and timeouts are defined on CLOCK_MONOTONIC, so it is read explicitly and passed on as a value.

use std::fmt;

/// A moment on CLOCK_MONOTONIC, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonoTime {
    nanos: u64,
}

const NANOS_PER_SEC: u64 = 1_000_000_000;

impl MonoTime {
    /// The moment the clock started.
    pub const ZERO: Self = Self { nanos: 0 };

    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let secs = u64::try_from(t.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
        Self { nanos: secs.saturating_mul(NANOS_PER_SEC).saturating_add(nanos) }
    }

    /// `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self { nanos }
    }

    /// `millis` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self { nanos: millis.saturating_mul(1_000_000) }
    }

    /// Nanoseconds since the clock's start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.nanos
    }

    /// This moment, `millis` later; a negative number counts as none.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        let nanos = u64::try_from(millis).unwrap_or(0).saturating_mul(1_000_000);
        Self { nanos: self.nanos.saturating_add(nanos) }
    }

    /// Milliseconds since `earlier`, as AOSP's lmkd counts them: the difference of the seconds
    /// plus the difference of the nanoseconds truncated toward zero. Negative if `earlier` is later.
    ///
    /// It can come out one higher than the rounded-down distance; thresholds are compared with
    /// this very number there, so they are here.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> i64 {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let secs = signed(self.nanos / NANOS_PER_SEC) - signed(earlier.nanos / NANOS_PER_SEC);
        let nanos = signed(self.nanos % NANOS_PER_SEC) - signed(earlier.nanos % NANOS_PER_SEC);
        secs.saturating_mul(1000).saturating_add(nanos / 1_000_000)
    }

    /// Microseconds since `earlier`; 0 if `earlier` is later.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.nanos.saturating_sub(earlier.nanos) / 1000
    }
}

impl fmt::Display for MonoTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.nanos / NANOS_PER_SEC, self.nanos % NANOS_PER_SEC / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_truncate_seconds_and_nanoseconds_apart() {
        let t = MonoTime::from_nanos;
        assert_eq!(t(1_000_000_000).millis_since(t(999_999_500)), 1);
        assert_eq!(t(2_500_000_000).millis_since(t(1_499_000_000)), 1001);
        assert_eq!(t(1_000_000).millis_since(t(3_000_000)), -2);
    }

    #[test]
    fn extremes_saturate() {
        let end = MonoTime::from_nanos(u64::MAX);
        assert_eq!(end.plus_millis(1), end);
        assert_eq!(MonoTime::ZERO.micros_since(end), 0);
        assert!(end.millis_since(MonoTime::ZERO) > 0);
        assert!(MonoTime::ZERO.millis_since(end) < 0);
    }

    #[test]
    fn now_moves_forward() {
        let a = MonoTime::now();
        assert!(MonoTime::now() >= a);
        assert!(a > MonoTime::ZERO);
    }
}
