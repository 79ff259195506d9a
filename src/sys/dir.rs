//! Reading a directory without the heap: getdents64(2).

use super::check;
use rustix::io::Errno;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// `getdents64(dir, buffer)`: fills `buffer` with the next entries of an open directory and
/// returns how many bytes they take; 0 at the end. See [`names`].
///
/// # Errors
///
/// ENOENT if the directory is gone (a process that has exited); EINVAL if the buffer is too small
/// for one entry.
pub fn getdents64(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which is writable and
    // outlives the call.
    let filled = check(unsafe {
        libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    })?;
    usize::try_from(filled).map_err(|_| Errno::INVAL)
}

/// The entry names in what [`getdents64`] filled.
///
/// An entry is `struct linux_dirent64`: inode (8 bytes), offset (8), entry length (2), type (1),
/// name with its NUL (`include/linux/dirent.h`).
pub fn names(filled: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = filled;
    std::iter::from_fn(move || {
        let length = u16::from_ne_bytes(*rest.get(16..)?.first_chunk()?);
        let (entry, after) = rest.split_at_checked(usize::from(length.max(1)))?;
        rest = after;
        let name = entry.get(19..)?;
        name.split(|byte| *byte == 0).next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_directory_is_listed_in_small_pieces() {
        let dir = std::fs::File::open("/proc/self").unwrap();
        let mut buffer = [0_u8; 64];
        let mut found = Vec::new();
        loop {
            let filled = getdents64(dir.as_fd(), &mut buffer).unwrap();
            if filled == 0 {
                break;
            }
            found.extend(names(&buffer[..filled]).map(<[u8]>::to_vec));
        }
        assert!(found.contains(&b"status".to_vec()));
        assert!(found.contains(&b"task".to_vec()));
    }

    #[test]
    fn a_torn_entry_ends_the_list() {
        assert_eq!(names(&[0; 10]).count(), 0);
        assert_eq!(names(&[0xff; 40]).count(), 0);
        assert_eq!(names(&[0; 40]).count(), 0);
    }
}
