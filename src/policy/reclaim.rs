//! Who reclaims memory: from the kernel's reclaim events, else from the counters of vmstat.

use super::Reclaim;
use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::kernel::ReclaimEvents;
use crate::kernel::Vmstat;

/// The reclaim counters of the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReclaimCounters {
    direct: i64,
    kswapd: i64,
    refill: i64,
}

coded_struct!(ReclaimCounters { direct, kswapd, refill });

impl ReclaimCounters {
    /// Who has reclaimed since the last look, and how long the oldest direct reclaim has run, ms.
    ///
    /// The duration is known from events alone; counters tell that something ran, not since when.
    pub(super) fn look(
        &mut self,
        now: MonoTime,
        vmstat: &Vmstat,
        events: Option<&ReclaimEvents>,
    ) -> (Reclaim, i64) {
        let (direct, kswapd) = match events {
            Some(events) => (events.direct_since.is_some(), events.kswapd_awake),
            None => (
                vmstat.pgscan_direct != self.direct,
                vmstat.pgscan_kswapd != self.kswapd || vmstat.pgrefill != self.refill,
            ),
        };
        if direct {
            self.direct = vmstat.pgscan_direct;
        }
        if direct || kswapd {
            self.kswapd = vmstat.pgscan_kswapd;
            self.refill = vmstat.pgrefill;
        }
        let since = events.and_then(|events| events.direct_since);
        match (direct, kswapd) {
            (true, _) => (Reclaim::Direct, since.map_or(0, |since| now.millis_since(since).max(0))),
            (false, true) => (Reclaim::Kswapd, 0),
            (false, false) => (Reclaim::None, 0),
        }
    }
}
