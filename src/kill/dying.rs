//! Victims that had to leave the watch before they had exited.
//!
//! Nothing more is told of them, but they must not be chosen again.

use super::Flight;
use crate::pidfd::PidFd;

/// How many are remembered; a machine where more victims do not die has other troubles.
const MOST: usize = 32;

/// Their ids and pidfds, the oldest first. Never grows.
#[derive(Debug)]
pub(super) struct Dying(Vec<(i32, PidFd)>);

impl Dying {
    pub fn new() -> Self {
        Self(Vec::with_capacity(MOST))
    }

    /// Remembers a victim, unless it has exited.
    pub fn keep(&mut self, flight: Flight) {
        let Flight { victim, pidfd, .. } = flight;
        if pidfd.has_exited() {
            return;
        }
        if self.0.len() >= MOST {
            // The oldest that has exited makes way, else the oldest.
            let gone = self.0.iter().position(|(_, pidfd)| pidfd.has_exited());
            self.0.remove(gone.unwrap_or(0));
        }
        self.0.push((victim.pid, pidfd));
    }

    /// The ids of those that have not exited.
    pub fn pids(&self) -> impl Iterator<Item = i32> + '_ {
        self.0.iter().filter(|(_, pidfd)| !pidfd.has_exited()).map(|(pid, _)| *pid)
    }

    pub fn has(&self, pid: i32) -> bool {
        self.0.iter().any(|(of, pidfd)| *of == pid && !pidfd.has_exited())
    }
}
