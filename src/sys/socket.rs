//! Sockets: taking over a descriptor by number, and who sent a packet.
//!
//! rustix names the sender by a type that cannot be 0; but a sender in another pid namespace has
//! pid 0 here, so credentials are read with libc.

use super::check;
use rustix::io::Errno;
use std::io;
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

/// Room for one `struct ucred`, aligned for its header.
#[repr(C, align(8))]
struct Control([u8; 64]);

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

/// recvmsg(2) without waiting: the length of what was put into `buffer`, and its sender if the
/// socket has SO_PASSCRED. 0 bytes are an empty packet or the end; descriptors that came with it are dropped.
///
/// # Errors
///
/// EAGAIN if nothing is there; else those of recvmsg(2).
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Option<Credentials>), Errno> {
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr: null pointers and no lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: CMSG_SPACE only computes. With room for one ucred and no more, the kernel has none
    // left for descriptors and closes them itself.
    let room = unsafe { libc::CMSG_SPACE(u32::try_from(size_of::<libc::ucred>()).unwrap_or(0)) };
    header.msg_controllen = room as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: header points at buffers that outlive the call, with their true lengths.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, flags) };
    if got < 0 {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        return Err(Errno::from_raw_os_error(errno));
    }
    Ok((usize::try_from(got).unwrap_or(0), sender(&header)))
}

/// The SCM_CREDENTIALS of a message just received.
fn sender(header: &libc::msghdr) -> Option<Credentials> {
    // SAFETY: the kernel has filled the control buffer and its length, so CMSG_FIRSTHDR is null or
    // points at a whole cmsghdr inside it.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref()? };
    // SAFETY: CMSG_LEN only computes.
    let whole = unsafe { libc::CMSG_LEN(u32::try_from(size_of::<libc::ucred>()).unwrap_or(0)) };
    let len = u64::try_from(message.cmsg_len).unwrap_or(0);
    let is_ours = message.cmsg_level == libc::SOL_SOCKET
        && message.cmsg_type == libc::SCM_CREDENTIALS
        && len >= u64::from(whole);
    if !is_ours {
        return None;
    }
    // SAFETY: type and length say that a whole ucred follows; it is read without need of alignment,
    // and any bytes are a valid one.
    let ucred = unsafe { libc::CMSG_DATA(message).cast::<libc::ucred>().read_unaligned() };
    Some(Credentials { pid: ucred.pid, uid: ucred.uid })
}
