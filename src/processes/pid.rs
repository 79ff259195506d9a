//! A process id that can be a victim's.

use std::fmt;

/// The id of a process that may be registered: neither 0, nor 1 (init), nor beyond what a kernel
/// ever hands out (`PID_MAX_LIMIT`, 4194304 on 64-bit kernels).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

impl Pid {
    /// The highest id of any kernel.
    pub const LIMIT: i32 = 4 * 1024 * 1024;

    /// The id, if a process other than init can have it.
    #[must_use]
    pub fn new(pid: i32) -> Option<Self> {
        (2..=Self::LIMIT).contains(&pid).then_some(Self(pid))
    }

    /// The plain number.
    #[must_use]
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_and_what_no_process_can_have_are_no_pids() {
        for pid in [i32::MIN, -1, 0, 1, Pid::LIMIT + 1, i32::MAX] {
            assert_eq!(Pid::new(pid), None);
        }
        assert_eq!(Pid::new(2).map(Pid::get), Some(2));
        assert_eq!(Pid::new(Pid::LIMIT).map(Pid::get), Some(Pid::LIMIT));
    }
}
