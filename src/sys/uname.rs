//! uname(2), which rustix has in a part that AOSP builds it without.

use super::check;

/// `__NEW_UTS_LEN` of `include/uapi/linux/utsname.h`, and the NUL at the end.
pub const RELEASE: usize = 65;

/// The release of the running kernel, as in `/proc/sys/kernel/osrelease`; that file is not for every
/// SELinux domain. Empty if the kernel does not tell.
pub fn release(into: &mut [u8; RELEASE]) -> &[u8] {
    let mut name = std::mem::MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: the call writes a utsname, for which there is room, and reads nothing.
    if check(libc::c_long::from(unsafe { libc::uname(name.as_mut_ptr()) })).is_err() {
        return &[];
    }
    // SAFETY: zeroes are a valid utsname, which is texts alone; and the call has filled it.
    let name = unsafe { name.assume_init() };
    let mut length: usize = 0;
    for (to, from) in into.iter_mut().zip(name.release).take_while(|(_, from)| *from != 0) {
        *to = u8::from_ne_bytes(from.to_ne_bytes());
        length = length.saturating_add(1);
    }
    into.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_that_of_proc() {
        let proc = std::fs::read("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(release(&mut [0; RELEASE]), proc.trim_ascii());
    }
}
