//! When the daemon looks at memory, and for whom: a vendor's wish, timed looks after a pressure
//! event, sampling where there are no events, and scarcity. Pure.

use super::listening::SAMPLING_INTERVAL_MS;
use super::listening::SCARCITY_SPACING_MS;
use super::until;
use crate::clock::MonoTime;
use crate::kernel::memevents::WakeGate;
use crate::policy::PollPlan;
use crate::policy::PollRequest;
use crate::policy::Poller;
use crate::policy::Trigger;

/// What is due, and when the next thing will be.
pub(super) struct Schedule {
    poller: Poller,
    gate: WakeGate,
    /// The next look where the kernel has no pressure interface.
    sampling: Option<MonoTime>,
    /// There was a sign of scarce memory that was not looked into yet.
    scarce: bool,
    /// The vendor's kernel asks for a kill.
    vendor: Option<Trigger>,
    /// Pressure is watched. Until then the device boots: nobody but a vendor may ask for a kill,
    /// and what the kernel announces is looked at afterwards.
    watching: bool,
}

impl Schedule {
    pub(super) fn new() -> Self {
        Self {
            poller: Poller::new(),
            gate: WakeGate::new(i64::from(SCARCITY_SPACING_MS)),
            sampling: None,
            scarce: false,
            vendor: None,
            watching: false,
        }
    }

    /// Pressure is watched from now on, by looking now and then or by waiting for events. A client
    /// that has it watched anew again and again puts off no look.
    pub(super) fn watch(&mut self, sampling: Option<MonoTime>) {
        self.watching = true;
        self.sampling = sampling.map(|at| self.sampling.map_or(at, |due| due.min(at)));
    }

    /// There are signs of scarce memory, if `scarce`.
    pub(super) fn sign(&mut self, scarce: bool) {
        self.scarce |= scarce;
    }

    /// A vendor's wish. Of several at once the first that can be granted counts.
    pub(super) fn wish(&mut self, reason: i32, min_adj: i32) {
        if !self.vendor.is_some_and(Trigger::is_valid) {
            self.vendor = Some(Trigger::Vendor { reason, min_adj });
        }
    }

    /// The look that a vendor asks for.
    pub(super) fn take_wish(&mut self) -> Option<Trigger> {
        self.vendor.take()
    }

    /// The look that is due. A timed one obeys all rules: where both are, it comes first.
    pub(super) fn take_due(&mut self, now: MonoTime) -> Option<Trigger> {
        if self.sampling.is_some_and(|at| at <= now) {
            self.sampling = Some(now.plus_millis(SAMPLING_INTERVAL_MS));
            return Some(Trigger::Poll);
        }
        if self.poller.next_poll_in(now) == Some(0) {
            return Some(Trigger::Poll);
        }
        if !self.watching {
            return None;
        }
        let scarce = std::mem::take(&mut self.scarce);
        let look = (scarce && self.gate.knock(now)) || self.gate.is_due(now);
        look.then_some(Trigger::KswapdWake)
    }

    /// Milliseconds until something is due; None while nothing is.
    pub(super) fn due_in(&self, now: MonoTime) -> Option<i64> {
        let wish = self.vendor.map(|_| 0);
        let poll = self.poller.next_poll_in(now);
        let sampling = self.sampling.map(|at| until(now, at));
        let sign = self.scarce.then_some(0).filter(|_| self.watching);
        let scarcity = self.gate.due().filter(|_| self.watching).map(|at| until(now, at));
        [wish, poll, sampling, sign, scarcity].into_iter().flatten().min()
    }

    /// A trigger led to no look, as it was ignored or a kill is waited for.
    pub(super) fn passed(&mut self, now: MonoTime) {
        self.gate.passed(now);
    }

    /// Memory was looked at.
    pub(super) fn looked(
        &mut self,
        trigger: Trigger,
        now: MonoTime,
        reclaiming: bool,
        vigil_ms: Option<i64>,
    ) {
        self.gate.looked(now, trigger == Trigger::KswapdWake, reclaiming, vigil_ms);
    }

    /// Does what `trigger` led to. The window of timed looks ends here alone, so that its last one,
    /// which may come later than the window is long, is taken. Timed looks that pause while nobody
    /// is waited for, since the wait was given up on the way, go on.
    pub(super) fn apply(
        &mut self,
        trigger: Trigger,
        plan: PollPlan,
        waiting: bool,
        now: MonoTime,
        window_ms: i64,
    ) {
        // Others obey fewer rules. They must not take the turn of those that obey all, nor end the
        // window before the last of them.
        let of_window = matches!(trigger, Trigger::Event(_) | Trigger::Poll);
        if of_window {
            self.poller.polled(now);
        }
        if of_window || plan.request != PollRequest::NoChange {
            self.poller.apply(plan, now, window_ms);
        }
        if !waiting {
            self.resume(now);
        }
    }

    /// The wait for a death is over.
    pub(super) fn resume(&mut self, now: MonoTime) {
        self.poller.resume(now);
    }

    /// The polling state.
    pub(super) const fn poller(&self) -> Poller {
        self.poller
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Level;

    const KEEP: PollPlan = PollPlan { request: PollRequest::NoChange, interval_ms: None };
    const START: PollPlan = PollPlan { request: PollRequest::Start, interval_ms: Some(100) };
    const PAUSE: PollPlan = PollPlan { request: PollRequest::Pause, interval_ms: None };
    const EVENT: Trigger = Trigger::Event(Level::Medium);

    const fn ms(at: u64) -> MonoTime {
        MonoTime::from_millis(at)
    }

    fn watching() -> Schedule {
        let mut schedule = Schedule::new();
        schedule.watch(None);
        schedule
    }

    /// The turns of a loop in which reclaim goes on, from an event at 1000 to `end`.
    fn looks_until(end: u64, vigil_ms: Option<i64>, plan: PollPlan) -> Vec<(u64, Trigger)> {
        let mut schedule = watching();
        let (mut looks, mut now) = (Vec::new(), ms(1000));
        let mut due = Some(EVENT);
        while now < ms(end) {
            if let Some(trigger) = due {
                looks.push((now.micros_since(MonoTime::ZERO) / 1000, trigger));
                schedule.looked(trigger, now, true, vigil_ms);
                let plan = match trigger {
                    Trigger::Event(_) => START,
                    Trigger::Poll => KEEP,
                    _ => plan,
                };
                // A look takes a moment: what it asks for is due later than what it did not move.
                now = MonoTime::from_nanos(now.as_nanos() + 1_500_000);
                schedule.apply(trigger, plan, false, now, 1000);
            } else {
                now = now.plus_millis(schedule.due_in(now).unwrap_or(1000));
            }
            due = schedule.take_due(now);
        }
        looks
    }

    fn count(looks: &[(u64, Trigger)], of: Trigger) -> usize {
        looks.iter().filter(|(_, trigger)| *trigger == of).count()
    }

    #[test]
    fn looks_for_scarcity_take_no_turn_of_timed_ones() {
        for plan in [KEEP, START] {
            let looks = looks_until(2000, None, plan);
            assert!(count(&looks, Trigger::Poll) >= 9, "{looks:?}");
        }
    }

    #[test]
    fn a_vigil_and_timed_looks_both_have_their_turns() {
        for vigil_ms in [10, 100] {
            let looks = looks_until(2000, Some(vigil_ms), KEEP);
            assert!(count(&looks, Trigger::Poll) >= 9, "{looks:?}");
            let vigils = usize::try_from(900 / vigil_ms).unwrap();
            assert!(count(&looks, Trigger::KswapdWake) >= vigils, "{looks:?}");
        }
    }

    #[test]
    fn of_a_timed_look_and_one_for_scarcity_the_timed_one_comes_first() {
        let mut schedule = watching();
        schedule.looked(Trigger::KswapdWake, ms(1000), true, None);
        schedule.apply(EVENT, START, false, ms(1000), 1000);
        assert_eq!(schedule.take_due(ms(1100)), Some(Trigger::Poll));
    }

    #[test]
    fn while_the_device_boots_scarcity_keeps_nobody_awake_and_is_not_forgotten() {
        let mut schedule = Schedule::new();
        schedule.looked(Trigger::Vendor { reason: 1, min_adj: 0 }, ms(1000), true, None);
        schedule.sign(true);
        for now in [1000, 1100, 5000] {
            assert_eq!((schedule.due_in(ms(now)), schedule.take_due(ms(now))), (None, None));
        }
        schedule.watch(None);
        assert_eq!(schedule.due_in(ms(5000)), Some(0));
        assert_eq!(schedule.take_due(ms(5000)), Some(Trigger::KswapdWake));
    }

    #[test]
    fn a_wish_drained_inside_a_look_is_due_at_once() {
        let mut schedule = Schedule::new();
        schedule.wish(1, 0);
        assert_eq!(schedule.due_in(ms(1)), Some(0));
        assert_eq!(schedule.take_wish(), Some(Trigger::Vendor { reason: 1, min_adj: 0 }));
        assert_eq!((schedule.due_in(ms(1)), schedule.take_wish()), (None, None));
    }

    #[test]
    fn of_several_wishes_the_first_that_can_be_granted_counts() {
        let mut schedule = Schedule::new();
        for (reason, min_adj) in [(1000, 0), (7, -1), (3, 900), (4, 0), (1000, 0)] {
            schedule.wish(reason, min_adj);
        }
        assert_eq!(schedule.take_wish(), Some(Trigger::Vendor { reason: 3, min_adj: 900 }));
    }

    #[test]
    fn a_wait_that_a_look_gives_up_leaves_no_pause() {
        let mut schedule = watching();
        schedule.apply(EVENT, PAUSE, true, ms(1000), 1000);
        assert_eq!(schedule.due_in(ms(1000)), None);
        // kill_timeout_ms was over; the look that came upon it asks for nothing itself.
        schedule.apply(Trigger::KswapdWake, KEEP, false, ms(1101), 1000);
        assert_eq!(schedule.take_due(ms(1101)), Some(Trigger::Poll));
    }

    #[test]
    fn a_window_has_its_last_look_however_late_that_is() {
        // 102 ms from look to look: the tenth comes 1020 ms after the event.
        let looks = looks_until(2500, None, KEEP);
        let polls: Vec<u64> = looks
            .iter()
            .filter(|(_, trigger)| *trigger == Trigger::Poll)
            .map(|(at, _)| at - 1000)
            .collect();
        assert_eq!((polls.len(), polls.last()), (10, Some(&1020)), "{polls:?}");
    }

    #[test]
    fn sampling_looks_once_a_second() {
        let mut schedule = Schedule::new();
        schedule.watch(Some(ms(1000)));
        assert_eq!((schedule.due_in(ms(990)), schedule.take_due(ms(990))), (Some(10), None));
        assert_eq!(schedule.take_due(ms(1000)), Some(Trigger::Poll));
        assert_eq!((schedule.due_in(ms(1000)), schedule.take_due(ms(1000))), (Some(1000), None));
    }
}
