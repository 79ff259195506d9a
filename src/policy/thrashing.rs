//! Thrashing: file pages that come back right after they were dropped, as a share of the cache.

use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::config::Tunables;
use crate::kernel::Vmstat;

/// Refaults are counted in windows of this length.
const WINDOW_MS: i64 = 1000;

/// The window under way, what is left of those before it, and the limit in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Thrashing {
    since: MonoTime,
    refault: i64,
    file_lru: i64,
    /// Growth of earlier windows that still counts, percent.
    carried: i64,
    /// Highest value since the last kill, percent.
    max: i64,
    limit: i64,
}

coded_struct!(Thrashing { since, refault, file_lru, carried, max, limit });

impl Thrashing {
    /// The very first window: the counters have run since boot, so what they hold says nothing.
    pub(super) fn first(now: MonoTime, vmstat: &Vmstat, t: &Tunables) -> Self {
        let mut new = Self { limit: t.thrashing_limit, ..Self::default() };
        new.restart(now, vmstat, 0);
        new
    }

    /// Starts a new window from these counters.
    pub(super) fn restart(&mut self, now: MonoTime, vmstat: &Vmstat, carried: i64) {
        self.since = now;
        self.refault = vmstat.refault;
        self.file_lru = file_lru(vmstat);
        self.carried = carried;
    }

    /// Thrashing now and the highest since the last kill, percent; rolls the window when due.
    pub(super) fn look(&mut self, now: MonoTime, vmstat: &Vmstat, t: &Tunables) -> (i64, i64) {
        let elapsed = now.millis_since(self.since);
        let growth = self.growth(vmstat);
        let mut current = growth;
        if elapsed > WINDOW_MS {
            self.restart(now, vmstat, self.decayed(growth, elapsed / WINDOW_MS));
            self.limit = t.thrashing_limit;
            current = 0;
        }
        let thrashing = current.saturating_add(self.carried);
        self.max = self.max.max(thrashing);
        (thrashing, self.max)
    }

    /// The limit in force, percent.
    pub(super) const fn limit(&self) -> i64 {
        self.limit
    }

    /// A kill succeeded: forgets the maximum, and lowers the limit for the rest of the window if
    /// the kill was for thrashing, for thrashing does not stop at once.
    pub(super) fn killed(&mut self, cut_limit: bool, t: &Tunables) {
        self.max = 0;
        if cut_limit {
            let left = 100_i64.saturating_sub(t.thrashing_limit_decay);
            self.limit = self.limit.saturating_mul(left) / 100;
        }
    }

    /// Refaults of this window as a share of the file cache at its start, percent.
    fn growth(&self, vmstat: &Vmstat) -> i64 {
        let refaults = vmstat.refault.saturating_sub(self.refault);
        let cache = self.file_lru.saturating_add(1);
        refaults.saturating_mul(100).checked_div(cache).unwrap_or(0)
    }

    /// What of `growth` still counts after `windows` windows. Half is lost with each, except that
    /// growth over the limit is kept whole over one: nothing could be killed for it yet.
    fn decayed(&self, growth: i64, windows: i64) -> i64 {
        if windows <= 1 && growth >= self.limit {
            return growth;
        }
        u32::try_from(windows).ok().and_then(|windows| growth.checked_shr(windows)).unwrap_or(0)
    }
}

fn file_lru(vmstat: &Vmstat) -> i64 {
    vmstat.nr_inactive_file.saturating_add(vmstat.nr_active_file)
}
