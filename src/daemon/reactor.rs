//! epoll with typed tokens.
//!
//! Level-triggered: a descriptor that is readable or hung up and stays in the set without being
//! handled turns the loop into a spin. Whoever adds one handles every event it can have.

use crate::kill::FlightId;
use crate::policy::Level;
use crate::processes::ClientId;
use crate::processes::RecordId;
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
    Client(ClientId),
    /// A registered process.
    Process(RecordId),
    /// A signalled victim.
    Victim(FlightId),
    /// The ring buffer of reclaim events.
    MemEvents,
    /// The attempt to open that is over.
    MemEventsOpened,
    /// The scribe has called.
    Scribe,
    /// Names have been read.
    Names,
}

impl Token {
    /// The kind in the highest byte, and what names the thing below it.
    fn pack(self) -> u64 {
        let slot_of = |slot: u8, generation: u32| u64::from(slot) << 32 | u64::from(generation);
        let (kind, name): (u64, u64) = match self {
            Self::Signals => (0, 0),
            Self::Pressure(Level::Low) => (1, 0),
            Self::Pressure(Level::Medium) => (1, 1),
            Self::Pressure(Level::Critical) => (1, 2),
            Self::Listener => (2, 0),
            Self::Client(id) => (3, slot_of(id.slot, id.generation)),
            Self::Process(id) => (4, id.to_bits()),
            Self::Victim(id) => (5, slot_of(id.place, id.ticket)),
            Self::MemEvents => (6, 0),
            Self::MemEventsOpened => (7, 0),
            Self::Scribe => (8, 0),
            Self::Names => (9, 0),
        };
        kind << RecordId::BITS | name
    }

    fn unpack(packed: u64) -> Option<Self> {
        let [_, _, _, slot, g @ ..] = packed.to_be_bytes();
        let generation = u32::from_be_bytes(g);
        Some(match (packed >> RecordId::BITS, generation) {
            (0, _) => Self::Signals,
            (1, 0) => Self::Pressure(Level::Low),
            (1, 1) => Self::Pressure(Level::Medium),
            (1, 2) => Self::Pressure(Level::Critical),
            (2, _) => Self::Listener,
            (3, generation) => Self::Client(ClientId { slot, generation }),
            (4, _) => Self::Process(RecordId::from_bits(packed)),
            (5, ticket) => Self::Victim(FlightId { place: slot, ticket }),
            (6, _) => Self::MemEvents,
            (7, _) => Self::MemEventsOpened,
            (8, _) => Self::Scribe,
            (9, _) => Self::Names,
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

    /// Makes `token` the name of a descriptor that is waited on until it is readable; adds it if it
    /// is not in the set.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub fn rename(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        let data = EventData::new_u64(token.pack());
        match epoll::modify(&self.epoll, fd.as_fd(), data, EventFlags::IN) {
            Err(Errno::NOENT) => self.add(fd, token),
            done => done,
        }
    }

    /// Adds a PSI monitor, whose events are urgent data.
    ///
    /// # Errors
    ///
    /// As [`Self::add`].
    pub fn add_pressure(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.pack()), EventFlags::PRI)
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
        for token in [
            Token::Signals,
            Token::Pressure(Level::Medium),
            Token::Pressure(Level::Critical),
            Token::Listener,
            Token::Client(ClientId { slot: 15, generation: u32::MAX }),
            Token::Process(RecordId::from_bits(0x89_abcd_ef01_2345)),
            Token::Victim(FlightId { place: 3, ticket: 7 }),
            Token::MemEvents,
            Token::MemEventsOpened,
            Token::Scribe,
            Token::Names,
        ] {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }

    #[test]
    fn a_readable_descriptor_is_told_with_its_token() {
        let mut reactor = Reactor::new().unwrap();
        let fd = rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let token = Token::Client(ClientId { slot: 1, generation: 2 });
        reactor.add(&fd, token).unwrap();
        assert_eq!(reactor.wait(None).unwrap(), 1);
        let ready = reactor.ready(0).unwrap();
        assert_eq!((ready.token, ready.readable, ready.hung_up), (token, true, false));
        let renamed = Token::Process(RecordId::from_bits(3));
        reactor.rename(&fd, renamed).unwrap();
        assert_eq!(reactor.wait(None).unwrap(), 1);
        assert_eq!(reactor.ready(0).unwrap().token, renamed);
        reactor.remove(&fd);
        reactor.rename(&fd, token).unwrap();
        assert_eq!(reactor.wait(None).unwrap(), 1);
        assert_eq!(reactor.ready(0).unwrap().token, token);
        reactor.remove(&fd);
        assert_eq!(reactor.wait(Some(0)).unwrap(), 0);
        assert!(reactor.ready(0).is_none());
    }
}
