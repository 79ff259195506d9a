use super::*;

const START: PollPlan = PollPlan { request: PollRequest::Start, interval_ms: Some(100) };
const KEEP: PollPlan = PollPlan { request: PollRequest::NoChange, interval_ms: None };

fn at(millis: u64) -> MonoTime {
    MonoTime::from_millis(millis)
}

#[test]
fn an_idle_poller_plans_nothing() {
    let mut poller = Poller::new();
    poller.apply(KEEP, at(5), 1000);
    poller.polled(at(6));
    poller.resume(at(7));
    assert_eq!((poller.is_polling(), poller.next_poll_in(at(8))), (false, None));
}

#[test]
fn looks_come_an_interval_after_the_last_one_and_late_ones_at_once() {
    let mut poller = Poller::new();
    poller.apply(START, at(1000), 1000);
    assert_eq!(poller.next_poll_in(at(1000)), Some(100));
    assert_eq!(poller.next_poll_in(at(1030)), Some(70));
    assert_eq!(poller.next_poll_in(at(1250)), Some(0));
    poller.polled(at(1250));
    poller.apply(PollPlan { interval_ms: Some(10), ..KEEP }, at(1250), 1000);
    assert_eq!(poller.next_poll_in(at(1250)), Some(10));
}

#[test]
fn the_window_ends_after_its_length_and_not_at_it() {
    let mut poller = Poller::new();
    poller.apply(START, at(1000), 1000);
    poller.expire(at(2000), 1000);
    assert!(poller.is_polling());
    poller.expire(at(2001), 1000);
    assert!(!poller.is_polling());
}

#[test]
fn a_new_start_begins_a_new_window() {
    let mut poller = Poller::new();
    poller.apply(START, at(1000), 1000);
    poller.apply(START, at(1900), 1000);
    poller.expire(at(2500), 1000);
    assert!(poller.is_polling());
}

#[test]
fn a_pause_stops_looks_until_the_wait_is_over_even_if_none_were_under_way() {
    let mut poller = Poller::new();
    poller.apply(PollPlan { request: PollRequest::Pause, interval_ms: None }, at(1000), 1000);
    poller.expire(at(9000), 1000);
    assert!(poller.is_paused());
    poller.resume(at(9000));
    assert_eq!(poller.next_poll_in(at(9000)), Some(0));
    poller.polled(at(9001));
    assert_eq!(poller.next_poll_in(at(9001)), Some(10));
}

#[test]
fn a_start_without_an_interval_never_spins() {
    let mut poller = Poller::new();
    poller.apply(PollPlan { request: PollRequest::Start, interval_ms: None }, at(1), 1000);
    assert_eq!(poller.next_poll_in(at(1)), Some(10));
    assert_eq!(poller.next_poll_in(MonoTime::ZERO), Some(10), "a clock that goes back");
}
