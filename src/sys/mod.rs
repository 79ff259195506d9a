//! System calls that rustix lacks on Android, or has on no platform: the only unsafe code.
//!
//! Each wrapper is one call, safe by its signature: owned and borrowed descriptors in, values or
//! an [`Errno`] out. Nothing here allocates or logs.
#![allow(unsafe_code)]
#![allow(clippy::useless_conversion, reason = "a C long is 32 bits wide on some targets")]

pub mod bpf;
pub mod dir;
pub mod fd_slot;
pub mod heap;
pub mod inbox;
pub mod perf;
pub mod pidfd;
pub mod program;
#[cfg(target_os = "android")]
pub mod property;
pub mod ring;
pub mod sched;
pub mod signal;
pub mod socket;
pub mod uname;
pub mod words;

use rustix::io::Errno;

/// The result of a raw system call: what it returned, or the thread's errno.
fn check(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned < 0 {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Err(Errno::from_raw_os_error(errno))
    } else {
        Ok(returned)
    }
}
