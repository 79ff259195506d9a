//! The ledger: what became of every kill, and how long each step took.

use crate::clock::MonoTime;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::Exit;

/// The moments of one kill. A later one is None until it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moments {
    /// The kernel's event or the poll that led to it.
    pub woken: MonoTime,
    /// The verdict.
    pub decided: MonoTime,
    /// The victim's threads were raised.
    pub raised: MonoTime,
    /// SIGKILL was sent.
    pub signalled: MonoTime,
    /// process_mrelease returned.
    pub released: Option<MonoTime>,
    /// The pidfd turned readable: all threads have exited.
    pub exited: Option<MonoTime>,
    /// The kernel told the exit status.
    pub proven: Option<MonoTime>,
}

/// How a kill ended, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By SIGKILL. The kernel does not tell whose; ours was on its way.
    Killed,
    /// By another signal, or on its own, just before SIGKILL could act.
    Otherwise(Exit),
}

impl From<Exit> for Outcome {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Signal(libc::SIGKILL) => Self::Killed,
            other => Self::Otherwise(other),
        }
    }
}

/// Durations in microseconds, kept in fixed memory: an eighth of a power of two is the precision.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: [u32; Self::BUCKETS],
    count: u64,
    max: u64,
}

impl Histogram {
    /// Eight per power of two, up to 2^40 us (12 days).
    const BUCKETS: usize = 8 * 41;

    const fn new() -> Self {
        Self { buckets: [0; Self::BUCKETS], count: 0, max: 0 }
    }

    /// Adds one duration.
    pub fn record(&mut self, micros: u64) {
        if let Some(bucket) = self.buckets.get_mut(Self::bucket(micros)) {
            *bucket = bucket.saturating_add(1);
        }
        self.count = self.count.saturating_add(1);
        self.max = self.max.max(micros);
    }

    /// How many were added.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The duration that `percent` of all do not exceed, rounded up to its bucket's end; None
    /// when there are none.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = self.count.checked_mul(percent)?.div_ceil(100).max(1);
        let mut seen: u64 = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen = seen.saturating_add(u64::from(*bucket));
            if seen >= wanted {
                return Some(Self::end(index).min(self.max));
            }
        }
        None
    }

    /// Below 8 one bucket a microsecond, above it eight per power of two.
    fn bucket(micros: u64) -> usize {
        let micros = micros.clamp(0, (1 << 40) - 1);
        let power = micros.max(1).ilog2();
        if power < 3 {
            return usize::try_from(micros).unwrap_or(0);
        }
        let eighth = micros >> (power - 3) & 7;
        let index = u64::from(power - 2) * 8 + eighth;
        usize::try_from(index).unwrap_or(0)
    }

    fn end(index: usize) -> u64 {
        let index = u64::try_from(index).unwrap_or(0);
        if index < 8 {
            return index;
        }
        let shift = (index / 8 - 1).min(60);
        (((index % 8) + 9) << shift) - 1
    }
}

/// Counters and durations of the whole run.
#[derive(Clone, Debug)]
pub struct Ledger {
    by_adj: Box<[u32; OomScoreAdj::COUNT]>,
    total: u32,
    /// Kills whose exit was seen.
    pub exits: u32,
    /// Kills that the kernel said SIGKILL ended.
    pub proven: u32,
    /// Waits that ended with kill_timeout_ms.
    pub timeouts: u32,
    /// From the event to the verdict.
    pub to_decision: Histogram,
    /// From the verdict to the victim's leader raised.
    pub to_raise: Histogram,
    /// From the event to the signal.
    pub to_signal: Histogram,
    /// From the signal to memory given back by the reaper.
    pub to_release: Histogram,
    /// From the signal to the exit.
    pub to_exit: Histogram,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            by_adj: Box::new([0; OomScoreAdj::COUNT]),
            total: 0,
            exits: 0,
            proven: 0,
            timeouts: 0,
            to_decision: Histogram::new(),
            to_raise: Histogram::new(),
            to_signal: Histogram::new(),
            to_release: Histogram::new(),
            to_exit: Histogram::new(),
        }
    }
}

impl Ledger {
    /// Counts a kill whose signal went to a living process.
    pub fn count_kill(&mut self, adj: OomScoreAdj, moments: &Moments) {
        if let Some(counter) = self.by_adj.get_mut(adj.slot()) {
            *counter = counter.saturating_add(1);
        }
        self.total = self.total.saturating_add(1);
        let Moments { woken, decided, raised, signalled, .. } = *moments;
        self.to_decision.record(decided.micros_since(woken));
        self.to_raise.record(raised.micros_since(decided));
        self.to_signal.record(signalled.micros_since(woken));
    }

    /// Records the exit of a counted kill.
    pub fn count_exit(&mut self, moments: &Moments) {
        self.exits = self.exits.saturating_add(1);
        if let Some(exited) = moments.exited {
            self.to_exit.record(exited.micros_since(moments.signalled));
        }
        if let Some(released) = moments.released {
            self.to_release.record(released.micros_since(moments.signalled));
        }
    }

    /// All kills of the run.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// Kills with an adj in the range, both ends included.
    #[must_use]
    pub fn kills_between(&self, min: OomScoreAdj, max: OomScoreAdj) -> u32 {
        let counters = self.by_adj.get(min.slot()..=max.slot()).unwrap_or(&[]);
        counters.iter().fold(0_u32, |sum, counter| sum.saturating_add(*counter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adj(value: i32) -> OomScoreAdj {
        OomScoreAdj::new(value).unwrap()
    }

    #[test]
    fn kill_counts_answer_ranges_as_clients_ask_them() {
        let mut ledger = Ledger::default();
        for value in [0, 900, 900, 1000] {
            ledger.count_kill(adj(value), &Moments::default());
        }
        let between = |min, max| ledger.kills_between(adj(min), adj(max));
        assert_eq!(between(-1000, 1000), 4);
        assert_eq!(between(900, 999), 2);
        assert_eq!(between(1000, 1000), 1);
        assert_eq!(between(5, 4), 0);
        assert_eq!(ledger.total(), 4);
    }

    #[test]
    fn every_adj_has_a_counter_of_its_own_that_does_not_end_at_16_bits() {
        let mut ledger = Ledger::default();
        for value in 0..=1000 {
            ledger.count_kill(adj(value), &Moments::default());
        }
        for _ in 0..70_000 {
            ledger.count_kill(adj(500), &Moments::default());
        }
        assert_eq!(ledger.kills_between(adj(500), adj(500)), 70_001);
        assert!((501..=1000).all(|value| ledger.kills_between(adj(value), adj(value)) == 1));
        assert_eq!(ledger.total(), 71_001);
    }

    #[test]
    fn each_step_of_a_kill_is_in_its_own_histogram() {
        let at = |micros: u64| MonoTime::from_nanos(micros * 1000);
        let mut moments = Moments {
            woken: at(1000),
            decided: at(1001),
            raised: at(1003),
            signalled: at(1007),
            ..Moments::default()
        };
        let mut ledger = Ledger::default();
        ledger.count_kill(adj(900), &moments);
        let Ledger { to_decision, to_raise, to_signal, to_release, to_exit, .. } = &ledger;
        assert_eq!([to_decision, to_raise, to_signal].map(Histogram::max), [1, 2, 7]);
        assert_eq!([to_release, to_exit].map(Histogram::count), [0, 0]);
        moments.exited = Some(at(1012));
        ledger.count_exit(&moments);
        assert_eq!((ledger.to_exit.max(), ledger.to_release.count()), (5, 0));
        moments.released = Some(at(1010));
        ledger.count_exit(&moments);
        assert_eq!((ledger.to_exit.count(), ledger.to_release.max()), (2, 3));
    }

    #[test]
    fn a_histogram_keeps_an_eighth_of_a_power_of_two() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(50), None);
        for micros in 1..=1000 {
            histogram.record(micros);
        }
        let p50 = histogram.percentile(50).unwrap();
        assert!((500..=563).contains(&p50), "{p50}");
        assert_eq!(histogram.percentile(100), Some(1000));
        assert_eq!((histogram.count(), histogram.max()), (1000, 1000));
    }

    #[test]
    fn every_duration_falls_into_a_bucket_whose_end_is_not_before_it() {
        let mut micros = 0;
        while micros < 1 << 40 {
            let bucket = Histogram::bucket(micros);
            assert!(bucket < Histogram::BUCKETS);
            assert!(Histogram::end(bucket) >= micros, "{micros}");
            assert!(bucket == 0 || Histogram::end(bucket - 1) < micros, "{micros}");
            micros = micros * 17 / 16 + 1;
        }
        Histogram::new().record(u64::MAX);
    }
}
