//! A place in which a descriptor passes from one thread to another without a lock.

use std::os::fd::FromRawFd;
use std::os::fd::IntoRawFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Holds one descriptor and a number beside it, or nothing. Whoever takes it owns it: two threads
/// can never use, or close, the same descriptor.
#[derive(Debug, Default)]
pub struct FdSlot(AtomicU64);

impl FdSlot {
    /// An empty slot is 0, so a descriptor is kept one higher than it is, above its number.
    const SHIFT: u32 = 32;

    /// Puts a descriptor in; what was in the slot before is closed.
    pub fn put(&self, fd: OwnedFd, number: u32) {
        let raw = u64::from(fd.into_raw_fd().unsigned_abs());
        let packed = raw.saturating_add(1) << Self::SHIFT | u64::from(number);
        drop(Self::unpack(self.0.swap(packed, Ordering::AcqRel)));
    }

    /// Takes out what is in the slot.
    pub fn take(&self) -> Option<(OwnedFd, u32)> {
        Self::unpack(self.0.swap(0, Ordering::AcqRel))
    }

    fn unpack(packed: u64) -> Option<(OwnedFd, u32)> {
        let number = u32::try_from(packed & u64::from(u32::MAX)).ok()?;
        let raw = i32::try_from((packed >> Self::SHIFT).checked_sub(1)?).ok()?;
        // SAFETY: `put` gave up this descriptor when it stored it, and every way out of the slot
        // swaps it out, so it is handed out once.
        Some((unsafe { OwnedFd::from_raw_fd(raw) }, number))
    }
}

impl Drop for FdSlot {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::EventfdFlags;

    /// A descriptor of its own, and a second one that tells how many others there are.
    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap()
    }

    fn is_closed(reader: &OwnedFd) -> bool {
        // End of file instead of EAGAIN: nobody can write any more.
        rustix::io::read(reader, &mut [0_u8]) == Ok(0)
    }

    #[test]
    fn what_was_put_in_is_taken_out_once() {
        let slot = FdSlot::default();
        assert!(slot.take().is_none());
        let fd = rustix::event::eventfd(7, EventfdFlags::CLOEXEC).unwrap();
        slot.put(fd, u32::MAX);
        let (fd, number) = slot.take().unwrap();
        assert_eq!(number, u32::MAX);
        let mut count = [0_u8; 8];
        rustix::io::read(&fd, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 7);
        assert!(slot.take().is_none());
    }

    #[test]
    fn what_is_replaced_or_left_behind_is_closed() {
        let (first, writer) = pipe();
        let slot = FdSlot::default();
        slot.put(writer, 0);
        assert!(!is_closed(&first));
        let (second, writer) = pipe();
        slot.put(writer, 0);
        assert!(is_closed(&first));
        assert!(!is_closed(&second));
        drop(slot);
        assert!(is_closed(&second));
    }
}
