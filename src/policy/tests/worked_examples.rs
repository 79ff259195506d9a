//! Longer stories: kills, waits and windows with the loop's own polling state beside them.

use super::*;

const MEDIUM: Trigger = Trigger::Event(Level::Medium);
const WINDOW: i64 = 1000;

fn at(millis: u64) -> MonoTime {
    MonoTime::from_millis(millis)
}

#[test]
fn swap_that_cannot_be_filled_counts_as_low() {
    let mut machine = Machine::new(Tunables::default());
    let meminfo = &mut machine.sample.meminfo;
    meminfo.swap_total = Pages(524_288);
    meminfo.swap_free = Pages(300_000);
    meminfo.free = Pages(20_000);
    meminfo.inactive_file = Pages(20_000);
    let signals = machine.look(10_100, Trigger::Poll).signals.unwrap();
    assert_eq!(signals.swap_low_threshold, Pages(52_428));
    assert_eq!(signals.free_swap, Pages(40_000));
    assert!(signals.swap_is_low);
}

#[test]
fn each_kill_for_thrashing_lowers_the_limit_by_a_tenth_until_the_window_rolls() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.vmstat.nr_active_file = 94_999;
    machine.frees = false;
    machine.look(11_001, Trigger::Poll);
    machine.sample.meminfo.free = Pages(1999);
    for (millis, limit) in [(11_100, 100), (11_200, 90), (11_300, 81)] {
        machine.sample.vmstat.refault += 120_000;
        machine.frees = true;
        let verdict = machine.look(millis, Trigger::Poll);
        let (signals, cause) = (verdict.signals.unwrap(), verdict.cause.unwrap());
        assert_eq!((signals.thrashing, signals.thrashing_limit), (120, limit));
        assert_eq!((cause.reason.number(), cause.min_adj.get()), (4, 201));
        // The look after a kill starts from a new base; nobody is left to kill for low memory.
        machine.frees = false;
        assert_eq!(machine.look(millis + 50, Trigger::Poll).signals.unwrap().thrashing, 0);
    }
    let limit = |verdict: Verdict| verdict.signals.unwrap().thrashing_limit;
    assert_eq!(limit(machine.look(12_350, Trigger::Poll)), 72);
    assert_eq!(limit(machine.look(12_351, Trigger::Poll)), 100);
}

#[test]
fn an_ordinary_kill_waits_for_the_death_and_looks_again_at_once() {
    let mut machine = Machine::new(Tunables::default());
    let mut poller = Poller::new();
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    machine.waiting = true;
    poller.apply(machine.policy.poll_plan(MEDIUM, true), at(10_100), WINDOW);
    assert_eq!((poller.is_paused(), poller.next_poll_in(at(10_100))), (true, None));
    // The victim dies 35 ms later.
    machine.waiting = false;
    poller.resume(at(10_135));
    assert_eq!(poller.next_poll_in(at(10_135)), Some(0));
    machine.sample.meminfo.free = Pages(6000);
    assert_eq!(machine.look(10_135, Trigger::Poll).cause, None);
    assert_eq!(machine.plan(Trigger::Poll), (PollRequest::NoChange, Some(100)));
    let mut now = at(10_135);
    let mut looks = 0;
    while poller.is_polling() {
        poller.polled(now);
        poller.apply(machine.policy.poll_plan(Trigger::Poll, false), now, WINDOW);
        now = now.plus_millis(poller.next_poll_in(now).unwrap_or(0));
        looks += 1;
    }
    assert_eq!((now, looks), (at(11_235), 12), "the first look later than 1000 ms ends it");
}

#[test]
fn after_a_death_below_min_the_next_victim_follows() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    machine.sample.meminfo.free = Pages(999);
    let (reason, min_adj, _) = machine.kill(10_135, Trigger::Poll);
    assert_eq!((reason.number(), min_adj), (0, 0));
}

#[test]
fn a_slow_victim_is_waited_for_until_the_timeout_and_then_left() {
    let mut machine = Machine::new(Tunables::default());
    let t = machine.t.clone();
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    let admit = |machine: &mut Machine, millis| {
        machine.policy.admit(MEDIUM, at(millis), Some(at(10_100)), &t)
    };
    assert_eq!(admit(&mut machine, 10_199), Admission::Skipped);
    assert_eq!(machine.policy.wakeups().skipped, 1);
    assert_eq!(machine.policy.poll_plan(MEDIUM, true).request, PollRequest::Pause);
    assert_eq!(admit(&mut machine, 10_200), Admission::Evaluate { watermarks: false });
}

#[test]
fn without_a_timeout_only_the_death_ends_the_wait() {
    let t = Tunables { kill_timeout_ms: 0, ..Tunables::default() };
    let mut policy = Policy::new(PageSize::SMALL);
    assert_eq!(policy.admit(MEDIUM, at(900_000), Some(at(1)), &t), Admission::Skipped);
    let admission = policy.admit(MEDIUM, at(900_001), None, &t);
    assert_eq!(admission, Admission::Evaluate { watermarks: true });
}

#[test]
fn a_medium_event_after_a_critical_one_is_ignored_until_a_look_between() {
    let mut machine = Machine::new(Tunables::default());
    let t = machine.t.clone();
    machine.frees = false;
    machine.look(10_100, Trigger::Event(Level::Critical));
    assert_eq!(machine.policy.admit(MEDIUM, at(10_150), None, &t), Admission::Ignored);
    assert_eq!(machine.plan(MEDIUM), (PollRequest::NoChange, None));
    machine.look(10_160, Trigger::Poll);
    assert_eq!(machine.look(10_170, MEDIUM).cause, None);
    assert_eq!(machine.plan(MEDIUM), (PollRequest::Start, Some(100)));
}

#[test]
fn watermarks_that_changed_are_read_again() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    let t = machine.t.clone();
    let admit = |machine: &mut Machine| machine.policy.admit(MEDIUM, at(10_200), None, &t);
    assert_eq!(admit(&mut machine), Admission::Evaluate { watermarks: false });
    machine.policy.watermarks_changed();
    assert_eq!(admit(&mut machine), Admission::Evaluate { watermarks: true });
}

#[test]
fn watermarks_do_not_age_while_the_kernel_tells_of_their_changes() {
    let mut machine = Machine::new(Tunables::default());
    machine.policy.watermark_changes_are_told(true);
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    let t = machine.t.clone();
    let reads = |machine: &mut Machine| match machine.policy.admit(MEDIUM, at(99_000), None, &t) {
        Admission::Evaluate { watermarks } => watermarks,
        other => panic!("{other:?}"),
    };
    assert!(!reads(&mut machine), "88 s old, and nobody said that they are wrong");
    machine.policy.watermarks_changed();
    assert!(reads(&mut machine));
    machine.look(99_001, MEDIUM);
    machine.policy.watermark_changes_are_told(false);
    assert!(!reads(&mut machine));
    machine.sample.now = at(160_000);
    let later = machine.policy.admit(MEDIUM, at(160_000), None, &t);
    assert_eq!(later, Admission::Evaluate { watermarks: true }, "61 s old");
}

#[test]
fn what_changed_before_the_kernel_told_of_changes_is_read_once() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    machine.policy.watermark_changes_are_told(true);
    let t = machine.t.clone();
    let admission = machine.policy.admit(MEDIUM, at(10_200), None, &t);
    assert_eq!(admission, Admission::Evaluate { watermarks: true });
}

#[test]
fn without_fresh_watermarks_those_read_last_serve() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.watermarks = None;
    machine.sample.meminfo.free = Pages(1999);
    let (reason, _, why) = machine.kill(10_100, MEDIUM);
    assert_eq!(reason, KillReason::LowMem);
    assert!(why.contains("low watermark 8000kB"), "{why}");
}

#[test]
fn a_survey_says_what_a_look_would_though_nothing_has_happened_and_is_not_remembered() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.sample.now = at(10_100);
    let before = machine.policy.clone();
    let verdict = machine.policy.survey(&machine.sample, &machine.t);
    assert_eq!(verdict.cause.map(|cause| cause.reason), Some(KillReason::LowMem));
    assert_eq!(verdict.signals.map(|signals| signals.free), Some(Pages(1999)));
    assert_eq!(machine.policy, before);
    // A look at the same counters ends early.
    let looked = machine.policy.evaluate(Trigger::Poll, &machine.sample, &machine.t);
    assert_eq!(looked, Verdict::default());
}

#[test]
fn the_record_of_wake_ups_counts_from_the_last_event() {
    let mut machine = Machine::new(Tunables::default());
    machine.look(10_100, MEDIUM);
    machine.look(10_200, Trigger::Poll);
    machine.look(10_230, Trigger::Poll);
    let info = machine.policy.wakeups();
    assert_eq!((info.since_event_ms, info.since_previous_ms), (130, 30));
    assert_eq!((info.wakeups_since_event, info.skipped), (2, 0));
    machine.look(10_300, Trigger::Vendor { reason: 1, min_adj: 900 });
    let info = machine.policy.wakeups();
    assert_eq!((info.since_event_ms, info.since_previous_ms), (0, 70));
    assert_eq!(info.wakeups_since_event, 0);
}

#[test]
fn a_failed_reading_keeps_a_poll_window_going_but_opens_none() {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    machine.look(10_100, MEDIUM);
    machine.policy.read_failed(Trigger::Poll);
    assert_eq!(machine.plan(Trigger::Poll), (PollRequest::NoChange, Some(10)));
    machine.policy.read_failed(MEDIUM);
    assert_eq!(machine.plan(MEDIUM), (PollRequest::Start, Some(10)));
}

#[test]
fn watermarks_that_the_kernel_has_raised_for_good_are_no_boost() {
    let changed: fn(&mut Policy) = Policy::watermarks_changed;
    // The kernel may have told of a change, but what it told is lost: they may be boosted no less.
    let lost: fn(&mut Policy) = |policy| policy.watermark_changes_are_told(true);
    for (told, floor) in [(None, 201), (Some(changed), 0), (Some(lost), 201)] {
        let mut machine = Machine::new(Tunables::default());
        machine.boost(1500);
        machine.sample.meminfo.free = Pages(3499);
        if let Some(told) = told {
            told(&mut machine.policy);
        }
        let cause = machine.look(10_100, Trigger::KswapdWake).cause.unwrap();
        assert_eq!(cause.min_adj.get(), floor);
    }
}

#[test]
fn a_boost_that_the_kernel_prints_is_told_from_watermarks_raised_for_good() {
    // At the first look after a change that was told the marks may be boosted already; and of a
    // change that nobody told the distances between them may say nothing.
    for (told, boost, floor) in [(true, 1500, 201), (false, 1500, 201), (false, 0, 0), (true, 0, 0)]
    {
        let mut machine = Machine::new(Tunables::default());
        machine.boost(1500);
        machine.sample.boost = Some(Pages(boost));
        machine.sample.meminfo.free = Pages(3499);
        if told {
            machine.policy.watermarks_changed();
        }
        let cause = machine.look(10_100, Trigger::KswapdWake).cause.unwrap();
        assert_eq!(cause.min_adj.get(), floor, "{told} {boost}");
    }
}

#[test]
fn a_critical_stall_lifts_every_protection_where_only_boosted_watermarks_are_breached_too() {
    for (full_avg10_centi, floor) in [(8000, 201), (8001, 0)] {
        let mut machine =
            Machine::new(Tunables { stall_limit_critical: 80, ..Tunables::default() });
        machine.sample.stall = Some(Stall { full_avg10_centi });
        machine.boost(1500);
        machine.sample.meminfo.free = Pages(3499);
        let cause = machine.look(10_100, Trigger::KswapdWake).cause.unwrap();
        assert_eq!(cause.min_adj.get(), floor);
    }
}

#[test]
fn levels_decide_after_pressure_and_a_wake_up_of_kswapd_kills_only_at_the_end_of_memory() {
    let mut machine = Machine::new(Tunables { use_minfree_levels: true, ..Tunables::default() });
    machine.policy.set_minfree(MinfreeTable::from_pairs([(80_640, 950)]));
    // Below the level and the low watermark, with file cache to reclaim.
    machine.sample.meminfo.free = Pages(1999);
    assert_eq!(machine.look(10_100, Trigger::KswapdWake).cause, None);
    machine.look(10_200, MEDIUM);
    assert_eq!(machine.kill(10_300, Trigger::Poll).0, KillReason::Minfree);
    machine.sample.vmstat.nr_active_file = 0;
    machine.sample.vmstat.nr_inactive_file = 10;
    let (reason, min_adj, _) = machine.kill(20_000, Trigger::KswapdWake);
    assert_eq!((reason, min_adj), (KillReason::LowMem, 0));
}

#[test]
fn levels_do_not_decide_where_the_new_strategy_is_asked_for() {
    for (use_new_strategy, low_ram, reason) in [
        (None, false, KillReason::Minfree),
        (Some(true), false, KillReason::LowMem),
        (None, true, KillReason::LowMem),
        (Some(false), true, KillReason::Minfree),
    ] {
        let t = Tunables { use_minfree_levels: true, low_ram, ..Tunables::default() };
        let mut machine = Machine::new(Tunables { use_new_strategy, ..t });
        machine.policy.set_minfree(MinfreeTable::from_pairs([(80_640, 950)]));
        machine.sample.meminfo.free = Pages(1999);
        assert_eq!(machine.kill(10_100, MEDIUM).0, reason);
    }
}
