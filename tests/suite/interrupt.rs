//! SIGINT and SIGTERM end the suite where it can put everything back.

use anyhow::bail;
use anyhow::Result;
use lmkd::sys::signal::SignalFd;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RESTORING: AtomicBool = AtomicBool::new(false);

/// From now on the signals are only noted. Call it before there is a second thread.
pub fn watch() -> Result<()> {
    let signals = SignalFd::block(&[libc::SIGINT, libc::SIGTERM, libc::SIGHUP])?;
    std::thread::spawn(move || {
        while poll(&mut [PollFd::new(&signals, PollFlags::IN)], None).is_ok() {
            if signals.take().is_some() {
                INTERRUPTED.store(true, Ordering::Relaxed);
            }
        }
    });
    Ok(())
}

/// From now on all is put back, which no signal ends.
pub fn put_off() {
    RESTORING.store(true, Ordering::Relaxed);
}

/// An error once there was such a signal.
pub fn check() -> Result<()> {
    if !RESTORING.load(Ordering::Relaxed) && INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
