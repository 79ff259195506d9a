//! Sets a property for the loop, on a thread of its own.
//!
//! Whoever sets a property waits for init's answer, and init may wait for memory. The thread takes
//! the latest value that the loop wants to be set; what it did not get to set before that is not news.

use crate::sys::sched;
use rustix::event::EventfdFlags;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::fence;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// Longest value of a property, without its NUL: bionic refuses a longer one.
pub(super) const VALUE_MAX: usize = 91;
/// As many words as hold that with a NUL.
const WORDS: usize = VALUE_MAX / 8 + 1;
/// The thread's stack, bytes.
const STACK: usize = 64 * 1024;

/// A handle of the thread.
pub(super) struct Publisher {
    shared: Arc<Shared>,
}

/// The value, written by the loop alone: a lock might be held by a thread that gets no CPU.
struct Shared {
    /// Counts up before and after each change: odd while there is one.
    version: AtomicU64,
    words: [AtomicU64; WORDS],
    bell: OwnedFd,
}

impl Publisher {
    /// Starts a thread that gives each value to `set`, in the normal class.
    ///
    /// # Errors
    ///
    /// No thread or no descriptor is to be had.
    pub(super) fn start(
        set: impl Fn(&str) -> Result<(), Errno> + Send + 'static,
        name: &'static str,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            version: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            bell: rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?,
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("lmkd_property".to_owned())
            .stack_size(STACK)
            .spawn(move || theirs.run(set, name))?;
        Ok(Self { shared })
    }

    /// Has this value set, as far as a property has room for it, in place of one that is not set yet.
    pub(super) fn publish(&self, value: &str) {
        self.shared.write(value.as_bytes());
        // Cannot block: the counter would have to be at its 64-bit end.
        let _ = rustix::io::write(&self.shared.bell, &1_u64.to_ne_bytes());
    }
}

impl Shared {
    fn run(&self, set: impl Fn(&str) -> Result<(), Errno>, name: &str) {
        let _ = sched::set_normal(0);
        loop {
            match rustix::io::read(&self.bell, &mut [0_u8; 8]) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
            // One that changes just now is announced afterwards.
            let Some(value) = self.read() else { continue };
            let length = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            let text = value.get(..length).and_then(|text| std::str::from_utf8(text).ok());
            if let Err(error) = text.map_or(Err(Errno::INVAL), &set) {
                log::warn!("{name} cannot be set: {error}");
            }
        }
    }

    fn write(&self, value: &[u8]) {
        let value = value.get(..VALUE_MAX).unwrap_or(value);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (index, word) in self.words.iter().enumerate() {
            let mut bytes = [0; 8];
            let rest = value.get(index.saturating_mul(8)..).unwrap_or_default();
            bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// None while it changes.
    fn read(&self) -> Option<[u8; WORDS * 8]> {
        let before = self.version.load(Ordering::Acquire);
        let mut value = [0; WORDS * 8];
        for (bytes, word) in value.chunks_exact_mut(8).zip(&self.words) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        fence(Ordering::Acquire);
        let whole = before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before;
        whole.then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_value_that_waits_is_replaced_by_the_next_and_nobody_waits() {
        let (began, begins) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let publisher = Publisher::start(
            move |value| {
                began.send(value.to_owned()).unwrap();
                answers.recv().unwrap()
            },
            "a.property",
        )
        .unwrap();
        publisher.publish("first");
        assert_eq!(begins.recv().unwrap(), "first");
        // Init does not answer.
        publisher.publish("second and longer");
        publisher.publish("third");
        answer.send(Err(Errno::PERM)).unwrap();
        assert_eq!(begins.recv().unwrap(), "third");
        answer.send(Ok(())).unwrap();
        publisher.publish("");
        assert_eq!(begins.recv().unwrap(), "");
        answer.send(Ok(())).unwrap();
    }

    #[test]
    fn what_a_property_has_no_room_for_is_left_out() {
        let (said, says) = mpsc::channel();
        let set = move |value: &str| {
            said.send(value.to_owned()).unwrap();
            Ok(())
        };
        let publisher = Publisher::start(set, "a.property").unwrap();
        publisher.publish(&"x".repeat(1000));
        assert_eq!(says.recv().unwrap(), "x".repeat(VALUE_MAX));
    }

    #[test]
    fn a_value_that_changes_while_it_is_read_is_not_taken() {
        let shared = Shared {
            version: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            bell: rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        };
        shared.write(b"whole");
        assert!(shared.read().is_some_and(|value| value.starts_with(b"whole\0")));
        shared.version.fetch_add(1, Ordering::Relaxed);
        assert_eq!(shared.read(), None);
    }
}
