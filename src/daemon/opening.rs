//! Opening the source of reclaim events on a thread of its own.
//!
//! Attaching BPF programs waits for the kernel's grace periods, tens of milliseconds; the loop must
//! not wait with it.

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

impl AsFd for Opening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        (*self.bell).as_fd()
    }
}
