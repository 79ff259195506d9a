//! epoll with typed tokens.
//!
//! Level-triggered: a descriptor that is readable or hung up and stays in the set without being
//! handled turns the loop into a spin. Whoever adds one handles every event it can have.

use crate::policy::Level;
use rustix::event::epoll;
use rustix::event::epoll::EventData;
use rustix::event::epoll::EventFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

/// What an event is about. Where the thing behind it can be replaced, a generation tells an event
/// of its predecessor, which may still stand in the same batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// SIGTERM, SIGINT.
    Signals,
    /// A PSI monitor.
    Pressure(Level),
    /// The listening socket.
    Listener,
    /// A client's socket.
    Client {
        /// Its slot.
        slot: u32,
        /// Which client of that slot.
        generation: u32,
    },
    /// A registered process.
    Process {
        /// Its place in the registry.
        index: u32,
        /// Which process of that place.
        generation: u32,
    },
    /// A signalled victim.
    Victim {
        /// Its place among the flights.
        place: u32,
        /// Which victim of that place.
        ticket: u32,
    },
    /// The ring buffer of reclaim events.
    MemEvents,
}

const INDEX_BITS: u32 = 24;

impl Token {
    fn pack(self) -> u64 {
        let (kind, index, generation) = match self {
            Self::Signals => (0, 0, 0),
            Self::Pressure(Level::Low) => (1, 0, 0),
            Self::Pressure(Level::Medium) => (1, 1, 0),
            Self::Pressure(Level::Critical) => (1, 2, 0),
            Self::Listener => (2, 0, 0),
            Self::Client { slot, generation } => (3, slot, generation),
            Self::Process { index, generation } => (4, index, generation),
            Self::Victim { place, ticket } => (5, place, ticket),
            Self::MemEvents => (6, 0, 0),
        };
        debug_assert!(index < 1 << INDEX_BITS);
        let head: u64 = (kind << INDEX_BITS) | u64::from(index);
        head << 32 | u64::from(generation)
    }

    fn unpack(packed: u64) -> Option<Self> {
        let [k, i1, i2, i3, g1, g2, g3, g4] = packed.to_be_bytes();
        let index = u32::from_be_bytes([0, i1, i2, i3]);
        let generation = u32::from_be_bytes([g1, g2, g3, g4]);
        Some(match (k, index) {
            (0, _) => Self::Signals,
            (1, 0) => Self::Pressure(Level::Low),
            (1, 1) => Self::Pressure(Level::Medium),
            (1, 2) => Self::Pressure(Level::Critical),
            (2, _) => Self::Listener,
            (3, slot) => Self::Client { slot, generation },
            (4, index) => Self::Process { index, generation },
            (5, place) => Self::Victim { place, ticket: generation },
            (6, _) => Self::MemEvents,
            _ => return None,
        })
    }
}

/// What became of a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    /// Whose event it is.
    pub token: Token,
    /// Readable, or with urgent data.
    pub readable: bool,
    /// The other side is gone; for a pidfd (Linux 6.9), its process was reaped.
    pub hung_up: bool,
    /// The descriptor is in error.
    pub error: bool,
}

/// How many events one wait takes out of the kernel.
const BATCH: usize = 64;

/// The set of descriptors the loop waits on.
pub struct Reactor {
    epoll: OwnedFd,
    /// Filled by [`Self::wait`], read by [`Self::ready`].
    events: [MaybeUninit<epoll::Event>; BATCH],
    ready: [Option<Ready>; BATCH],
}

impl Reactor {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// EMFILE when descriptors run out.
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: [MaybeUninit::uninit(); BATCH], ready: [None; BATCH] })
    }

    /// Adds a descriptor that is waited on until it is readable.
    ///
    /// # Errors
    ///
    /// ENOSPC at `/proc/sys/fs/epoll/max_user_watches`.
    pub fn add(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::IN)
    }

    /// Adds a PSI monitor, whose events are urgent data.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub fn add_pressure(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::PRI)
    }

    /// Gives a descriptor that is in the set another token.
    ///
    /// # Errors
    ///
    /// ENOENT if it is not in the set.
    pub fn rename(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::IN)
    }

    /// From now on only a hang-up of this descriptor is of interest.
    ///
    /// # Errors
    ///
    /// ENOENT if it is not in the set.
    pub fn only_hang_up(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::modify(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::empty())
    }

    /// Takes a descriptor out. Needed while a duplicate of it lives on; otherwise closing does it.
    pub fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until something happens or `timeout_ms` is over (None: for ever; rounded by the
    /// kernel's timers only). Returns how many events there are; an interrupted wait has none.
    ///
    /// # Errors
    ///
    /// None in practice: the descriptor and the buffer are ours.
    pub fn wait(&mut self, timeout_ms: Option<i64>) -> Result<usize, Errno> {
        // Saturates at the kernel's longest int timeout, about 24.8 days.
        let timeout = timeout_ms.map(|ms| {
            let ms = ms.clamp(0, i64::from(i32::MAX));
            Timespec { tv_sec: ms / 1000, tv_nsec: (ms % 1000).saturating_mul(1_000_000) }
        });
        self.ready = [None; BATCH];
        let (events, _) = match epoll::wait(&self.epoll, &mut self.events, timeout.as_ref()) {
            Ok(filled) => filled,
            Err(Errno::INTR) => return Ok(0),
            Err(error) => return Err(error),
        };
        for (slot, event) in self.ready.iter_mut().zip(events.iter()) {
            let flags = event.flags;
            *slot = Token::unpack(event.data.u64()).map(|token| Ready {
                token,
                readable: flags.intersects(EventFlags::IN | EventFlags::PRI),
                hung_up: flags.contains(EventFlags::HUP),
                error: flags.contains(EventFlags::ERR),
            });
        }
        Ok(events.len())
    }

    /// An event of the last wait.
    #[must_use]
    pub fn ready(&self, index: usize) -> Option<Ready> {
        *self.ready.get(index)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_kernel() {
        let big = (1 << INDEX_BITS) - 1;
        for token in [
            Token::Signals,
            Token::Pressure(Level::Medium),
            Token::Pressure(Level::Critical),
            Token::Listener,
            Token::Client { slot: 15, generation: u32::MAX },
            Token::Process { index: big, generation: 0x89ab_cdef },
            Token::Victim { place: 3, ticket: 7 },
            Token::MemEvents,
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }

    #[test]
    fn a_readable_descriptor_is_told_with_its_token() {
        let mut reactor = Reactor::new().unwrap();
        let fd = rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let token = Token::Client { slot: 1, generation: 2 };
        reactor.add(&fd, token).unwrap();
        assert_eq!(reactor.wait(None).unwrap(), 1);
        let ready = reactor.ready(0).unwrap();
        assert_eq!((ready.token, ready.readable, ready.hung_up), (token, true, false));
        reactor.remove(&fd);
        assert_eq!(reactor.wait(Some(0)).unwrap(), 0);
        assert!(reactor.ready(0).is_none());
    }
}
