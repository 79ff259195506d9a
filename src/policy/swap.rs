//! How much swap is really left, and how much of anonymous memory is in it.

use crate::config::Tunables;
use crate::kernel::Meminfo;
use crate::units::Pages;

/// What one look says about swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Swap {
    /// Free swap that can be filled.
    pub(super) free: Pages,
    /// Below this it is low.
    pub(super) low_threshold: Pages,
    /// Whether it is.
    pub(super) is_low: bool,
}

impl Swap {
    pub(super) fn look(meminfo: &Meminfo, t: &Tunables) -> Self {
        let free = free_swap(meminfo, t);
        let percent = t.swap_free_low_percentage;
        let low_threshold = Pages(meminfo.swap_total.get().saturating_mul(percent) / 100);
        Self { free, low_threshold, is_low: percent != 0 && free < low_threshold }
    }
}

/// Free swap, as far as there is memory to fill it from: swap on Android is compressed memory
/// (zram), so swapping out needs free pages itself, one for as many as the ratio says.
fn free_swap(meminfo: &Meminfo, t: &Tunables) -> Pages {
    let ratio = t.swap_compression_ratio;
    if ratio == 0 {
        return meminfo.swap_free;
    }
    let room = available(meminfo, t).get().saturating_mul(ratio);
    // A divisor of 0 makes no estimate, so the file's own number stands.
    let room = room.checked_div(t.swap_compression_ratio_div);
    room.map_or(meminfo.swap_free, |room| meminfo.swap_free.min(Pages(room)))
}

/// Memory that is free or soon can be, without swapping.
fn available(meminfo: &Meminfo, t: &Tunables) -> Pages {
    if !t.relaxed_available_memory {
        return meminfo.free + meminfo.inactive_file;
    }
    // Of every `ratio` anonymous pages compressed, all but `div` are won.
    let ratio = t.swap_compression_ratio;
    let anon = meminfo.active_anon + meminfo.inactive_anon;
    let won = ratio.saturating_sub(t.swap_compression_ratio_div).saturating_mul(anon.get());
    let won = won.checked_div(ratio).unwrap_or(0);
    meminfo.free + meminfo.active_file + meminfo.inactive_file - meminfo.dirty + Pages(won)
}

/// Share of anonymous memory that is in swap, percent.
pub(super) fn utilisation(meminfo: &Meminfo, free_swap: Pages) -> i64 {
    let used = meminfo.swap_total - free_swap;
    let all = meminfo.active_anon + meminfo.inactive_anon + meminfo.shmem + used;
    if all <= Pages::ZERO {
        return 0;
    }
    used.get().saturating_mul(100).checked_div(all.get()).unwrap_or(0)
}
