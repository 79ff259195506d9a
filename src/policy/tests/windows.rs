//! A window that a pressure event opened, and wake-ups of kswapd in it and after it.

use super::*;

const MEDIUM: Trigger = Trigger::Event(Level::Medium);
const VENDOR: Trigger = Trigger::Vendor { reason: 7, min_adj: 900 };

/// With memory below the low watermark, and little left to reclaim. Nobody can be killed yet.
fn short(t: Tunables) -> Machine {
    let mut machine = Machine::new(t);
    machine.sample.meminfo.free = Pages(1999);
    machine.frees = false;
    machine
}

/// The rules that a look finds after a wake-up of kswapd: whether those about watermarks alone.
fn woken(machine: &mut Machine, millis: u64) -> bool {
    assert_eq!(machine.look(millis, Trigger::KswapdWake).cause, None);
    machine.policy.polls_watermarks_alone()
}

#[test]
fn a_window_that_direct_reclaim_extends_keeps_all_its_rules_when_kswapd_wakes() {
    let mut machine = short(Tunables::default());
    machine.look(10_100, MEDIUM);
    for millis in (10_200..=11_100).step_by(100) {
        machine.sample.vmstat.pgscan_direct += 1;
        machine.look(millis, Trigger::Poll);
        assert_eq!(machine.plan(Trigger::Poll).0, PollRequest::Start);
    }
    assert!(!woken(&mut machine, 11_150));
    assert_eq!(machine.kill(11_200, Trigger::Poll).0, KillReason::LowMem);
}

#[test]
fn a_wake_up_of_kswapd_before_the_last_look_of_a_window_leaves_it_all_rules() {
    let mut machine = short(Tunables::default());
    machine.look(10_100, MEDIUM);
    machine.look(11_095, Trigger::Poll);
    assert!(!woken(&mut machine, 11_150));
    assert_eq!(machine.kill(11_195, Trigger::Poll).0, KillReason::LowMem);
    // That was the last.
    assert!(woken(&mut machine, 11_196));
    assert_eq!(machine.look(11_206, Trigger::Poll).cause, None);
}

#[test]
fn a_window_whose_last_look_was_not_taken_is_over_an_interval_later() {
    for (millis, alone) in [(11_200, false), (11_201, true)] {
        let mut machine = short(Tunables::default());
        machine.look(10_100, MEDIUM);
        assert_eq!(woken(&mut machine, millis), alone);
    }
}

#[test]
fn a_window_is_as_long_as_that_of_the_monitors() {
    for (length, alone) in [(Some(2000), false), (None, true)] {
        let mut machine = short(Tunables::default());
        machine.policy.window_lasts(length);
        machine.look(10_100, MEDIUM);
        assert_eq!(woken(&mut machine, 11_600), alone);
    }
}

#[test]
fn after_a_long_wait_for_a_death_the_window_begins_anew() {
    let mut machine = short(Tunables::default());
    machine.frees = true;
    machine.kill(10_100, MEDIUM);
    machine.frees = false;
    // The victim dies seconds later, and kswapd comes before the timed look.
    assert!(!woken(&mut machine, 14_000));
    assert_eq!(machine.kill(14_001, Trigger::Poll).0, KillReason::LowMem);
    assert!(!woken(&mut machine, 14_900));
    assert_eq!(machine.kill(14_901, Trigger::Poll).0, KillReason::LowMem);
}

#[test]
fn the_looks_after_a_vendors_kill_ask_all_rules() {
    let mut machine = short(Tunables::default());
    assert!(woken(&mut machine, 10_100));
    machine.frees = true;
    machine.kill(12_000, VENDOR);
    machine.sample.meminfo.free = Pages(999);
    assert_eq!(machine.kill(12_050, Trigger::Poll).0, KillReason::PressureAfterKill);
    // One that killed nobody changes nothing, unless it has looks follow.
    let mut machine = short(Tunables::default());
    assert!(woken(&mut machine, 10_100));
    machine.look(10_150, VENDOR);
    assert!(machine.policy.polls_watermarks_alone());
    machine.sample.vmstat.pgscan_direct += 1;
    machine.look(10_160, VENDOR);
    assert_eq!(machine.plan(VENDOR).0, PollRequest::Start);
    assert!(!machine.policy.polls_watermarks_alone());
}

#[test]
fn looks_that_follow_kswapd_become_no_window_when_there_is_enough_again() {
    let mut machine = short(Tunables::default());
    assert!(woken(&mut machine, 10_100));
    machine.sample.meminfo.free = Pages(6000);
    assert!(woken(&mut machine, 10_200));
    machine.look(10_300, MEDIUM);
    assert!(!machine.policy.polls_watermarks_alone());
}

#[test]
fn monitors_that_are_armed_anew_are_no_pressure_event() {
    let mut machine = short(Tunables::default());
    assert!(woken(&mut machine, 10_100));
    machine.policy.pressure_is_sampled(false);
    assert!(machine.policy.polls_watermarks_alone());
    assert_eq!(machine.look(10_110, Trigger::Poll).cause, None);
    machine.policy.pressure_is_sampled(true);
    assert!(!machine.policy.polls_watermarks_alone());
    machine.policy.pressure_is_sampled(false);
    assert!(!machine.policy.polls_watermarks_alone());
}

/// As [`Machine::boost`], with much left to reclaim: how kswapd is woken after memory has fragmented.
fn boosted(printed: bool) -> Machine {
    let mut machine = Machine::new(Tunables::default());
    machine.sample.meminfo.free = Pages(1999);
    assert_eq!(machine.kill(10_100, MEDIUM).0, KillReason::LowMem);
    machine.sample.meminfo.free = Pages(3000);
    assert_eq!(machine.look(10_200, Trigger::Poll).cause, None);
    machine.boost(1500);
    machine.sample.boost = printed.then_some(Pages(1500));
    machine.sample.vmstat.nr_inactive_file = 90_000;
    assert_eq!(machine.look(20_000, Trigger::KswapdWake).cause, None);
    (machine.sample.watermarks, machine.sample.boost) = (None, None);
    machine
}

#[test]
fn a_boost_that_kswapd_was_woken_for_is_no_low_memory_at_the_next_pressure_event() {
    for printed in [true, false] {
        let mut machine = boosted(printed);
        assert_eq!(machine.look(20_010, MEDIUM).cause, None, "{printed}");
        let cause = short(Tunables::default()).look(10_100, MEDIUM).cause.unwrap();
        machine.policy.note_kill(&cause, &machine.t);
        machine.sample.meminfo.free = Pages(2400);
        assert_eq!(machine.look(20_110, Trigger::Poll).cause, None, "{printed}");
        // Nor does it hide what is low without it.
        machine.sample.meminfo.free = Pages(1999);
        assert_eq!(machine.kill(20_210, Trigger::Poll).0, KillReason::LowMem);
    }
}

#[test]
fn a_boost_that_the_kernel_prints_is_no_low_memory_at_an_event_that_reads_it() {
    for (boost, low) in [(Some(Pages(1500)), false), (Some(Pages(0)), true), (None, true)] {
        let mut machine = Machine::new(Tunables::default());
        machine.boost(1500);
        machine.sample.boost = boost;
        machine.sample.vmstat.nr_inactive_file = 90_000;
        machine.sample.meminfo.free = Pages(3000);
        assert_eq!(machine.look(10_100, MEDIUM).cause.is_some(), low, "{boost:?}");
    }
}

#[test]
fn watermarks_raised_for_good_while_kswapd_was_awake_count_at_the_next_event() {
    let mut machine = boosted(true);
    machine.policy.watermarks_changed();
    let raised = Watermarks {
        min: Pages(2500),
        low: Pages(3500),
        high: Pages(4500),
        total_reserve: Pages(4500),
    };
    for printed in [Some(Pages(0)), None] {
        let mut machine = machine.clone();
        (machine.sample.watermarks, machine.sample.boost) = (Some(raised), printed);
        assert_eq!(machine.look(20_100, Trigger::KswapdWake).cause, None);
        machine.sample.watermarks = None;
        assert_eq!(machine.kill(20_110, MEDIUM).0, KillReason::LowMem, "{printed:?}");
    }
}

#[test]
fn looks_that_follow_kswapd_read_anew_whether_the_boost_is_over() {
    let mut machine = boosted(true);
    let poll = |machine: &mut Machine| {
        machine.policy.admit(Trigger::Poll, machine.sample.now.plus_millis(100), None, &machine.t)
    };
    assert_eq!(poll(&mut machine), Admission::Evaluate { watermarks: false });
    // Little is left to reclaim, so that kswapd is followed.
    (machine.sample.vmstat.nr_inactive_file, machine.frees) = (2000, false);
    machine.look(30_000, Trigger::KswapdWake);
    assert!(machine.policy.polls_watermarks_alone());
    assert_eq!(poll(&mut machine), Admission::Evaluate { watermarks: true });
}

#[test]
fn watermarks_raised_for_good_of_which_nobody_tells_count_for_pressure_that_has_read_them() {
    let mut machine = boosted(false);
    let marks = Watermarks {
        min: Pages(2500),
        low: Pages(3500),
        high: Pages(4500),
        total_reserve: Pages(4500),
    };
    for at in (100_000..1_000_000).step_by(30_000) {
        machine.sample.watermarks = Some(marks);
        assert_eq!(machine.look(at, Trigger::KswapdWake).cause, None);
        let now = MonoTime::from_millis(at + 50);
        let admission = machine.policy.clone().admit(MEDIUM, now, None, &machine.t);
        if admission == (Admission::Evaluate { watermarks: true }) {
            assert_eq!(machine.kill(at + 50, MEDIUM).0, KillReason::LowMem);
            return;
        }
    }
    panic!("pressure has never read any again");
}
