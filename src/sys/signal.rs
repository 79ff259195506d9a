//! Signals as a descriptor: signalfd(2).

use super::check;
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

/// Blocks signals for the calling thread and those it starts, and hands them out one at a time.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks `signals` and opens a non-blocking descriptor that is readable when one is pending.
    ///
    /// # Errors
    ///
    /// EMFILE when descriptors run out.
    pub fn block(signals: &[i32]) -> Result<Self, Errno> {
        // SAFETY: sigset_t is plain memory for which zero is a valid value; sigemptyset fills it
        // as this C library wants it.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is valid and writable for both calls.
        unsafe { libc::sigemptyset(&raw mut set) };
        for signal in signals {
            // SAFETY: `set` was initialised above; an invalid number is refused, not stored.
            unsafe { libc::sigaddset(&raw mut set, *signal) };
        }
        // SAFETY: `set` is initialised and only read; the old mask is not asked for.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        // SAFETY: as above; -1 asks for a new descriptor.
        let fd =
            unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        check(libc::c_long::from(fd))?;
        // SAFETY: the kernel has just made this descriptor and nobody else knows of it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal's number.
    #[must_use]
    pub fn take(&self) -> Option<i32> {
        // struct signalfd_siginfo is 128 bytes and begins with the number.
        let mut info = [0_u8; 128];
        let read = rustix::io::read(&self.0, &mut info).ok()?;
        let number: [u8; 4] = info.get(..read)?.first_chunk().copied()?;
        i32::try_from(u32::from_ne_bytes(number)).ok()
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_instead_of_acting() {
        let signals = SignalFd::block(&[libc::SIGUSR2]).unwrap();
        assert_eq!(signals.take(), None);
        let me = rustix::thread::gettid().as_raw_nonzero().get();
        // SAFETY: tgkill takes three integers; the signal is blocked in this thread.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), me, libc::SIGUSR2) };
        assert_eq!(signals.take(), Some(libc::SIGUSR2));
        assert_eq!(signals.take(), None);
    }
}
