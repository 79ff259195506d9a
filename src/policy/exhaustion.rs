//! Nothing left to reclaim: the state in which no pressure event comes before the kernel's OOM
//! killer does. Pressure is time lost by stalled tasks, and without file cache to fault back in
//! and swap to wait for nobody stalls; only kswapd, woken below the low watermark, tells.

use crate::units::Pages;

use super::Signals;
use super::Wmark;

/// From this many high watermarks of reclaimable memory down it is watched closely.
const NEAR: i64 = 4;

/// How close memory is to having nothing left to reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Exhaustion {
    /// Reclaim has much to work on, or need not work.
    Far,
    /// Below the low watermark, with little left to reclaim.
    Near,
    /// Below the low watermark; what is left would not lift free memory over the high one.
    Here,
}

/// Judges by the file cache and the free swap as the kernel counts it: the estimate that the
/// rules use is for compressed swap and too low for a disk, where reclaim still gets somewhere.
pub(super) fn look(signals: &Signals, swap_free: Pages) -> Exhaustion {
    let left = signals.file_cache + swap_free;
    let high = signals.watermarks.high;
    if signals.wmark >= Wmark::High || left >= Pages(high.get().saturating_mul(NEAR)) {
        Exhaustion::Far
    } else if left >= high {
        Exhaustion::Near
    } else {
        Exhaustion::Here
    }
}
