//! A process as a pidfd: the one name that no other process can ever get.

use crate::sys;
use rustix::event::EventfdFlags;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// A process, from the moment this was opened and for good.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By this signal.
    Signal(i32),
    /// On its own, with this status.
    Status(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(libc::SIGKILL) => write!(f, "SIGKILL"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Status(status) => write!(f, "exit status {status}"),
        }
    }
}

impl Exit {
    /// From the form of wait(2): the signal in the low seven bits, else the status above them.
    #[must_use]
    pub const fn from_wait(code: i32) -> Self {
        match code & 0x7f {
            0 => Self::Status(code >> 8 & 0xff),
            signal => Self::Signal(signal),
        }
    }
}

impl PidFd {
    /// Opens the process that has this id now.
    ///
    /// # Errors
    ///
    /// See [`sys::pidfd::pidfd_open`].
    pub fn open(pid: i32) -> Result<Self, Errno> {
        sys::pidfd::pidfd_open(pid).map(Self)
    }

    /// Sends SIGKILL.
    ///
    /// # Errors
    ///
    /// ESRCH if the process has been reaped, EPERM if it may not be signalled. A process that has
    /// exited but was not reaped accepts the signal; see [`Self::has_exited`].
    pub fn kill(&self) -> Result<(), Errno> {
        sys::pidfd::pidfd_send_signal(self.0.as_fd(), libc::SIGKILL)
    }

    /// Whether the process is there and has not exited, which proves that its id is still its own:
    /// an id is free only once its process has been reaped. Of one that has exited this is false,
    /// though it keeps its id until then.
    ///
    /// A poll, not a signal 0: for that SELinux wants `process:signull`, which Android's policy does
    /// not give to lmkd.
    #[must_use]
    pub fn holds_its_pid(&self) -> bool {
        self.poll() == Some(PollFlags::empty())
    }

    /// Whether all its threads have exited. Does not wait.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        self.poll().is_some_and(|seen| !seen.is_empty())
    }

    /// Whether its parent has taken note of its exit. Before Linux 6.9 the kernel does not tell, and
    /// this is false.
    #[must_use]
    pub fn was_reaped(&self) -> bool {
        self.poll().is_some_and(|seen| seen.contains(PollFlags::HUP))
    }

    /// What poll(2) says now; None if it fails.
    fn poll(&self) -> Option<PollFlags> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&now)).ok()?;
        Some(fds[0].revents())
    }

    /// How the process ended, if it has and the kernel tells (Linux 6.15, once it was reaped).
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let wanted = sys::pidfd::PIDFD_INFO_EXIT;
        let info = sys::pidfd::pidfd_get_info(self.0.as_fd(), wanted).ok()?;
        if info.mask & wanted == 0 {
            return None;
        }
        Some(Exit::from_wait(info.exit_code))
    }

    /// A number that no other process has or will have until the machine stops, if the kernel gives
    /// one (Linux 6.9): the inode of pidfs.
    #[must_use]
    pub fn inode(&self) -> Option<NonZeroU64> {
        let own = rustix::fs::fstat(&self.0).ok()?;
        // Before, all pidfds were of one inode of the file system that eventfds are of. Which one a
        // descriptor is of is not asked with fstatfs(2): SELinux has no label for either.
        if i128::from(own.st_dev) == anonymous()? {
            return None;
        }
        NonZeroU64::new(own.st_ino)
    }

    /// A second descriptor of the same process, for another thread.
    ///
    /// # Errors
    ///
    /// EMFILE when descriptors run out.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.0, 0).map(Self)
    }

    /// Whether this kernel tells exit statuses at all (Linux 6.13 knows the call, 6.15 answers).
    #[must_use]
    pub fn kernel_tells_exit() -> bool {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let Ok(me) = Self::open(me) else { return false };
        sys::pidfd::pidfd_get_info(me.0.as_fd(), sys::pidfd::PIDFD_INFO_EXIT).is_ok()
    }

    /// Frees the memory of the dying process from here.
    ///
    /// # Errors
    ///
    /// See [`sys::pidfd::process_mrelease`].
    pub fn mrelease(&self) -> Result<(), Errno> {
        sys::pidfd::process_mrelease(self.0.as_fd())
    }
}

/// The device number of the kernel's file system of anonymous inodes.
fn anonymous() -> Option<i128> {
    static DEVICE: OnceLock<i128> = OnceLock::new();
    if let Some(device) = DEVICE.get() {
        return Some(*device);
    }
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).ok()?;
    let device = i128::from(rustix::fs::fstat(&event).ok()?.st_dev);
    Some(*DEVICE.get_or_init(|| device))
}

impl From<OwnedFd> for PidFd {
    /// A descriptor that is a pidfd; with any other every call fails.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.0
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn child(program: &str, argument: &str) -> (std::process::Child, PidFd) {
        let child = Command::new(program).arg(argument).spawn().unwrap();
        let pidfd = PidFd::open(i32::try_from(child.id()).unwrap()).unwrap();
        (child, pidfd)
    }

    #[test]
    fn a_killed_process_is_seen_to_exit_by_sigkill() {
        let (mut child, pidfd) = child("sleep", "60");
        assert!(!pidfd.has_exited());
        assert_eq!(pidfd.exit(), None);
        pidfd.kill().unwrap();
        child.wait().unwrap();
        assert!(pidfd.has_exited());
        assert!(!pidfd.holds_its_pid());
        assert!(matches!(pidfd.exit(), None | Some(Exit::Signal(libc::SIGKILL))));
        assert_eq!(pidfd.kill(), Err(Errno::SRCH));
    }

    #[test]
    fn an_id_is_not_trusted_from_the_exit_on_and_free_from_the_reaping_on() {
        let (mut child, pidfd) = child("sleep", "60");
        assert!(pidfd.holds_its_pid());
        assert!(!pidfd.was_reaped());
        pidfd.kill().unwrap();
        let mut exit = [PollFd::new(&pidfd, PollFlags::IN)];
        rustix::event::poll(&mut exit, None).unwrap();
        assert!(pidfd.has_exited());
        assert!(!pidfd.holds_its_pid());
        assert!(!pidfd.was_reaped(), "its parent has not waited for it");
        child.wait().unwrap();
        assert!(!pidfd.holds_its_pid());
        // Whoever tells exit statuses, from 6.15 on, tells this too.
        assert!(pidfd.was_reaped() || !PidFd::kernel_tells_exit());
    }

    #[test]
    fn a_process_has_one_inode_and_no_other_process_has_it() {
        let (mut first, pidfd) = child("sleep", "60");
        let again = PidFd::open(i32::try_from(first.id()).unwrap()).unwrap();
        assert_eq!(pidfd.inode(), again.inode());
        let (mut second, other) = child("sleep", "60");
        assert!(pidfd.inode().is_none() || pidfd.inode() != other.inode());
        for child in [&mut first, &mut second] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_process_that_left_on_its_own_is_told_from_a_killed_one() {
        let (mut child, pidfd) = child("sleep", "not-a-number");
        child.wait().unwrap();
        assert!(matches!(pidfd.exit(), None | Some(Exit::Status(1))));
    }
}
