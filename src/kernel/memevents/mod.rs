//! Reclaim as the kernel's tracepoints tell it, through a BPF ring buffer.
//!
//! On Android the programs and the ring are AOSP's, put under `/sys/fs/bpf` at boot; elsewhere they
//! are our own (`program`). Both write the same records, so one reader serves both.

mod error;
mod gate;
mod program;
mod record;
mod source;
mod tracker;

#[cfg(test)]
mod tests;

pub use error::OpenError;
pub use gate::WakeGate;
pub use record::Event;
pub use record::Task;
pub use source::pin_programs;
pub use source::wish_as_vendor;
pub use tracker::ReclaimTracker;

use crate::clock::MonoTime;
use crate::sys::ring::Ring;
use crate::sys::ring::SharedWords;
use crate::sys::ring::Slot;
use crate::sys::ring::HEADER_LEN;
use record::Kind;
use record::RECORD_LEN;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// From one record's start to the next.
const STRIDE: u64 = RECORD_LEN as u64 + HEADER_LEN;

/// An open source of memory events.
///
/// Its descriptor is readable when something waits that is worth waking up for. There may be more
/// in the ring than that, so it pays to [`drain`](Self::drain) before every decision.
#[derive(Debug)]
pub struct MemEvents {
    ring_fd: OwnedFd,
    ring: Ring,
    /// Our own programs' count of lost records; only they stamp their records.
    shared: Option<SharedWords>,
    shared_lost: u64,
    lost: u64,
    unexpected: u64,
    kinds: Vec<Kind>,
    /// Programs stay at their tracepoints for as long as these live.
    _attached: Vec<OwnedFd>,
}

impl MemEvents {
    /// Opens what this machine has: AOSP's pinned programs where they are, else our own, else on
    /// Android nothing yet. Blocks on nothing; allocates.
    ///
    /// `spacing_ms`: our own programs wake the reader for the same kind of scarcity no more often.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why not, and whether to try again.
    pub fn open(spacing_ms: u32) -> Result<Self, OpenError> {
        source::open(spacing_ms)
    }

    /// Whether changes of the zones are reported, so that watermarks need no refresh by age.
    #[must_use]
    pub fn has_zoneinfo_events(&self) -> bool {
        self.kinds.contains(&Kind::UpdateZoneinfo)
    }

    /// Whether the vendor's kernel can ask for kills.
    #[must_use]
    pub fn has_vendor_kills(&self) -> bool {
        self.kinds.contains(&Kind::VendorKill)
    }

    /// Whether the programs are our own, with task and time in every record.
    #[must_use]
    pub fn is_stamped(&self) -> bool {
        self.shared.is_some()
    }

    /// How often events were lost because the ring was full.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Records that were skipped because of their size or kind.
    #[must_use]
    pub const fn unexpected(&self) -> u64 {
        self.unexpected
    }

    /// Hands out the events that wait, oldest first, at most a ring full: what comes in meanwhile
    /// keeps the descriptor readable. `now` is the time of events that have none.
    ///
    /// Allocates nothing and makes no system call.
    pub fn drain(&mut self, now: MonoTime, mut on: impl FnMut(Event)) {
        let start = self.ring.consumed();
        let mut position = start;
        let mut was_full = false;
        loop {
            let waiting = self.ring.produced().wrapping_sub(position);
            if waiting == 0 || position.wrapping_sub(start) >= self.ring.size() {
                break;
            }
            let (len, finished) = match self.ring.slot(position) {
                Slot::Busy => break,
                Slot::Discarded(len) => (len, false),
                Slot::Record(len) => (len, true),
            };
            let stride = (u64::from(len) + HEADER_LEN).next_multiple_of(8);
            if stride > waiting {
                // No kernel writes this. Give up on what is there rather than on the ring.
                self.unexpected = self.unexpected.saturating_add(1);
                self.ring.publish(position.wrapping_add(waiting));
                was_full = true;
                break;
            }
            if finished {
                let event = (len == RECORD_LEN)
                    .then(|| Event::read(&self.ring.words(position), self.is_stamped(), now));
                match event.flatten() {
                    Some(event) => on(event),
                    None => self.unexpected = self.unexpected.saturating_add(1),
                }
            }
            self.ring.publish(position.wrapping_add(stride));
            // Up to this moment writers have counted from the position before: while a record was
            // handed out, and whatever else kept this thread, they may have run out of room.
            let used = self.ring.produced().wrapping_sub(position);
            was_full |= used.saturating_add(STRIDE) > self.ring.size();
            position = position.wrapping_add(stride);
        }
        if self.has_lost(was_full) {
            self.lost = self.lost.saturating_add(1);
            on(Event::Lost);
        }
    }

    /// Whether records are missing: our own programs count them; of AOSP's ring it is only known
    /// that it had no room for another one.
    fn has_lost(&mut self, was_full: bool) -> bool {
        match &self.shared {
            Some(shared) => {
                let before = std::mem::replace(&mut self.shared_lost, shared.word(program::LOST));
                before != self.shared_lost
            }
            None => was_full,
        }
    }
}

impl AsFd for MemEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring_fd.as_fd()
    }
}
