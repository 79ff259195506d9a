//! Nothing left to reclaim: the state in which no pressure event comes before the kernel's OOM
//! killer does. Pressure is time lost by stalled tasks, and without file cache to fault back in
//! and swap to wait for nobody stalls; only kswapd, woken below the low watermark, tells.
//!
//! And kswapd tells once: after 16 fruitless rounds, a matter of milliseconds, it gives up, and the
//! kernel wakes it no more until a direct reclaim has found something. From then on looking is the
//! only way to hear of the next shortage before it is one. See [`Vigil`].

use crate::codec::coded_struct;
use crate::kernel::Sample;
use crate::kernel::Watermarks;
use crate::units::PageSize;
use crate::units::Pages;

use super::poller::LONG_MS;
use super::watermark;
use super::Reclaim;
use super::Signals;

/// From this many high watermarks of reclaimable memory down it is watched closely.
const NEAR: i64 = 4;

/// No task is expected to take memory faster than this, KiB per ms (1 GiB/s).
const FASTEST_GROWTH: i64 = 1024;

/// A vigil looks no more often, and no less often, ms.
const VIGIL_MS: (i64, i64) = (10, 1000);

/// How close memory is to having nothing left to reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exhaustion {
    /// Reclaim has much to work on, or need not work.
    Far,
    /// Below the low watermark, with little left to reclaim.
    Near,
    /// As `Here`, but only by watermarks that the kernel has boosted for a moment.
    Boosted,
    /// Below the low watermark; what is left would not lift free memory over the high one.
    Here,
}

/// Judges by the file cache and the free swap as the kernel counts it: the estimate that the
/// rules use is for compressed swap and too low for a disk, where reclaim still gets somewhere.
///
/// Boosted watermarks count for watching. For the end of memory they count once nobody but kswapd
/// could take the boost back, and kswapd is not at it: below a min watermark, boosted or not, an
/// allocation that reclaims nothing is followed by the OOM killer.
pub(super) fn look(signals: &Signals, swap_free: Pages, unboosted: &Watermarks) -> Exhaustion {
    let left = signals.file_cache + swap_free;
    let end = |marks: &Watermarks| signals.free < marks.low && left < marks.high;
    let Signals { free, watermarks: marks, reclaim, .. } = *signals;
    if free >= marks.low || left >= Pages(marks.high.get().saturating_mul(NEAR)) {
        Exhaustion::Far
    } else if left >= marks.high {
        Exhaustion::Near
    } else if end(unboosted) || (free < marks.min && reclaim != Reclaim::Kswapd) {
        Exhaustion::Here
    } else {
        Exhaustion::Boosted
    }
}

/// The watch over memory while kswapd may have given up: from a look that finds memory short with
/// nothing left to reclaim, until there is something again.
///
/// The time to the next look is what the fastest growth would need to get down to the low
/// watermark. So a look, of 0.1 ms, is taken 100 times a second when a kill is 10 MB away, and
/// once a second when a gigabyte is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Vigil {
    next_look_ms: Option<i64>,
}

coded_struct!(Vigil { next_look_ms });

impl Vigil {
    /// Begins, goes on or ends by what a look has seen.
    pub(super) fn look(&mut self, sample: &Sample, marks: &Watermarks, page: PageSize) {
        let left = Pages(sample.vmstat.nr_inactive_file)
            + Pages(sample.vmstat.nr_active_file)
            + sample.meminfo.swap_free;
        let free = watermark::free(&sample.meminfo);
        let goes_on = self.next_look_ms.is_some() || free < marks.high;
        self.next_look_ms = (goes_on && left < marks.high).then(|| {
            let (shortest, longest) = VIGIL_MS;
            let distance = (free - marks.low).to_kib(page).get();
            (distance / FASTEST_GROWTH).clamp(shortest, longest)
        });
    }

    /// A kill was due. If it is made its end is waited for; if nobody could be killed, there is no
    /// hurry to try again.
    pub(super) fn rest(&mut self) {
        self.next_look_ms = self.next_look_ms.map(|ms| ms.max(LONG_MS));
    }

    /// Milliseconds to the next look; None while the kernel tells.
    pub(super) const fn next_look_ms(&self) -> Option<i64> {
        self.next_look_ms
    }
}
