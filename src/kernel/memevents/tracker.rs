//! Who reclaims memory right now, from the events alone. Pure: no I/O, no clock, no allocation.

use super::record::Event;
use super::record::Task;
use crate::clock::MonoTime;
use crate::kernel::ReclaimEvents;
use std::num::NonZeroU32;

/// Direct reclaims told apart at once. One task runs one at a time, and most block on few locks;
/// when more are under way the ones already known, the older ones, are what counts.
const MOST_TASKS: usize = 256;
/// Begins remembered where records name no task.
const MOST_UNNAMED: usize = 64;
/// kswapd threads told apart; higher nodes share the last place.
const MOST_NODES: usize = 64;
/// Reclaim that lasts longer is not believed: its end was never reported. The kernel itself counts
/// a task that blocks for 120 s as hung; half of it is far above any direct_reclaim_threshold_ms.
const LONGEST_BELIEVED_MS: i64 = 60_000;

/// Keeps track of direct reclaims and of each node's kswapd.
///
/// Where records name the task, the oldest reclaim still running is known exactly. Where they do
/// not, only begins and ends can be counted: with n running, the oldest of them began no later than
/// the n-th newest begin, and that is what is reported. So a duration is never overstated, and
/// never less than that of the newest begin.
///
/// What was lost heals: a task that begins again has ended before, a full ring clears everything
/// (those still at it are soon heard of again), and nothing is believed for more than a minute.
#[derive(Clone, Debug)]
pub struct ReclaimTracker {
    tasks: [(NonZeroU32, MonoTime); MOST_TASKS],
    tasks_len: usize,
    /// Begins without a task, oldest first from `unnamed_first` on, in a circle.
    unnamed: [MonoTime; MOST_UNNAMED],
    unnamed_first: usize,
    unnamed_len: usize,
    /// Last wake of each node's kswapd that has not gone to sleep since.
    awake: [Option<MonoTime>; MOST_NODES],
}

impl Default for ReclaimTracker {
    fn default() -> Self {
        Self::new()
    }
}

impl ReclaimTracker {
    /// Nobody reclaims.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            tasks: [(NonZeroU32::MIN, MonoTime::ZERO); MOST_TASKS],
            tasks_len: 0,
            unnamed: [MonoTime::ZERO; MOST_UNNAMED],
            unnamed_first: 0,
            unnamed_len: 0,
            awake: [None; MOST_NODES],
        }
    }

    /// Takes note of an event.
    pub fn apply(&mut self, event: &Event) {
        match *event {
            Event::DirectReclaimBegin { task, at } => self.begin(task, at),
            Event::DirectReclaimEnd { task } => self.end(task),
            Event::KswapdWake { node, at } => self.set_awake(node, Some(at)),
            Event::KswapdSleep { node } => self.set_awake(node, None),
            Event::Lost => *self = Self::new(),
            Event::VendorKill { .. } | Event::UpdateZoneinfo => {}
        }
    }

    /// Who reclaims at this moment.
    pub fn at(&mut self, now: MonoTime) -> ReclaimEvents {
        self.forget_the_unbelievable(now);
        let tasks = self.tasks.iter().take(self.tasks_len).map(|&(_, since)| since);
        let unnamed = (self.unnamed_len > 0).then(|| self.unnamed[self.unnamed_first]);
        ReclaimEvents {
            direct_since: tasks.chain(unnamed).min(),
            kswapd_awake: self.awake.iter().any(Option::is_some),
        }
    }

    fn begin(&mut self, task: Task, at: MonoTime) {
        let Some(task) = task else { return self.begin_unnamed(at) };
        if let Some(index) = self.find(task) {
            // It cannot reclaim twice at once: the end of the reclaim before was lost.
            self.tasks[index].1 = at;
        } else if let Some(free) = self.tasks.get_mut(self.tasks_len) {
            *free = (task, at);
            self.tasks_len += 1;
        }
    }

    fn end(&mut self, task: Task) {
        match task {
            Some(task) => {
                if let Some(index) = self.find(task) {
                    self.forget_task(index);
                }
            }
            None => self.pop_unnamed(),
        }
    }

    fn find(&self, task: NonZeroU32) -> Option<usize> {
        self.tasks.iter().take(self.tasks_len).position(|&(other, _)| other == task)
    }

    fn forget_task(&mut self, index: usize) {
        self.tasks_len -= 1;
        self.tasks.swap(index, self.tasks_len);
    }

    fn begin_unnamed(&mut self, at: MonoTime) {
        if self.unnamed_len == MOST_UNNAMED {
            // Forgetting the oldest keeps the rest a lower bound.
            self.pop_unnamed();
        }
        self.unnamed[(self.unnamed_first + self.unnamed_len) % MOST_UNNAMED] = at;
        self.unnamed_len += 1;
    }

    fn pop_unnamed(&mut self) {
        if self.unnamed_len > 0 {
            self.unnamed_first = (self.unnamed_first + 1) % MOST_UNNAMED;
            self.unnamed_len -= 1;
        }
    }

    fn set_awake(&mut self, node: u32, since: Option<MonoTime>) {
        let node = usize::try_from(node).unwrap_or(MOST_NODES).min(MOST_NODES - 1);
        self.awake[node] = since;
    }

    fn forget_the_unbelievable(&mut self, now: MonoTime) {
        let too_old = |since: MonoTime| now.millis_since(since) > LONGEST_BELIEVED_MS;
        let mut index = 0;
        while index < self.tasks_len {
            if too_old(self.tasks[index].1) {
                self.forget_task(index);
            } else {
                index += 1;
            }
        }
        while self.unnamed_len > 0 && too_old(self.unnamed[self.unnamed_first]) {
            self.pop_unnamed();
        }
        for awake in &mut self.awake {
            *awake = awake.filter(|&since| !too_old(since));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> MonoTime {
        MonoTime::from_millis(at)
    }

    fn begin(task: u32, at: u64) -> Event {
        Event::DirectReclaimBegin { task: NonZeroU32::new(task), at: ms(at) }
    }

    fn end(task: u32) -> Event {
        Event::DirectReclaimEnd { task: NonZeroU32::new(task) }
    }

    fn since(events: &[Event], now: u64) -> Option<MonoTime> {
        let mut tracker = ReclaimTracker::new();
        events.iter().for_each(|event| tracker.apply(event));
        tracker.at(ms(now)).direct_since
    }

    #[test]
    fn the_oldest_reclaim_still_running_counts_whoever_ends_first() {
        let events = [begin(1, 10), begin(2, 20), begin(3, 30), end(2), end(3)];
        assert_eq!(since(&events, 40), Some(ms(10)));
        assert_eq!(since(&[begin(1, 10), begin(2, 20), end(1)], 40), Some(ms(20)));
        assert_eq!(since(&[begin(1, 10), end(1)], 40), None);
    }

    #[test]
    fn a_task_that_begins_again_has_ended_before() {
        assert_eq!(since(&[begin(1, 10), begin(1, 500)], 501), Some(ms(500)));
    }

    #[test]
    fn an_end_without_a_begin_is_nothing() {
        assert_eq!(since(&[end(1), end(0), begin(2, 5)], 6), Some(ms(5)));
    }

    #[test]
    fn without_task_ids_the_duration_is_never_overstated() {
        // Which of the two ended is unknown; the one left began at 20 or before.
        assert_eq!(since(&[begin(0, 10), begin(0, 20), end(0)], 40), Some(ms(20)));
        // A chain of overlapping short reclaims is not one long reclaim.
        let mut tracker = ReclaimTracker::new();
        tracker.apply(&begin(0, 0));
        for at in 1..1000 {
            tracker.apply(&begin(0, at));
            tracker.apply(&end(0));
        }
        assert_eq!(tracker.at(ms(1000)).direct_since, Some(ms(999)));
    }

    #[test]
    fn without_task_ids_all_stuck_means_the_first_one_counts() {
        assert_eq!(since(&[begin(0, 10), begin(0, 20), begin(0, 30)], 40), Some(ms(10)));
    }

    #[test]
    fn nothing_is_believed_for_ever() {
        assert_eq!(since(&[begin(1, 0), begin(0, 0)], 60_000), Some(ms(0)));
        assert_eq!(since(&[begin(1, 0), begin(0, 0)], 60_001), None);
        assert_eq!(since(&[begin(1, 0), begin(2, 9), begin(0, 8)], 60_001), Some(ms(8)));
    }

    #[test]
    fn a_full_ring_clears_what_may_have_ended_unheard() {
        let mut tracker = ReclaimTracker::new();
        tracker.apply(&begin(1, 10));
        tracker.apply(&Event::KswapdWake { node: 0, at: ms(10) });
        tracker.apply(&Event::Lost);
        assert_eq!(tracker.at(ms(20)), ReclaimEvents::default());
    }

    #[test]
    fn each_node_has_a_kswapd_of_its_own() {
        let mut tracker = ReclaimTracker::new();
        for node in [0, 1, 4000] {
            tracker.apply(&Event::KswapdWake { node, at: ms(1) });
        }
        tracker.apply(&Event::KswapdSleep { node: 1 });
        tracker.apply(&Event::KswapdSleep { node: 0 });
        assert!(tracker.at(ms(2)).kswapd_awake);
        tracker.apply(&Event::KswapdSleep { node: 4000 });
        assert!(!tracker.at(ms(2)).kswapd_awake);
    }

    #[test]
    fn more_reclaimers_than_places_keep_the_older_ones() {
        let mut tracker = ReclaimTracker::new();
        for task in 1..=1000 {
            tracker.apply(&begin(task, u64::from(task)));
        }
        assert_eq!(tracker.at(ms(1000)).direct_since, Some(ms(1)));
        (1..=1000).for_each(|task| tracker.apply(&end(task)));
        assert_eq!(tracker.at(ms(1000)).direct_since, None);
        for at in 1..=100 {
            tracker.apply(&begin(0, at));
        }
        assert_eq!(tracker.at(ms(1000)).direct_since, Some(ms(37)));
        (1..=100).for_each(|_| tracker.apply(&end(0)));
        assert_eq!(tracker.at(ms(1000)).direct_since, None);
    }
}
