//! Sockets: taking over a descriptor by number, and who opened a connection.
//!
//! rustix names the sender by a type that cannot be 0; but a sender in another pid namespace has
//! pid 0 here, so credentials are read with libc.

use super::check;
use rustix::io::Errno;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

/// Who sent a packet, or opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process; 0 if that is in a pid namespace that is not visible from here.
    pub pid: i32,
    /// Its effective user, or what a privileged sender gave as such.
    pub uid: u32,
}

/// Makes the descriptor that this process has under `number` its own, close-on-exec from now on.
///
/// # Errors
///
/// EBADF if there is none.
pub fn adopt(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_GETFD and F_SETFD take integers, and fail on a number that is not open.
    check(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: the number is open, as fcntl succeeded. The caller has it from whoever started this
    // process, which means it for this one use; nobody else here owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// SO_PEERCRED: who opened this connection.
///
/// # Errors
///
/// Those of getsockopt(2).
pub fn peer_credentials(socket: BorrowedFd<'_>) -> Result<Credentials, Errno> {
    let mut ucred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    let value: *mut libc::ucred = &mut ucred;
    // SAFETY: `ucred` and `len` are ours, and `len` says how much the kernel may write.
    check(libc::c_long::from(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            value.cast(),
            &mut len,
        )
    }))?;
    Ok(Credentials { pid: ucred.pid, uid: ucred.uid })
}
