//! Memory shared with BPF programs: the ring of BPF_MAP_TYPE_RINGBUF and the values of an array.
//!
//! The ring's layout is that of `kernel/bpf/ringbuf.c` (Linux 5.8): one page with the consumer's
//! position, which we write; then, read-only, one page with the producer's position and the data
//! mapped twice in a row, so that a record that wraps still lies in one piece. Positions only
//! grow; their low bits are the place in the data. Positions are 64 bits wide, as 64-bit kernels
//! have them.

use rustix::io::Errno;
use rustix::mm::mmap;
use rustix::mm::munmap;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::fence;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Bytes before each record: a u32 of length and flags, a u32 that is not ours.
pub const HEADER_LEN: u64 = 8;
/// Being written still.
const BUSY: u32 = 1 << 31;
/// Given up by its writer: nothing to read.
const DISCARDED: u32 = 1 << 30;

/// What stands at a position of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A record that its writer has not finished.
    Busy,
    /// A record of this many bytes that holds nothing.
    Discarded(u32),
    /// A finished record of this many bytes.
    Record(u32),
}

/// The consumer's side of a ring. Nobody else may consume from it.
#[derive(Debug)]
pub struct Ring {
    consumer: Mapping,
    producer: Mapping,
    page: usize,
    size: u64,
}

impl Ring {
    /// Maps the ring of `size` bytes, a power of two.
    ///
    /// # Errors
    ///
    /// EINVAL if `size` is no power of two; what mmap(2) says, EPERM among it.
    pub fn map(fd: BorrowedFd<'_>, size: u32) -> Result<Self, Errno> {
        let page = rustix::param::page_size();
        let data = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        let len = data.checked_mul(2).and_then(|n| n.checked_add(page)).ok_or(Errno::INVAL)?;
        if !size.is_power_of_two() {
            return Err(Errno::INVAL);
        }
        let offset = u64::try_from(page).map_err(|_| Errno::INVAL)?;
        Ok(Self {
            consumer: Mapping::new(fd, page, ProtFlags::READ | ProtFlags::WRITE, 0)?,
            producer: Mapping::new(fd, len, ProtFlags::READ, offset)?,
            page,
            size: u64::from(size),
        })
    }

    /// Bytes that fit.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Where the next record to read stands.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.consumer.u64_at(0)
    }

    /// Up to where records have been begun.
    #[must_use]
    pub fn produced(&self) -> u64 {
        let position = self.producer.u64_at(0);
        // An acquiring load, in the form that is allowed on read-only memory. It pairs with the
        // kernel's release: headers below the position are seen as busy or later, never as before.
        fence(Ordering::Acquire);
        position
    }

    /// What stands at a position from [`Self::consumed`] up to [`Self::produced`].
    #[must_use]
    pub fn slot(&self, position: u64) -> Slot {
        let header = self.producer.u32_at(self.place(position));
        // Pairs with the writer's exchange of the header: without the busy bit, the record is there.
        fence(Ordering::Acquire);
        let len = header & !(BUSY | DISCARDED);
        if header & BUSY != 0 {
            Slot::Busy
        } else if header & DISCARDED != 0 {
            Slot::Discarded(len)
        } else {
            Slot::Record(len)
        }
    }

    /// The record at a position, in words; words past the mapping read as 0.
    #[must_use]
    pub fn words<const N: usize>(&self, position: u64) -> [u64; N] {
        let start = self.place(position).saturating_add(8);
        std::array::from_fn(|i| self.producer.u64_at(start.saturating_add(i.saturating_mul(8))))
    }

    /// Gives everything below `position` back to the writers.
    pub fn publish(&self, position: u64) {
        if let Some(word) = self.consumer.atomic_u64(0) {
            word.store(position, Ordering::Release);
        }
        // A writer notifies us only if it finds us caught up with its record. So our next look at
        // its header must not come before this store, or both sides could miss each other.
        fence(Ordering::SeqCst);
    }

    /// Offset of a position in the producer's mapping.
    fn place(&self, position: u64) -> usize {
        let offset = usize::try_from(position & (self.size - 1)).unwrap_or(0);
        self.page.saturating_add(offset & !7)
    }
}

/// The values of an array map, which programs write and we read.
#[derive(Debug)]
pub struct SharedWords(Mapping);

impl SharedWords {
    /// Maps the first page of an array made with `MAP_MMAPABLE`.
    ///
    /// # Errors
    ///
    /// What mmap(2) says.
    pub fn map(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        Ok(Self(Mapping::new(fd, rustix::param::page_size(), ProtFlags::READ, 0)?))
    }

    /// The u64 with this index; 0 past the page.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.0.u64_at(index.saturating_mul(8))
    }
}

/// A shared mapping that others write to, so it is read by atomic loads alone.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and all access is atomic.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, len: usize, prot: ProtFlags, offset: u64) -> Result<Self, Errno> {
        // SAFETY: no address is asked for, so the kernel picks one that nothing else uses.
        let base = unsafe { mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, offset) }?;
        Ok(Self { base: NonNull::new(base.cast()).ok_or(Errno::FAULT)?, len })
    }

    fn atomic_u64(&self, offset: usize) -> Option<&AtomicU64> {
        let end = offset.checked_add(size_of::<u64>())?;
        (end <= self.len && offset.is_multiple_of(8)).then(|| {
            // SAFETY: the word lies inside the mapping, which lives as long as `self`; the base is
            // a page's start and the offset a multiple of 8. Read-only mappings are only loaded
            // from, relaxed: `atomic_u64` is private and `publish` uses the writable one.
            unsafe { AtomicU64::from_ptr(self.base.add(offset).as_ptr().cast()) }
        })
    }

    fn u64_at(&self, offset: usize) -> u64 {
        self.atomic_u64(offset).map_or(0, |word| word.load(Ordering::Relaxed))
    }

    fn u32_at(&self, offset: usize) -> u32 {
        let inside = offset.checked_add(size_of::<u32>()).is_some_and(|end| end <= self.len);
        if !inside || !offset.is_multiple_of(4) {
            return 0;
        }
        // SAFETY: as in `atomic_u64`, for a multiple of 4 and a relaxed load.
        unsafe { AtomicU32::from_ptr(self.base.add(offset).as_ptr().cast()) }
            .load(Ordering::Relaxed)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference into it outlives `self`. A failure could
        // only mean that it is not mapped, and there is nothing to do about that.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
