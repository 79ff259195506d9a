//! The Sample: everything one decision looks at, including the time.

use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::units::Pages;

/// One reading of the kernel's state. Plain values: a recorded one replays to the same decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub now: MonoTime,
    /// From `/proc/vmstat`.
    pub vmstat: Vmstat,
    /// From `/proc/meminfo`.
    pub meminfo: Meminfo,
    /// From `/proc/zoneinfo`, if it was read this time (see `Admission::Evaluate`).
    pub watermarks: Option<Watermarks>,
    /// From `/proc/pressure/memory`, if it could be read.
    pub stall: Option<Stall>,
    /// From the kernel's reclaim events, if there is a source of them.
    pub reclaim: Option<ReclaimEvents>,
    /// How many pages of each of the watermarks are a boost; None if they were not read, or the
    /// kernel does not tell.
    pub boost: Option<Pages>,
}

/// Counters of `/proc/vmstat` in pages or events; 0 where the kernel has no such line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vmstat {
    /// `nr_free_pages`
    pub nr_free_pages: i64,
    /// `nr_inactive_file`
    pub nr_inactive_file: i64,
    /// `nr_active_file`
    pub nr_active_file: i64,
    /// `workingset_refault` (before Linux 5.9) if not 0, else `workingset_refault_file`.
    pub refault: i64,
    /// `pgscan_kswapd`
    pub pgscan_kswapd: i64,
    /// `pgscan_direct`
    pub pgscan_direct: i64,
    /// `pgscan_direct_throttle`
    pub pgscan_direct_throttle: i64,
    /// `pgrefill`
    pub pgrefill: i64,
}

/// Lines of `/proc/meminfo`, in whole pages; 0 where the kernel has no such line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    /// `MemTotal`
    pub total: Pages,
    /// `MemFree`
    pub free: Pages,
    /// `Cached`
    pub cached: Pages,
    /// `SwapCached`
    pub swap_cached: Pages,
    /// `Buffers`
    pub buffers: Pages,
    /// `Shmem`
    pub shmem: Pages,
    /// `Unevictable`
    pub unevictable: Pages,
    /// `SwapTotal`
    pub swap_total: Pages,
    /// `SwapFree`
    pub swap_free: Pages,
    /// `Active(anon)`
    pub active_anon: Pages,
    /// `Inactive(anon)`
    pub inactive_anon: Pages,
    /// `Active(file)`
    pub active_file: Pages,
    /// `Inactive(file)`
    pub inactive_file: Pages,
    /// `SReclaimable`
    pub sreclaimable: Pages,
    /// `SUnreclaim`
    pub sunreclaim: Pages,
    /// `KernelStack`
    pub kernel_stack: Pages,
    /// `PageTables`
    pub page_tables: Pages,
    /// `ION_heap` (Android vendor kernels)
    pub ion_heap: Pages,
    /// `ION_heap_pool` (Android vendor kernels)
    pub ion_heap_pool: Pages,
    /// `CmaFree`
    pub cma_free: Pages,
    /// `Dirty`
    pub dirty: Pages,
}

/// Sums over the populated zones of `/proc/zoneinfo`, each zone's highest `protection` added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Below it only atomic allocations succeed.
    pub min: Pages,
    /// Below it kswapd reclaims.
    pub low: Pages,
    /// At it kswapd goes back to sleep.
    pub high: Pages,
    /// Protection plus high over all zones, populated or not: what minfree levels leave out.
    pub total_reserve: Pages,
}

impl Watermarks {
    /// Adds one zone: its `present` pages, its watermarks, and its highest `protection` entry.
    pub fn add_zone(&mut self, present: i64, marks: [i64; 3], protection: i64) {
        let [min, low, high] = marks.map(|mark| Pages(mark) + Pages(protection));
        self.total_reserve += high;
        if present != 0 {
            self.min += min;
            self.low += low;
            self.high += high;
        }
    }
}

/// The `full` line of `/proc/pressure/memory`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// `avg10` in hundredths of a percent (the kernel prints two decimals).
    pub full_avg10_centi: i64,
}

/// What the kernel's reclaim tracepoints say at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReclaimEvents {
    /// When the oldest direct reclaim still running began.
    pub direct_since: Option<MonoTime>,
    /// Whether a kswapd is awake.
    pub kswapd_awake: bool,
}

coded_struct!(Sample { now, vmstat, meminfo, watermarks, stall, reclaim } without { boost });
coded_struct!(Vmstat {
    nr_free_pages,
    nr_inactive_file,
    nr_active_file,
    refault,
    pgscan_kswapd,
    pgscan_direct,
    pgscan_direct_throttle,
    pgrefill,
});
coded_struct!(Meminfo {
    total,
    free,
    cached,
    swap_cached,
    buffers,
    shmem,
    unevictable,
    swap_total,
    swap_free,
    active_anon,
    inactive_anon,
    active_file,
    inactive_file,
    sreclaimable,
    sunreclaim,
    kernel_stack,
    page_tables,
    ion_heap,
    ion_heap_pool,
    cma_free,
    dirty,
});
coded_struct!(Watermarks { min, low, high, total_reserve });
coded_struct!(Stall { full_avg10_centi });
coded_struct!(ReclaimEvents { direct_since, kswapd_awake });
