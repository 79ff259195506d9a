//! pidfd_open(2), pidfd_send_signal(2), process_mrelease(2) and PIDFD_GET_INFO.

use super::check;
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

// Numbers that all architectures share; older bionic and libc headers lack some of them.
const SYS_PIDFD_SEND_SIGNAL: libc::c_long = 424;
const SYS_PIDFD_OPEN: libc::c_long = 434;
const SYS_PROCESS_MRELEASE: libc::c_long = 448;

/// `struct pidfd_info` of `include/uapi/linux/pidfd.h`, as far as Linux 6.15 fills it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct PidfdInfo {
    /// In: what is wanted. Out: what is there, `INFO_*`.
    pub mask: u64,
    cgroup_id: u64,
    /// Process id in the caller's pid namespace.
    pub pid: u32,
    /// Thread group id.
    pub tgid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Real user id.
    pub ruid: u32,
    rgid: u32,
    /// Effective user id.
    pub euid: u32,
    egid: u32,
    suid: u32,
    sgid: u32,
    fsuid: u32,
    fsgid: u32,
    /// Exit status in the form of wait(2), if `mask` has [`PIDFD_INFO_EXIT`].
    pub exit_code: i32,
    coredump_mask: u32,
    spare: u32,
}

/// [`PidfdInfo::mask`]: the user and group ids are there.
pub const PIDFD_INFO_CREDS: u64 = 1 << 1;
/// [`PidfdInfo::mask`]: the exit status is there (Linux 6.15).
pub const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)` with the 64-byte first version of the structure: every
/// kernel that has the call fills at least these, and copies no more than the size says.
const PIDFD_GET_INFO: u32 = 0xC040_FF0B;

/// `pidfd_open(pid, 0)`: the process with this id, named for as long as the descriptor lives.
///
/// # Errors
///
/// ESRCH if there is no such process; EINVAL (ENOENT on newer kernels) if the id is a thread's;
/// ENOSYS before Linux 5.3; EMFILE, ENFILE when descriptors run out.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let fd = check(unsafe { libc::syscall(SYS_PIDFD_OPEN, pid, 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows of it. It sets
    // O_CLOEXEC on every pidfd.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `pidfd_send_signal(pidfd, signal, NULL, 0)`. Signal 0 only asks whether the process is there.
///
/// # Errors
///
/// ESRCH if the process has been reaped; EPERM if it may not be signalled.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let no_info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open for the call, and a null siginfo is what the call documents
    // for "as kill(2) would fill it".
    check(unsafe { libc::syscall(SYS_PIDFD_SEND_SIGNAL, pidfd.as_raw_fd(), signal, no_info, 0) })?;
    Ok(())
}

/// `process_mrelease(pidfd, 0)`: frees the memory of a dying process from here.
///
/// # Errors
///
/// EINVAL if it is not dying; ESRCH if its memory is already gone; EAGAIN to be tried again;
/// ENOSYS before Linux 5.15.
pub fn process_mrelease(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: process_mrelease takes two integers and touches no memory of ours.
    check(unsafe { libc::syscall(SYS_PROCESS_MRELEASE, pidfd.as_raw_fd(), 0) })?;
    Ok(())
}

/// `process_mrelease(-1, 0)`, which does nothing: whether the kernel knows the call.
#[must_use]
pub fn process_mrelease_exists() -> bool {
    // SAFETY: as in `process_mrelease`; -1 is refused with EBADF.
    let answer = check(unsafe { libc::syscall(SYS_PROCESS_MRELEASE, -1, 0) });
    answer != Err(Errno::NOSYS)
}

/// `ioctl(pidfd, PIDFD_GET_INFO)` asking for `mask`.
///
/// # Errors
///
/// ENOTTY before Linux 6.13; ESRCH if the process was reaped and `mask` or the kernel (before
/// 6.15) lacks [`PIDFD_INFO_EXIT`].
pub fn pidfd_get_info(pidfd: BorrowedFd<'_>, mask: u64) -> Result<PidfdInfo, Errno> {
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    let out: *mut PidfdInfo = &raw mut info;
    // SAFETY: the request number carries the size of the structure's first version, 64 bytes; the
    // kernel reads and writes at most that much, and `info` is larger, writable and outlives the
    // call. Every bit pattern is a valid `PidfdInfo`.
    #[allow(clippy::cast_possible_wrap, reason = "bionic and musl declare the request as c_int")]
    check(libc::c_long::from(unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO as _, out) }))?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::process::Command;

    #[test]
    fn a_thread_id_is_refused() {
        let tid =
            std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get()).join().unwrap();
        assert!(pidfd_open(tid).is_err());
    }

    #[test]
    fn the_exit_status_outlives_the_process_where_the_kernel_tells_it() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(i32::try_from(child.id()).unwrap()).unwrap();
        pidfd_send_signal(pidfd.as_fd(), 0).unwrap();
        pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL).unwrap();
        child.wait().unwrap();
        assert_eq!(pidfd_send_signal(pidfd.as_fd(), 0), Err(Errno::SRCH));
        if let Ok(info) = pidfd_get_info(pidfd.as_fd(), PIDFD_INFO_EXIT) {
            assert_ne!(info.mask & PIDFD_INFO_EXIT, 0);
            assert_eq!(info.exit_code, libc::SIGKILL);
        }
    }

    #[test]
    fn a_living_process_keeps_its_memory() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = pidfd_open(i32::try_from(child.id()).unwrap()).unwrap();
        assert_eq!(process_mrelease(pidfd.as_fd()), Err(Errno::INVAL));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
