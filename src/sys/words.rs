//! Memory of the kernel's, word by word: present only where it was touched.

use rustix::io::Errno;
use rustix::mm::mmap_anonymous;
use rustix::mm::munmap;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use std::mem::size_of;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Words that are 0 until they are written. An allocation of as many would be written at once, and
/// be resident from then on.
#[derive(Debug)]
pub struct Words {
    base: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread.
unsafe impl Send for Words {}
// SAFETY: a shared reference gives access to atomics only.
unsafe impl Sync for Words {}

impl Words {
    /// As many words, 1 at least.
    ///
    /// # Errors
    ///
    /// ENOMEM.
    pub fn new(len: usize) -> Result<Self, Errno> {
        let len = len.max(1);
        let bytes = len.checked_mul(size_of::<AtomicU64>()).ok_or(Errno::NOMEM)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so the kernel picks one that nothing else uses.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, prot, MapFlags::PRIVATE) }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::FAULT)?, len })
    }

    /// All of them.
    #[must_use]
    pub fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has `len` words, is aligned to a page and zeroed, which is a valid
        // value; it lives as long as `self`, and nobody has a mutable reference into it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        let bytes = self.len.saturating_mul(size_of::<AtomicU64>());
        // SAFETY: the mapping is ours, and no reference into it outlives `self`. A failure could
        // only mean that it is not mapped, and there is nothing to do about that.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn words_are_zero_until_they_are_written() {
        let words = Words::new(3000).unwrap();
        let all = words.as_slice();
        assert_eq!(all.len(), 3000);
        assert!(all.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        all[2999].store(7, Ordering::Relaxed);
        assert_eq!(words.as_slice()[2999].load(Ordering::Relaxed), 7);
    }
}
