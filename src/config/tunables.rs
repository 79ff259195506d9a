//! The tunables as the daemon uses them: typed, clamped, one field each.

/// Every value an integrator can set, already parsed and clamped.
///
/// Field names are the property names without prefix. Defaults are AOSP's (release after
/// Android 16); where a low-RAM device differs, [`Tunables::low_ram_defaults`] has its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunables {
    /// Say more in the log; also logs reap times.
    pub debug: bool,
    /// Always take the heaviest process of an adj, not only at or below 200.
    pub kill_heaviest_task: bool,
    /// Longest wait for a victim's exit before the next may be chosen, ms; 0 waits without limit.
    pub kill_timeout_ms: i64,
    /// Lowest adj of a kill right after another while free memory is below the min watermark.
    pub pressure_after_kill_min_score: i64,
    /// Decide by the minfree table that clients send (LMK_TARGET) instead of by PSI signals.
    pub use_minfree_levels: bool,
    /// Whether the rules decide even so; unset, they do on a low-RAM device. See
    /// [`Self::levels_decide`].
    pub use_new_strategy: Option<bool>,
    /// Swap counts as low below this share of its total, percent; 0 turns the test off.
    pub swap_free_low_percentage: i64,
    /// Stall of some tasks per window that counts as medium pressure, ms; 0 turns it off.
    pub psi_partial_stall_ms: i64,
    /// Stall of all tasks per window that counts as critical pressure, ms; 0 turns it off.
    pub psi_complete_stall_ms: i64,
    /// The pressure window, and how long polling goes on after an event, ms.
    pub psi_window_size_ms: i64,
    /// Refaults per window, as a share of the file cache, that count as thrashing, percent.
    pub thrashing_limit: i64,
    /// How much a kill for thrashing lowers the limit until the window ends, percent.
    pub thrashing_limit_decay: i64,
    /// Thrashing from which perceptible apps are no longer spared, percent.
    pub thrashing_limit_critical: i64,
    /// Share of anonymous memory in swap above which low memory kills, percent; 100 turns it off.
    pub swap_util_max: i64,
    /// File cache under which a kill for thrashing goes on killing, kB; 0 turns it off.
    pub filecache_min_kb: i64,
    /// Share of the last 10 s in which all tasks stalled that lifts every protection, percent.
    pub stall_limit_critical: i64,
    /// Make no pressure monitors before a client asks for them after boot.
    pub delay_monitors_until_boot: bool,
    /// A direct reclaim that runs longer kills, ms; 0 turns it off.
    pub direct_reclaim_threshold_ms: i64,
    /// How well swap compresses (numerator); 0 leaves available memory out of free swap.
    pub swap_compression_ratio: i64,
    /// How well swap compresses (denominator).
    pub swap_compression_ratio_div: i64,
    /// Count active file pages and compressible anonymous pages as available.
    pub relaxed_available_memory: bool,
    /// Lowest adj of a kill for low memory alone; 1001 turns such kills off.
    pub lowmem_min_oom_score: i64,
    /// Use PSI; without it the daemon samples once a second.
    pub use_psi: bool,
    /// Send statistics of each kill to subscribed clients.
    pub log_stats: bool,
    /// This is a low-RAM device.
    pub low_ram: bool,
    /// Write a memory protection for each registered app's cgroup.
    pub per_app_memcg: bool,
    /// Memory of the flight recorder, kB.
    pub recorder_kb: i64,
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            debug: false,
            kill_heaviest_task: false,
            kill_timeout_ms: 100,
            pressure_after_kill_min_score: 0,
            use_minfree_levels: false,
            use_new_strategy: None,
            swap_free_low_percentage: 10,
            psi_partial_stall_ms: 70,
            psi_complete_stall_ms: 700,
            psi_window_size_ms: 1000,
            thrashing_limit: 100,
            thrashing_limit_decay: 10,
            thrashing_limit_critical: 300,
            swap_util_max: 100,
            filecache_min_kb: 0,
            stall_limit_critical: 100,
            delay_monitors_until_boot: false,
            direct_reclaim_threshold_ms: 0,
            swap_compression_ratio: 1,
            swap_compression_ratio_div: 1,
            relaxed_available_memory: false,
            lowmem_min_oom_score: 701,
            use_psi: true,
            log_stats: true,
            low_ram: false,
            per_app_memcg: false,
            recorder_kb: 512,
        }
    }
}

impl Tunables {
    /// Whether the minfree table decides in place of the rules.
    #[must_use]
    pub const fn levels_decide(&self) -> bool {
        let rules = match self.use_new_strategy {
            Some(set) => set,
            None => self.low_ram,
        };
        self.use_minfree_levels && !rules
    }

    /// The defaults of a device with `ro.config.low_ram`.
    #[must_use]
    pub fn low_ram_defaults() -> Self {
        Self {
            psi_partial_stall_ms: 200,
            thrashing_limit: 30,
            thrashing_limit_decay: 50,
            thrashing_limit_critical: 90,
            low_ram: true,
            per_app_memcg: true,
            ..Self::default()
        }
    }
}
