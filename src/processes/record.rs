//! What is remembered of one registered process.

use super::known::KnownSize;
use super::Pid;
use crate::clock::MonoTime;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;

/// A connection of the control socket. The generation tells it from those that had its slot
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    /// Its place among the clients.
    pub slot: u8,
    /// How many connections had that place before.
    pub generation: u32,
}

/// Names a record for as long as the record exists, and nothing afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl RecordId {
    /// Bits that [`Self::to_bits`] uses; those above are free for the kind of an epoll token.
    pub const BITS: u32 = 32 + Self::INDEX_BITS;
    /// There is one record a pid at most, and [`Pid::LIMIT`] is 2^22.
    const INDEX_BITS: u32 = 24;

    /// As a number of [`Self::BITS`] bits.
    #[must_use]
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << Self::INDEX_BITS | u64::from(self.index)
    }

    /// From such a number; higher bits are ignored. A number that is no record's finds none.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        Self {
            index: low(bits & ((1 << Self::INDEX_BITS) - 1)),
            generation: low(bits >> Self::INDEX_BITS),
        }
    }
}

/// One registered process.
#[derive(Debug)]
pub struct Record {
    pid: Pid,
    pub(super) adj: OomScoreAdj,
    pub(super) since: MonoTime,
    /// The process itself. None if descriptors had run out when it was registered.
    pub pidfd: Option<PidFd>,
    /// Its user, as the client said.
    pub uid: u32,
    /// The live connection that registered it and alone may change it.
    pub claim: Option<ClientId>,
    /// When it started, in clock ticks since boot: with the uid, the identity of a process without
    /// a pidfd. 0 if not known.
    pub start_time: u64,
    /// See [`PidFd::inode`]: the identity of a process without a pidfd where the kernel gives one,
    /// as two may have started in one tick.
    pub inode: Option<NonZeroU64>,
    /// `/proc/PID/statm`, held open where the size is likely to be asked for.
    pub(super) statm: Option<OwnedFd>,
    pub(super) size: Option<KnownSize>,
    /// The last search that yielded it.
    pub(super) tried: u32,
}

impl Record {
    /// A process that has just been registered: no pidfd, no claim.
    #[must_use]
    pub fn new(pid: Pid, uid: u32, adj: OomScoreAdj, now: MonoTime) -> Self {
        Self {
            pid,
            adj,
            since: now,
            pidfd: None,
            uid,
            claim: None,
            start_time: 0,
            inode: None,
            statm: None,
            size: None,
            tried: 0,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Its place in the kill order; changed by [`super::Registry::set_adj`].
    #[must_use]
    pub const fn adj(&self) -> OomScoreAdj {
        self.adj
    }

    /// When it was last registered.
    #[must_use]
    pub const fn since(&self) -> MonoTime {
        self.since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_way_through_a_token() {
        for (index, generation) in [(0, 0), (1, u32::MAX), ((1 << 24) - 1, 77)] {
            let id = RecordId { index, generation };
            assert_eq!(RecordId::from_bits(id.to_bits()), id);
            assert_eq!(RecordId::from_bits(id.to_bits() | 0xff << RecordId::BITS), id);
            assert_eq!(id.to_bits() >> RecordId::BITS, 0);
        }
    }
}
