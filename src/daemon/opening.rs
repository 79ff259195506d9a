//! Opening the source of reclaim events on a thread of its own.
//!
//! Attaching BPF programs waits for the kernel's grace periods, tens of milliseconds; the loop must
//! not wait with it.

use super::Daemon;
use crate::clock::MonoTime;
use crate::kernel::memevents::MemEvents;
use crate::kernel::memevents::OpenError;
use crate::sys::sched;
use rustix::event::EventfdFlags;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::Arc;

/// An attempt under way. Its descriptor is readable when it is over.
pub(super) struct Opening {
    bell: Arc<OwnedFd>,
    result: Receiver<Result<MemEvents, OpenError>>,
}

impl Opening {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// No thread or no descriptor is to be had.
    pub(super) fn start(spacing_ms: u32) -> std::io::Result<Self> {
        let bell = Arc::new(rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?);
        let (sender, result) = mpsc::sync_channel(1);
        let theirs = Arc::clone(&bell);
        std::thread::Builder::new().name("lmkd_memevents".to_owned()).spawn(move || {
            // After a boot the loop that starts this is real-time already.
            let _ = sched::set_normal(0);
            let _ = sender.send(MemEvents::open(spacing_ms));
            let _ = rustix::io::write(&*theirs, &1_u64.to_ne_bytes());
        })?;
        Ok(Self { bell, result })
    }

    /// The outcome, once the descriptor is readable.
    pub(super) fn take(self) -> Option<Result<MemEvents, OpenError>> {
        self.result.try_recv().ok()
    }
}

impl Daemon {
    /// Says so if tasks that reclaim memory for long are to be a reason to kill, and nothing tells
    /// of them.
    pub(super) fn warn_of_unheard_reclaim(&self) {
        let unheard = self.memevents.is_none() && self.opening.is_none();
        if unheard && self.tunables.direct_reclaim_threshold_ms > 0 {
            log::warn!(
                "direct_reclaim_threshold_ms has no effect: nothing tells of direct reclaim"
            );
        }
    }
}

impl AsFd for Opening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.bell).as_fd()
    }
}

/// When something is tried again that could not be had: the boot loader of BPF programs may yet put
/// them in their place, a pressure file may come back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Retry {
    due: Option<MonoTime>,
    /// Attempts that have failed.
    count: u32,
    /// The pause before the attempt that is due, ms.
    pause_ms: i64,
}

impl Retry {
    /// Shortest and longest pause, ms. A loader is late by seconds; on releases without these
    /// programs it never comes, and an attempt is a few failing calls. They stay as they have grown:
    /// what is had and lost again and again is asked for less and less often.
    const PAUSE_MS: (i64, i64) = (10_000, 300_000);

    /// Another attempt has failed: one more, each after twice the pause of the last.
    pub(super) fn later(&mut self, now: MonoTime) {
        let (shortest, longest) = Self::PAUSE_MS;
        self.pause_ms = self.pause_ms.saturating_mul(2).clamp(shortest, longest);
        self.due = Some(now.plus_millis(self.pause_ms));
        self.count = self.count.saturating_add(1);
    }

    /// What is asked for has not come yet, which is no failure of the kernel's: as [`Self::later`], but
    /// it is not counted.
    pub(super) fn until_it_comes(&mut self, now: MonoTime) {
        self.later(now);
        self.count = 1;
    }

    /// An attempt begins, or none is needed any more.
    pub(super) fn stop(&mut self) {
        self.due = None;
    }

    /// Whether an attempt has failed before.
    pub(super) const fn is_again(&self) -> bool {
        self.count > 0
    }

    /// How many attempts have failed before the one that is under way.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// When the next attempt is due; None while none is.
    pub(super) const fn due(&self) -> Option<MonoTime> {
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_ten_seconds_apart_at_first_and_five_minutes_in_the_end() {
        let mut retry = Retry::default();
        assert_eq!((retry.due(), retry.is_again()), (None, false));
        let mut now = MonoTime::from_millis(5000);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            retry.later(now);
            let due = retry.due().unwrap();
            assert_eq!(due.millis_since(now), seconds * 1000);
            retry.stop();
            assert_eq!((retry.due(), retry.is_again()), (None, true));
            now = due;
        }
        assert_eq!(retry.count(), 7);
    }
}
