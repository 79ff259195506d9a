//! The record that programs put into the ring, and the event it stands for.
//!
//! 88 bytes, in the machine's byte order, as AOSP's bpfMemEvents program lays them out: a u64 type,
//! then a union. Kinds that we listen to use at most 12 bytes of the union. Our own programs put
//! the thread id (u32 at 72) and the CLOCK_MONOTONIC nanosecond (u64 at 80) into what is left;
//! AOSP's leave old ring contents there, so a reader must know whose records it reads.

use crate::clock::MonoTime;
use std::num::NonZeroU32;

/// Bytes in a record.
pub const RECORD_LEN: u32 = 88;
/// A record as the ring hands it out.
pub type Words = [u64; 11];

/// Where the parts of a record stand, in bytes.
pub mod offset {
    /// u64: which event.
    pub const TYPE: i16 = 0;
    /// u32: kswapd wake and sleep: node. Vendor kill: reason.
    pub const NODE: i16 = 8;
    /// i32: kswapd wake: highest zone. Vendor kill: i16 lowest adj.
    pub const ZONE: i16 = 12;
    /// i32: kswapd wake: order.
    pub const ORDER: i16 = 16;
    /// u32, our own programs only: thread id.
    pub const TASK: i16 = 72;
    /// u64, our own programs only: when, CLOCK_MONOTONIC in ns.
    pub const STAMP: i16 = 80;
}

/// The kinds of records that this daemon listens to; the numbers are AOSP's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A task starts to reclaim memory itself.
    DirectReclaimBegin = 1,
    /// It is through.
    DirectReclaimEnd = 2,
    /// kswapd begins a round of reclaim.
    KswapdWake = 3,
    /// kswapd goes to sleep.
    KswapdSleep = 4,
    /// The vendor's kernel asks for a kill.
    VendorKill = 5,
    /// Watermarks or reserves of the zones have changed.
    UpdateZoneinfo = 6,
}

impl Kind {
    /// The number in the record.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A thread in the kernel's numbering; None if the record does not say.
pub type Task = Option<NonZeroU32>;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task starts to reclaim memory itself.
    DirectReclaimBegin {
        /// Which.
        task: Task,
        /// When: at the event if the record says, else when it was read.
        at: MonoTime,
    },
    /// A task has ended its direct reclaim.
    DirectReclaimEnd {
        /// Which.
        task: Task,
    },
    /// A kswapd begins a round of reclaim; under pressure it does so again and again.
    KswapdWake {
        /// Its NUMA node.
        node: u32,
        /// When, as above.
        at: MonoTime,
    },
    /// A kswapd goes to sleep: it is done, or has given up.
    KswapdSleep {
        /// Its NUMA node.
        node: u32,
    },
    /// The vendor's kernel asks for a kill.
    VendorKill {
        /// Its reason. The program passes on 0 to 999.
        reason: i32,
        /// No process below it may be the victim. The program passes on -1000 to 1000.
        min_adj: i32,
    },
    /// Watermarks or reserves of the zones have changed: read `/proc/zoneinfo` again.
    UpdateZoneinfo,
    /// The ring was full and events are missing, after those before this one.
    Lost,
}

impl Event {
    /// Whether the event says that memory has become scarce, so that a decision is due though
    /// nothing may have stalled yet.
    ///
    /// A begin of direct reclaim counts too: once kswapd has given up on a node, nobody wakes it
    /// any more, and the direct reclaim before the OOM killer is all that can be seen.
    #[must_use]
    pub const fn means_scarcity(&self) -> bool {
        matches!(self, Self::KswapdWake { .. } | Self::DirectReclaimBegin { .. })
    }

    /// Reads a record; None if it is of a kind that nobody here listens to.
    ///
    /// `stamped`: whether it has a thread id and a time. Without them it happened `now`, in an
    /// unknown task.
    #[must_use]
    pub fn read(record: &Words, stamped: bool, now: MonoTime) -> Option<Self> {
        let bytes = Bytes(record);
        let task = if stamped { NonZeroU32::new(bytes.u32_at(offset::TASK)) } else { None };
        let at = match record[10] {
            stamp if stamped && stamp != 0 => MonoTime::from_nanos(stamp),
            _ => now,
        };
        let node = bytes.u32_at(offset::NODE);
        let is = |kind: Kind| record[0] == u64::from(kind.number());
        if is(Kind::DirectReclaimBegin) {
            Some(Self::DirectReclaimBegin { task, at })
        } else if is(Kind::DirectReclaimEnd) {
            Some(Self::DirectReclaimEnd { task })
        } else if is(Kind::KswapdWake) {
            Some(Self::KswapdWake { node, at })
        } else if is(Kind::KswapdSleep) {
            Some(Self::KswapdSleep { node })
        } else if is(Kind::VendorKill) {
            let reason = i32::from_ne_bytes(node.to_ne_bytes());
            let min_adj = i32::from(bytes.i16_at(offset::ZONE));
            Some(Self::VendorKill { reason, min_adj })
        } else if is(Kind::UpdateZoneinfo) {
            Some(Self::UpdateZoneinfo)
        } else {
            None
        }
    }
}

/// Parts of a record that are smaller than a word, whatever the byte order.
struct Bytes<'a>(&'a Words);

impl Bytes<'_> {
    fn at<const N: usize>(&self, offset: i16) -> [u8; N] {
        let offset = usize::try_from(offset).unwrap_or(0);
        let word = self.0.get(offset / 8).copied().unwrap_or(0).to_ne_bytes();
        std::array::from_fn(|i| word.get(offset % 8 + i).copied().unwrap_or(0))
    }

    fn u32_at(&self, offset: i16) -> u32 {
        u32::from_ne_bytes(self.at(offset))
    }

    fn i16_at(&self, offset: i16) -> i16 {
        i16::from_ne_bytes(self.at(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u64, fill: &[(usize, &[u8])]) -> Words {
        let mut bytes = [0u8; 88];
        bytes[..8].copy_from_slice(&kind.to_ne_bytes());
        for (at, part) in fill {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        std::array::from_fn(|i| u64::from_ne_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap()))
    }

    const NOW: MonoTime = MonoTime::from_millis(5);

    #[test]
    fn every_kind_is_read_from_its_bytes() {
        let stamp = (80, &7_000_000_000u64.to_ne_bytes()[..]);
        let task = (72, &1234u32.to_ne_bytes()[..]);
        let node = (8, &3u32.to_ne_bytes()[..]);
        let at = MonoTime::from_millis(7000);
        let task_id = NonZeroU32::new(1234);
        let read = |kind, fill: &[(usize, &[u8])]| Event::read(&record(kind, fill), true, NOW);
        assert_eq!(read(0, &[]), None);
        assert_eq!(read(1, &[stamp, task]), Some(Event::DirectReclaimBegin { task: task_id, at }));
        assert_eq!(read(2, &[stamp, task]), Some(Event::DirectReclaimEnd { task: task_id }));
        assert_eq!(read(3, &[stamp, node]), Some(Event::KswapdWake { node: 3, at }));
        assert_eq!(read(4, &[stamp, node]), Some(Event::KswapdSleep { node: 3 }));
        let adj = (12, &(-900i16).to_ne_bytes()[..]);
        assert_eq!(read(5, &[node, adj]), Some(Event::VendorKill { reason: 3, min_adj: -900 }));
        assert_eq!(read(6, &[]), Some(Event::UpdateZoneinfo));
        assert_eq!(read(7, &[]), None);
        assert_eq!(read(u64::MAX, &[]), None);
    }

    #[test]
    fn leftovers_in_an_unstamped_record_are_neither_a_task_nor_a_time() {
        let garbage = record(1, &[(72, &[0xff; 16])]);
        let event = Event::read(&garbage, false, NOW);
        assert_eq!(event, Some(Event::DirectReclaimBegin { task: None, at: NOW }));
    }

    #[test]
    fn a_stamp_of_zero_is_unknown() {
        let event = Event::read(&record(1, &[]), true, NOW);
        assert_eq!(event, Some(Event::DirectReclaimBegin { task: None, at: NOW }));
    }
}
