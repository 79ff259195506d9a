//! `oom_score_adj`, the kernel's per-process kill order: the only ranking this daemon knows.

use std::fmt;

/// A value of `/proc/PID/oom_score_adj`: -1000 (never kill) to 1000 (kill first).
///
/// Source of the range: `OOM_SCORE_ADJ_MIN` and `OOM_SCORE_ADJ_MAX` in the kernel's
/// `include/uapi/linux/oom.h`. The named levels are those of Android's `ProcessList`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OomScoreAdj(i16);

impl OomScoreAdj {
    /// The lowest value; a process at it is never chosen by anyone.
    pub const MIN: Self = Self(-1000);
    /// The highest value.
    pub const MAX: Self = Self(1000);
    /// Android's `FOREGROUND_APP_ADJ`, and the default of a process on plain Linux. Nothing below
    /// it is ever a victim.
    pub const FOREGROUND: Self = Self(0);
    /// Android's `PERCEPTIBLE_APP_ADJ`. At or below it the heaviest candidate is taken, above it
    /// the least recently used.
    pub const PERCEPTIBLE: Self = Self(200);
    /// The lowest value that AOSP calls less than perceptible: the floor of a mild kill.
    pub const ABOVE_PERCEPTIBLE: Self = Self(201);
    /// Android's `PREVIOUS_APP_ADJ`.
    pub const PREVIOUS: Self = Self(700);
    /// Android's `SYSTEM_ADJ`, the value of system_server.
    pub const SYSTEM: Self = Self(-900);
    /// How many values there are.
    pub const COUNT: usize = 2001;

    /// The value, if it is within -1000..=1000.
    #[must_use]
    pub fn new(value: i32) -> Option<Self> {
        let value = i16::try_from(value).ok()?;
        (-1000..=1000).contains(&value).then_some(Self(value))
    }

    /// The value, with what lies outside -1000..=1000 moved to the nearer end.
    #[must_use]
    pub fn saturating(value: i64) -> Self {
        i16::try_from(value.clamp(-1000, 1000)).map_or(Self::MIN, Self)
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0 as i32
    }

    /// Position in a table of [`Self::COUNT`] entries, -1000 first.
    #[must_use]
    pub fn slot(self) -> usize {
        // In range by construction, so the fallback is never taken.
        usize::try_from(i32::from(self.0).saturating_add(1000)).unwrap_or(0)
    }

    /// The value at a position of [`Self::slot`].
    #[must_use]
    pub fn from_slot(slot: usize) -> Option<Self> {
        Self::new(i32::try_from(slot).ok()?.checked_sub(1000)?)
    }
}

impl fmt::Display for OomScoreAdj {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_refuses_what_the_kernel_refuses() {
        assert_eq!(OomScoreAdj::new(1001), None);
        assert_eq!(OomScoreAdj::new(-1001), None);
        assert_eq!(OomScoreAdj::new(i32::MIN), None);
        assert_eq!(OomScoreAdj::new(-1000), Some(OomScoreAdj::MIN));
        assert_eq!(OomScoreAdj::new(1000), Some(OomScoreAdj::MAX));
    }

    #[test]
    fn saturating_moves_to_the_nearer_end() {
        assert_eq!(OomScoreAdj::saturating(i64::MAX), OomScoreAdj::MAX);
        assert_eq!(OomScoreAdj::saturating(i64::MIN), OomScoreAdj::MIN);
        assert_eq!(OomScoreAdj::saturating(7).get(), 7);
    }

    #[test]
    fn slot_and_from_slot_are_inverse_over_the_whole_range() {
        for slot in 0..OomScoreAdj::COUNT {
            assert_eq!(OomScoreAdj::from_slot(slot).map(OomScoreAdj::slot), Some(slot));
        }
        assert_eq!(OomScoreAdj::from_slot(OomScoreAdj::COUNT), None);
    }
}
