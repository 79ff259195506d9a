//! The heaviest of many processes, for as few reads as the choice needs.
//!
//! `statm` tells what is resident in two microseconds through a held descriptor; what is swapped
//! out stands only in `status`, which takes fifteen. So a size known from earlier ([`super::known`])
//! rules a process out as long as it could not have grown past the heaviest one read; then what is
//! resident now, with the most that it can have in swap; and `status` is read of those that could
//! still win. Those that were largest when last seen are read first.
//!
//! What is not exact: one that is heavier than the chosen one by no more than a [sixteenth](SLACK)
//! may be missed, as it may by any scan in the time that the scan takes; and when [`BUDGET_MS`] is
//! over the heaviest of those read is taken. Memory that changes hands so fast that nothing known
//! holds leaves time for about 1,500 of them, the largest by what was last known.

use super::known::Scale;
use super::size;
use super::RecordId;
use super::Registry;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Pages;
use std::cmp::Reverse;

/// What is heavier than the choice by less than this part of it is not looked for.
const SLACK: i64 = 16;

/// Reading sizes for one search takes no longer, ms: a search that does not end is worse than a
/// choice that is not the best.
const BUDGET_MS: i64 = 3;

/// The clock is asked once in so many reads, a power of two.
const READS_A_LOOK: usize = 16;

/// How many candidates are sorted at a time.
const ROUND: usize = 256;

/// Candidates that are to be read, the largest first. Never grows.
#[derive(Debug)]
pub(super) struct Round(Vec<(Pages, RecordId)>);

impl Default for Round {
    fn default() -> Self {
        Self(Vec::with_capacity(2 * ROUND))
    }
}

impl Round {
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, index: usize) -> Option<RecordId> {
        self.0.get(index).map(|(_, id)| *id)
    }

    pub fn add(&mut self, hint: Pages, id: RecordId) {
        if self.0.len() >= 2 * ROUND {
            self.0.select_nth_unstable_by(ROUND, |a, b| b.0.cmp(&a.0));
            self.0.truncate(ROUND);
        }
        self.0.push((hint, id));
    }

    pub fn sort(&mut self) {
        self.0.sort_unstable_by_key(|(size, _)| Reverse(*size));
        self.0.truncate(ROUND);
    }
}

/// What is too little to be looked for beside the best one so far.
pub(super) fn limit(best: Option<(RecordId, Pages)>) -> Option<Pages> {
    best.map(|(_, pages)| Pages(pages.get().saturating_add(pages.get() / SLACK)))
}

/// The heaviest at `adj` that this search has not yielded yet, and its size as far as known. One
/// that is gone or has no memory counts as empty and is yielded last, so that the caller notices.
pub(super) fn heaviest(
    registry: &mut Registry,
    proc: &ProcDir,
    adj: OomScoreAdj,
    scale: &mut Scale,
    round: &mut Round,
) -> Option<(RecordId, Pages)> {
    let mut best = None;
    let untried = gather(registry, adj, scale, round, &mut best);
    if untried == 0 {
        return None;
    }
    let now = MonoTime::now;
    let deadline = *scale.deadline.get_or_insert_with(|| now().plus_millis(BUDGET_MS));
    let mut reads = 0_usize;
    while !round.0.is_empty() {
        for &(hint, id) in &round.0 {
            let Some(record) = registry.get(id) else { continue };
            let limit = limit(best);
            if scale.bound(record).is_some_and(|most| limit.is_some_and(|limit| most <= limit)) {
                continue;
            }
            if reads & (READS_A_LOOK - 1) == 0 && now() >= deadline {
                // Of those not read, the first was the largest when it was last seen.
                return best.filter(|(_, pages)| *pages > Pages::ZERO).or(Some((id, hint)));
            }
            reads = reads.saturating_add(1);
            if let Some(size) = read(registry, proc, id, scale, limit) {
                if best.is_none_or(|(_, most)| size > most) {
                    best = Some((id, size));
                }
            }
        }
        gather(registry, adj, scale, round, &mut best);
    }
    best
}

/// Gathers the largest of those that are to be read still, and finds the best of those that this
/// search has read. How many there are that it has not yielded.
fn gather(
    registry: &Registry,
    adj: OomScoreAdj,
    scale: &Scale,
    round: &mut Round,
    best: &mut Option<(RecordId, Pages)>,
) -> usize {
    round.0.clear();
    let mut untried = 0_usize;
    for id in registry.at(adj) {
        let Some(record) = registry.get(id).filter(|r| r.tried != scale.reading) else { continue };
        untried = untried.saturating_add(1);
        if let Some(size) = scale.measured(record) {
            if best.is_none_or(|(_, most)| size > most) {
                *best = Some((id, size));
            }
            continue;
        }
        let limit = limit(*best);
        if scale.bound(record).is_none_or(|most| limit.is_none_or(|limit| most > limit)) {
            round.add(record.size.map_or(Pages::ZERO, |known| known.hint()), id);
        }
    }
    round.sort();
    untried
}

/// Reads a record's size as far as is needed to tell whether it exceeds `limit`: its size, or None
/// if it does not.
pub(super) fn read(
    registry: &mut Registry,
    proc: &ProcDir,
    id: RecordId,
    scale: &Scale,
    limit: Option<Pages>,
) -> Option<Pages> {
    let record = registry.get(id)?;
    let pid = record.pid().get();
    let resident = size::resident(proc, pid, record.statm.as_ref());
    if scale.swap_used == Pages::ZERO {
        scale.note(registry, id, (resident, Pages::ZERO), true);
        return Some(resident);
    }
    let mut swapped = scale.swap_bound(record);
    if let Some(most) = scale.bound(record) {
        swapped = swapped.min((most - resident).max(Pages::ZERO));
    }
    if limit.is_some_and(|limit| resident + swapped <= limit) {
        scale.note(registry, id, (resident, swapped), false);
        return None;
    }
    let parts = size::with_swap(proc, pid, scale.page).unwrap_or_default();
    scale.note(registry, id, parts, true);
    Some(parts.0 + parts.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::vmstat::PageCounters;
    use crate::processes::Pid;
    use crate::processes::Record;
    use crate::units::PageSize;
    use std::path::PathBuf;

    /// A `/proc` whose processes have the sizes that a test wants, in pages.
    struct Machine {
        root: PathBuf,
        proc: ProcDir,
        registry: Registry,
        ids: Vec<RecordId>,
        scale: Scale,
        counters: PageCounters,
        swap_used: Pages,
    }

    impl Machine {
        fn new(name: &str, sizes: &[(i64, i64)]) -> Self {
            let root = std::env::temp_dir().join(format!("lmkd-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&root).unwrap();
            let mut machine = Self {
                proc: ProcDir::open(&root).unwrap(),
                root,
                registry: Registry::with_capacity(sizes.len()),
                ids: vec![],
                scale: Scale::new(PageSize::SMALL),
                counters: PageCounters { allocated: 1, swapped_out: 1, swap_cached: Some(0) },
                swap_used: Pages::ZERO,
            };
            for n in 0..sizes.len() {
                let pid = Pid::new(2 + i32::try_from(n).unwrap()).unwrap();
                let record = Record::new(pid, 0, OomScoreAdj::FOREGROUND, MonoTime::ZERO);
                machine.ids.push(machine.registry.insert(record));
            }
            for (n, size) in sizes.iter().enumerate() {
                machine.resize(n, *size);
            }
            machine
        }

        fn resize(&mut self, n: usize, (resident, swapped): (i64, i64)) {
            let dir = self.root.join((n + 2).to_string());
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("statm"), format!("9999 {resident} 0\n")).unwrap();
            let status = format!(
                "Name:\tx\nTgid:\t{}\nUid:\t0\t0\nVmRSS:\t{} kB\nVmSwap:\t{} kB\n",
                n + 2,
                resident * 4,
                swapped * 4
            );
            std::fs::write(dir.join("status"), status).unwrap();
        }

        fn begin(&mut self) {
            self.scale.begin(self.swap_used, Some(self.counters));
        }

        /// As a pass does that reads ahead.
        fn read_all(&mut self) {
            self.begin();
            for id in self.ids.clone() {
                read(&mut self.registry, &self.proc, id, &self.scale, None).unwrap();
            }
        }

        fn choose(&mut self) -> (usize, Pages) {
            let (registry, adj) = (&mut self.registry, OomScoreAdj::FOREGROUND);
            let round = &mut Round::default();
            let chosen = heaviest(registry, &self.proc, adj, &mut self.scale, round);
            let (id, size) = chosen.unwrap();
            (self.ids.iter().position(|known| *known == id).unwrap(), size)
        }

        /// How many this reading has looked at, and how many of them at `status`.
        fn reads(&self) -> (usize, usize) {
            let of = |id: &RecordId| self.registry.get(*id).unwrap().size;
            let read = self.ids.iter().filter_map(of);
            let read: Vec<_> = read.filter(|known| known.reading == self.scale.reading).collect();
            (read.len(), read.iter().filter(|known| known.exact).count())
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn sizes_known_from_just_before_save_all_reads_but_a_few() {
        let mut sizes: Vec<_> = (0..600).map(|n| (100 + n, 40)).collect();
        sizes[300] = (3000, 500);
        let mut machine = Machine::new("known-sizes", &sizes);
        machine.swap_used = Pages(30_000);
        machine.read_all();
        machine.counters.allocated += 50;
        machine.begin();
        assert_eq!(machine.choose(), (300, Pages(3500)));
        assert_eq!(machine.reads(), (1, 1));
    }

    #[test]
    fn what_is_in_swap_is_asked_only_of_those_that_could_win() {
        let mut sizes: Vec<_> = (0..300).map(|n| (100 + n, 40)).collect();
        sizes[100] = (3000, 500);
        sizes[200] = (2000, 1700);
        let mut machine = Machine::new("asked-of-few", &sizes);
        machine.swap_used = Pages(30_000);
        machine.read_all();
        // So much has been allocated that no sum holds, but little was swapped out.
        machine.counters.allocated += 1 << 30;
        machine.counters.swapped_out += 20;
        machine.begin();
        let deadline = MonoTime::now().plus_millis(60_000);
        machine.scale.deadline = Some(deadline);
        assert_eq!(machine.choose(), (200, Pages(3700)));
        assert_eq!(machine.reads(), (300, 1));
    }

    #[test]
    fn processes_of_one_size_do_not_rule_a_full_scan_in() {
        let mut machine = Machine::new("one-size", &[(1000, 0); 400]);
        machine.read_all();
        machine.counters.allocated += 60;
        machine.begin();
        assert_eq!(machine.choose().1, Pages(1000));
        assert_eq!(machine.reads(), (1, 1));
    }

    #[test]
    fn one_that_is_heavier_by_more_than_a_sixteenth_is_never_missed() {
        let mut seed = 1_u64;
        let mut dice = |sides: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            i64::try_from(seed >> 33).unwrap() % sides
        };
        let mut machine = Machine::new("never-missed", &[(1, 0); 40]);
        let mut sizes = vec![(1, 0); 40];
        let mut skipped = 0;
        for round in 0..150 {
            machine.swap_used = Pages(sizes.iter().map(|(_, swap)| swap).sum());
            if round % 3 == 0 {
                machine.read_all();
            }
            for (n, size) in sizes.iter_mut().enumerate() {
                let (resident, swapped) = (&mut size.0, &mut size.1);
                match dice(8) {
                    0 => *resident = (*resident - dice(500)).max(0),
                    1 => {
                        let grown = if dice(4) == 0 { dice(3000) } else { dice(20) };
                        *resident += grown;
                        machine.counters.allocated += grown.unsigned_abs();
                    }
                    2 => {
                        let out = dice(*resident + 1);
                        (*resident, *swapped) = (*resident - out, *swapped + out);
                        machine.counters.swapped_out += out.unsigned_abs();
                    }
                    3 => {
                        let back = dice(*swapped + 1);
                        (*resident, *swapped) = (*resident + back, *swapped - back);
                        machine.counters.allocated += back.unsigned_abs();
                    }
                    _ => {}
                }
                machine.resize(n, *size);
            }
            machine.swap_used = Pages(sizes.iter().map(|(_, swap)| swap).sum());
            machine.begin();
            machine.scale.deadline = Some(MonoTime::now().plus_millis(60_000));
            let (chosen, size) = machine.choose();
            let heaviest =
                sizes.iter().map(|(resident, swapped)| resident + swapped).max().unwrap();
            assert_eq!(size.get(), sizes[chosen].0 + sizes[chosen].1);
            let missed = heaviest - size.get();
            assert!(missed <= size.get() / SLACK, "{round}: {} of {heaviest}", size.get());
            skipped += sizes.len() - machine.reads().0;
        }
        assert!(skipped > 1000, "{skipped}");
    }

    #[test]
    fn when_time_is_over_the_one_that_was_largest_when_last_seen_is_taken() {
        let mut sizes = [(500, 0); 50];
        sizes[20] = (800, 0);
        let mut machine = Machine::new("time-over", &sizes);
        machine.read_all();
        machine.counters.allocated += 1 << 30;
        machine.begin();
        machine.scale.deadline = Some(MonoTime::ZERO);
        assert_eq!(machine.choose(), (20, Pages(800)));
        assert_eq!(machine.reads(), (0, 0));
    }

    #[test]
    fn many_are_read_from_the_largest_down() {
        let mut round = Round::default();
        let ids: Vec<_> = (0..2000).map(|n| RecordId { index: n, generation: 0 }).collect();
        for (n, id) in ids.iter().enumerate() {
            round.add(Pages(i64::try_from(n * 7919 % 2000).unwrap()), *id);
        }
        round.sort();
        assert_eq!(round.0.len(), ROUND);
        assert!(round.0.iter().zip((0..2000).rev()).all(|((size, _), n)| size.get() == n));
    }
}
