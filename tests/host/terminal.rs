//! A terminal whose screen is the test.

use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

/// A pseudo-terminal: what is on its screen can be read from the first, programs write to the other.
pub fn open() -> (File, OwnedFd) {
    let (mut screen, mut terminal) = (-1, -1);
    let (name, modes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: both numbers are written to places that outlive the call; null asks for the rest not
    // to be told or set.
    let result = unsafe { libc::openpty(&mut screen, &mut terminal, name, modes, size) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: both were just opened, and nothing else knows them.
    unsafe { (File::from_raw_fd(screen), OwnedFd::from_raw_fd(terminal)) }
}
