//! What is known of sizes from earlier, and what bounds it by now.
//!
//! A process's size is what is resident plus what is swapped out. A page that goes to swap or comes
//! back moves from one to the other, so the sum grows only by pages that were allocated meanwhile:
//! those that the whole machine has allocated bound it. Where only what is resident has been read
//! anew, the pages that the machine has swapped out meanwhile bound the rest. What all this misses,
//! the mapping of file pages that were in memory already, no kill would give back.

use super::Record;
use super::RecordId;
use super::Registry;
use crate::clock::MonoTime;
use crate::kernel::vmstat::PageCounters;
use crate::units::PageSize;
use crate::units::Pages;

/// Readings whose counters are remembered. What was read before them is only a hint.
const READINGS: usize = 256;

/// A size as it was once read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownSize {
    pub resident: Pages,
    /// In swap; at most so much if not `exact`.
    pub swapped: Pages,
    pub exact: bool,
    /// The reading that found it.
    pub reading: u32,
}

impl KnownSize {
    pub fn total(&self) -> Pages {
        self.resident + self.swapped
    }

    /// How large it was as far as anybody saw: what is only a bound is no size.
    pub fn hint(&self) -> Pages {
        if self.exact {
            self.total()
        } else {
            self.resident
        }
    }
}

/// What all comparisons of one reading have in common. A search is a reading, and so is each batch
/// of sizes that is read ahead.
#[derive(Debug)]
pub(super) struct Scale {
    pub page: PageSize,
    /// All that is in swap: nobody has more there.
    pub swap_used: Pages,
    /// What the machine has moved by now, if known.
    pub counters: Option<PageCounters>,
    /// The number of the reading, from 1 on.
    pub reading: u32,
    /// After it nothing more is read for a comparison.
    pub deadline: Option<MonoTime>,
    history: Vec<(u32, PageCounters)>,
}

impl Scale {
    pub fn new(page: PageSize) -> Self {
        Self {
            page,
            swap_used: Pages::ZERO,
            counters: None,
            reading: 0,
            deadline: None,
            history: vec![(0, PageCounters::default()); READINGS],
        }
    }

    /// Begins a reading.
    pub fn begin(&mut self, swap_used: Pages, counters: Option<PageCounters>) {
        self.reading = self.reading.checked_add(1).unwrap_or(1);
        self.swap_used = swap_used;
        self.counters = counters;
        self.deadline = None;
        if let (Some(counters), Some(place)) = (counters, self.place_of(self.reading)) {
            if let Some(place) = self.history.get_mut(place) {
                *place = (self.reading, counters);
            }
        }
    }

    fn place_of(&self, reading: u32) -> Option<usize> {
        usize::try_from(reading).ok()?.checked_rem(self.history.len())
    }

    fn counters_of(&self, reading: u32) -> Option<&PageCounters> {
        let (of, counters) = self.history.get(self.place_of(reading)?)?;
        (*of == reading && reading != 0).then_some(counters)
    }

    /// What a record's size cannot exceed, if anything bounds it.
    pub fn bound(&self, record: &Record) -> Option<Pages> {
        let known = record.size?;
        if known.reading == self.reading {
            return Some(known.total());
        }
        let then = self.counters_of(known.reading)?;
        Some(known.total() + pages(self.counters?.allocated.saturating_sub(then.allocated)))
    }

    /// What a record cannot have more than in swap.
    pub fn swap_bound(&self, record: &Record) -> Pages {
        let grown = record.size.and_then(|known| {
            if known.reading == self.reading {
                return Some(known.swapped);
            }
            let then = self.counters_of(known.reading)?;
            let written = self.counters?.swapped_out.saturating_sub(then.swapped_out);
            Some(known.swapped + pages(written) + pages(then.swap_cached?))
        });
        grown.map_or(self.swap_used, |grown| grown.min(self.swap_used))
    }

    /// What this reading has found out, whole.
    pub fn measured(&self, record: &Record) -> Option<Pages> {
        let known = record.size.filter(|known| known.exact && known.reading == self.reading)?;
        Some(known.total())
    }

    /// Keeps what has just been read of a record's size.
    pub fn note(&self, registry: &mut Registry, id: RecordId, parts: (Pages, Pages), exact: bool) {
        let (resident, swapped) = parts;
        if let Some(record) = registry.get_mut(id) {
            record.size = Some(KnownSize { resident, swapped, exact, reading: self.reading });
        }
    }
}

fn pages(count: u64) -> Pages {
    Pages(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oom_score_adj::OomScoreAdj;
    use crate::processes::Pid;

    fn counters(allocated: u64, swapped_out: u64) -> Option<PageCounters> {
        Some(PageCounters { allocated, swapped_out, swap_cached: Some(5) })
    }

    fn record(resident: i64, swapped: i64, reading: u32) -> Record {
        let pid = Pid::new(4_000_000).unwrap();
        let mut record = Record::new(pid, 0, OomScoreAdj::FOREGROUND, MonoTime::ZERO);
        let (resident, swapped) = (Pages(resident), Pages(swapped));
        record.size = Some(KnownSize { resident, swapped, exact: true, reading });
        record
    }

    #[test]
    fn a_size_grows_by_what_was_allocated_and_swap_by_what_was_swapped_out() {
        let mut scale = Scale::new(PageSize::SMALL);
        scale.begin(Pages(500), counters(1000, 100));
        let record = record(70, 30, scale.reading);
        assert_eq!(
            (scale.bound(&record), scale.swap_bound(&record)),
            (Some(Pages(100)), Pages(30))
        );
        scale.begin(Pages(500), counters(1200, 140));
        let bounds = (scale.bound(&record), scale.swap_bound(&record));
        // Five pages were in swap and in memory at once: those could leave without being written.
        assert_eq!(bounds, (Some(Pages(300)), Pages(30 + 40 + 5)));
        scale.begin(Pages(50), counters(1200, 140));
        assert_eq!(scale.swap_bound(&record), Pages(50));
    }

    #[test]
    fn without_counters_of_both_times_nothing_is_bounded() {
        let mut scale = Scale::new(PageSize::SMALL);
        scale.begin(Pages(500), None);
        let unknown = record(70, 30, scale.reading);
        scale.begin(Pages(500), counters(1, 1));
        let known = record(70, 30, scale.reading);
        assert_eq!((scale.bound(&unknown), scale.swap_bound(&unknown)), (None, Pages(500)));
        scale.begin(Pages(500), None);
        assert_eq!((scale.bound(&known), scale.swap_bound(&known)), (None, Pages(500)));
        // Nor once the counters of then have been forgotten.
        for _ in 0..READINGS {
            scale.begin(Pages(500), counters(1, 1));
        }
        assert_eq!(scale.bound(&known), None);
    }
}
