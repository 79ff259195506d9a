#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use serde_json::json;

/// Two apps, 900 and 800, of 8 MiB each, and what else happened.
fn events(more: &[Value]) -> Vec<Value> {
    let mut events = Vec::new();
    for (pid, name, adj) in [(10, "cached", 900), (11, "service", 800), (12, "front", 0)] {
        events.push(json!({"us": 1000, "event": "app", "pid": pid, "name": name, "kb": 8192}));
        events.push(json!({"us": 2000, "event": "rank", "pid": pid, "name": name, "adj": adj}));
    }
    events.extend_from_slice(more);
    events
}

fn sigkill(us: u64, pid: u32) -> Value {
    json!({"us": us, "event": "sigkill", "pid": pid, "by": "lmkd", "by_tid": 5, "kernel": false})
}

/// It exits, its parent sees it, the subscriber is told.
fn gone(us: u64, pid: u32) -> [Value; 3] {
    [
        json!({"us": us, "event": "exit", "pid": pid}),
        json!({"us": us + 500, "event": "death", "pid": pid, "end": 9, "ended": false}),
        json!({"us": us + 600, "event": "told", "pid": pid}),
    ]
}

/// A scenario of the actor 4 in which nothing happened.
const NOTHING: Evidence<'_> = Evidence {
    events: &[],
    all: &[],
    log: &[],
    records: &[],
    actor: 4,
    before: None,
    after: None,
    oom_kills: (0, 0),
    refusals: &[],
    restarts_daemon: false,
    restarted: None,
    unseen: false,
    first: None,
    framework: false,
};

/// The checks that do not hold.
fn verdict(events: &[Value], oom_kills: (u64, u64)) -> Vec<&'static str> {
    verdict_with("free memory 9kB < low watermark 10kB", events, oom_kills)
}

fn verdict_with(reason: &str, events: &[Value], oom_kills: (u64, u64)) -> Vec<&'static str> {
    let kill = |pid: &u32| {
        let signal = |event: &Value| is(event, "sigkill") && event["pid"] == *pid;
        events.iter().any(|event| signal(event) && event["by_tid"] == 5)
    };
    let killed: Vec<u32> = [10, 11, 12].into_iter().filter(kill).collect();
    let lines: Vec<String> = killed.iter().map(|pid| kill_line_of(*pid, reason)).collect();
    let records: Vec<String> = killed.iter().map(|pid| record_of(*pid)).collect();
    verdict_of(events, &lines, &records, oom_kills)
}

/// A look at the daemon: its loop, and another thread.
fn looked_at() -> Value {
    json!({"event": "done", "pid": 5, "tids": [5, 6]})
}

fn kill_line_of(pid: u32, reason: &str) -> String {
    format!("Kill 'a' ({pid}), uid 10000, oom_score_adj 900 to free 8400kB rss, 100kB swap; reason: {reason}")
}

fn record_of(pid: u32) -> String {
    let mut values = vec!["0".to_owned(); 38];
    values[0] = pid.to_string();
    values[4] = "8400".to_owned();
    values[29] = "100".to_owned();
    format!("I killinfo: [{}]", values.join(","))
}

fn verdict_of(
    events: &[Value],
    log: &[String],
    records: &[String],
    oom_kills: (u64, u64),
) -> Vec<&'static str> {
    let look = Look { pid: 5, rss_kb: 1500, fds: 30, ..Look::default() };
    let all = [events, &[looked_at()]].concat();
    let evidence = Evidence {
        events,
        all: &all,
        log,
        records,
        before: Some(look),
        after: Some(look),
        oom_kills,
        ..NOTHING
    };
    let mut story = Story { daemon: "lmkd".to_owned(), ..Story::default() };
    tell(&mut story, &evidence);
    judge(&mut story, &evidence);
    story.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect()
}

#[test]
fn one_kill_after_the_other_from_the_top_is_as_it_must_be() {
    let mut more = vec![sigkill(1_000_000, 10)];
    more.extend(gone(1_020_000, 10));
    more.push(sigkill(1_030_000, 11));
    more.extend(gone(1_050_000, 11));
    assert_eq!(verdict(&events(&more), (3, 3)), [""; 0]);
}

#[test]
fn a_kill_by_the_watchdog_is_noticed() {
    let mut more = vec![sigkill(1_000_000, 10)];
    more.extend(gone(1_020_000, 10));
    let reason = "the daemon is stuck, 2051ms in one handler > 2000ms";
    assert_eq!(verdict_with(reason, &events(&more), (3, 3)), ["the daemon never stood still"]);
}

#[test]
fn sparing_the_more_expendable_is_noticed() {
    let mut more = vec![sigkill(1_000_000, 11)];
    more.extend(gone(1_020_000, 11));
    assert_eq!(verdict(&events(&more), (0, 0)), ["victims fall in oom_score_adj"]);
}

#[test]
fn a_second_sigkill_before_the_exit_is_noticed_and_one_after_the_timeout_is_not() {
    let overlap = |second: u64| {
        let mut more = vec![sigkill(1_000_000, 10), sigkill(second, 11)];
        more.extend(gone(1_300_000, 10));
        more.extend(gone(1_310_000, 11));
        verdict(&events(&more), (0, 0))
    };
    assert_eq!(overlap(1_050_000), ["no second SIGKILL before an exit or the timeout"]);
    assert_eq!(overlap(1_097_900), ["no second SIGKILL before an exit or the timeout"]);
    assert_eq!(overlap(1_099_000), [""; 0]);
}

#[test]
fn a_victim_that_stays_and_a_protected_one_that_goes_are_noticed() {
    assert_eq!(
        verdict(&events(&[sigkill(1_000_000, 10)]), (0, 0)),
        ["every victim died of SIGKILL", "a subscriber was told of every kill"]
    );
    let mut more = vec![sigkill(1_000_000, 10)];
    more.extend(gone(1_010_000, 10));
    more.push(sigkill(1_100_000, 11));
    more.extend(gone(1_110_000, 11));
    more.push(sigkill(1_200_000, 12));
    more.extend(gone(1_210_000, 12));
    assert_eq!(verdict(&events(&more), (0, 0)), ["oom_score_adj 0 and below is alive"]);
}

#[test]
fn the_kernels_own_kill_is_noticed_but_not_its_help_for_a_victim() {
    let oom = |pid: u32| json!({"us": 1_005_000, "event": "oom", "pid": pid});
    let mut more = vec![sigkill(1_000_000, 10), oom(10)];
    more.extend(gone(1_020_000, 10));
    assert_eq!(verdict(&events(&more), (0, 0)), [""; 0]);
    more.push(oom(11));
    assert_eq!(verdict(&events(&more), (0, 1)), ["the kernel's OOM killer stayed out"]);
}

#[test]
fn a_kill_line_without_numbers_is_noticed() {
    let mut more = vec![sigkill(1_000_000, 10)];
    more.extend(gone(1_020_000, 10));
    for reason in ["scarcity", "free memory is low", "free memory 9kB"] {
        assert_eq!(
            verdict_with(reason, &events(&more), (0, 0)),
            ["every kill is logged with its numbers"]
        );
    }
}

#[test]
fn the_actors_own_kills_are_nobodys() {
    let own = json!({"us": 1, "event": "sigkill", "pid": 10, "by": "<...>", "by_tid": 4, "kernel": false});
    assert_eq!(verdict(&events(&[own]), (0, 0)), [""; 0]);
}

/// The checks of the daemon's costs that do not hold.
fn costs(
    before: Look,
    after: Look,
    first: Option<Look>,
    restarted: Option<Look>,
    framework: bool,
) -> Vec<&'static str> {
    let evidence = Evidence {
        before: Some(before),
        after: Some(after),
        restarts_daemon: restarted.is_some(),
        restarted,
        first,
        framework,
        ..NOTHING
    };
    let checks = cost::daemon_as_before(&evidence);
    checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect::<Vec<_>>()
}

#[test]
fn a_daemon_that_keeps_something_or_waits_for_a_page_is_noticed() {
    let look = Look { pid: 5, rss_kb: 1500, fds: 30, ..Look::default() };
    let names = |before, after, first, restarted| costs(before, after, first, restarted, false);
    assert_eq!(names(look, Look { fds: 31, rss_kb: 2012, ..look }, None, None), [""; 0]);
    assert_eq!(
        names(look, Look { fds: 31, ..look }, Some(look), None),
        ["the daemon's descriptors are what they were"]
    );
    let larger = Look { rss_kb: 2013, ..look };
    assert_eq!(names(look, larger, None, None), ["the daemon's memory is what it was"]);
    // Little by little is noticed, too.
    let (step, last) = (Look { rss_kb: 2900, ..look }, Look { rss_kb: 3037, ..look });
    assert_eq!(names(step, last, None, None), [""; 0]);
    assert_eq!(names(step, last, Some(look), None), ["the daemon's memory is what it was"]);
    assert_eq!(
        names(look, Look { major_faults: 1, ..look }, None, None),
        ["the daemon waited for no page, and took few"]
    );
    assert_eq!(names(look, Look { minor_faults: 256, ..look }, None, None), [""; 0]);
    assert_eq!(
        names(look, Look { minor_faults: 257, ..look }, None, None),
        ["the daemon waited for no page, and took few"]
    );
    // Another process, in whose place is the one that has started since.
    let other = Look { pid: 6, ..look };
    assert_eq!(names(look, other, None, None), ["the daemon is the process it was"]);
    assert_eq!(names(look, other, None, Some(other)), [""; 0]);
}

#[test]
fn a_daemon_that_adb_cannot_look_at_is_not_gone() {
    let look = Look { pid: 5, ..Look::default() };
    let checks = |unseen| {
        let evidence = Evidence { events: &events(&[]), before: Some(look), unseen, ..NOTHING };
        let mut story = Story::default();
        judge(&mut story, &evidence);
        let failed = story.checks.into_iter().filter(|check| !check.ok);
        failed.map(|check| check.name).collect::<Vec<_>>()
    };
    assert_eq!(checks(false), ["the daemon is the process it was"]);
    assert_eq!(checks(true), [""; 0]);
}

#[test]
fn a_guards_sigterm_is_a_kill_and_the_sigkill_after_it_no_other() {
    let signal = |us: u64, kind: &str, by: u32| json!({"us": us, "event": kind, "pid": 10, "by": "x", "by_tid": by, "kernel": false});
    let kills = |more: &[Value]| {
        let look = Look { pid: 5, ..Look::default() };
        let evidence =
            Evidence { events: &events(more), all: &[looked_at()], before: Some(look), ..NOTHING };
        let mut story = Story::default();
        tell(&mut story, &evidence);
        story.kills.len()
    };
    assert_eq!(kills(&[signal(9000, "sigterm", 5)]), 1);
    assert_eq!(kills(&[signal(9000, "sigterm", 7)]), 0);
    assert_eq!(kills(&[signal(9000, "sigterm", 5), signal(9500, "sigkill", 5)]), 1);
}

#[test]
fn a_descriptor_of_the_daemons_own_is_noticed_among_those_of_others() {
    let look = Look { pid: 5, rss_kb: 1500, fds: 330, own_fds: 30, ..Look::default() };
    let of = |after: Look, framework| costs(look, after, Some(look), None, framework);
    let descriptors = ["the daemon's descriptors are what they were"];
    // An app of the device's own has registered.
    assert_eq!(of(Look { fds: 331, ..look }, true), [""; 0]);
    assert_eq!(of(Look { fds: 331, ..look }, false), descriptors);
    assert_eq!(of(Look { fds: 300, own_fds: 31, ..look }, true), descriptors);
}

#[test]
fn what_others_cost_the_daemon_is_allowed_where_there_are_others() {
    let look = Look { pid: 5, rss_kb: 1500, fds: 230, own_fds: 30, ..Look::default() };
    let after = Look { minor_faults: 300, born: 400, rss_kb: 2200, ..look };
    assert_eq!(costs(look, after, None, None, true), [""; 0]);
    let alone =
        ["the daemon's memory is what it was", "the daemon waited for no page, and took few"];
    assert_eq!(costs(look, after, None, None, false), alone);
    let more = Look { minor_faults: 357, rss_kb: 2213, ..after };
    assert_eq!(costs(look, more, None, None, true), alone);
}

#[test]
fn a_death_that_the_kernels_record_does_not_have_is_noticed() {
    let [_, death, _] = gone(1_020_000, 10);
    let unseen = ["every death is in the kernel's record"];
    assert_eq!(verdict(&events(std::slice::from_ref(&death)), (0, 0)), unseen);
    // The actor's own end of an app is none.
    let mut ended = death.clone();
    ended["ended"] = true.into();
    assert_eq!(verdict(&events(&[ended]), (0, 0)), [""; 0]);
    // It crashed, whatever it got besides.
    let mut crash = gone(1_020_000, 10);
    crash[1]["end"] = 7.into();
    let mut more = vec![sigkill(1_000_000, 10)];
    more.extend(crash);
    let expected = ["every death is in the kernel's record", "every victim died of SIGKILL"];
    assert_eq!(verdict(&events(&more), (0, 0)), expected);
}

const INVENTED: &str = "every kill that is told of was made";

#[test]
fn a_kill_that_never_happened_is_noticed_wherever_it_is_told_of() {
    let told = json!({"us": 1_000_600, "event": "told", "pid": 10});
    assert_eq!(verdict(&events(&[told]), (0, 0)), [INVENTED]);
    let line = [kill_line_of(10, "free memory 9kB < low watermark 10kB")];
    assert_eq!(verdict_of(&events(&[]), &line, &[], (0, 0)), [INVENTED]);
    assert_eq!(verdict_of(&events(&[]), &[], &[record_of(10)], (0, 0)), [INVENTED]);
    // Neither the kernel's nor the actor's signals are the daemon's.
    let (mut kernels, mut actors) = (sigkill(1_000_000, 10), sigkill(1_000_000, 10));
    kernels["kernel"] = true.into();
    actors["by_tid"] = 4.into();
    for other in [kernels, actors] {
        assert_eq!(verdict_of(&events(&[other]), &line, &[], (0, 0)), [INVENTED]);
    }
}

#[test]
fn who_is_told_to_be_killed_is_found_whatever_he_is_called() {
    let line = kill_line_of(10, "free memory 9kB < low watermark 10kB");
    let line = line.replace("'a'", "'b' (11), uid 12'");
    let claims = claimed(&[], &[line, "Gone: 'a' (12) has exited".to_owned()], &[]);
    assert_eq!(claims.into_iter().collect::<Vec<_>>(), [10]);
}

#[test]
fn the_daemons_count_is_that_of_its_signals() {
    let counted = |first: u64, last: u64| {
        let count =
            |us: u64, count: u64| json!({"us": us, "event": "done", "id": us, "count": count});
        let mut more = vec![count(3000, first), sigkill(1_000_000, 10)];
        more.extend(gone(1_020_000, 10));
        // One on the way does not matter, nor do kills of others.
        more.push(count(1_500_000, 99));
        let mut other = sigkill(1_600_000, 77);
        other["by_tid"] = 1.into();
        more.extend([other, count(2_000_000, last)]);
        verdict(&events(&more), (0, 0))
    };
    assert_eq!(counted(7, 8), [""; 0]);
    assert_eq!(counted(7, 7), ["the daemon counts its kills"]);
    assert_eq!(counted(7, 9), ["the daemon counts its kills"]);
}

#[test]
fn a_gap_in_the_kernels_record_is_noticed() {
    let lost = json!({"us": 9000, "event": "lost", "line": "CPU:1 [LOST 12 EVENTS]"});
    assert_eq!(verdict(&events(&[lost]), (0, 0)), ["the kernel's record has no gaps"]);
}

#[test]
fn a_kill_outside_of_the_cast_must_be_told_and_of_somebody_expendable() {
    let outside = |us: u64, adj: Option<i32>| {
        let told = json!({"us": us + 600, "event": "told", "pid": 77});
        let exit = json!({"us": us + 500, "event": "exit", "pid": 77});
        let line = adj.map(|adj| {
            format!("Kill 'com.other (x)' (77), uid 10007, oom_score_adj {adj} to free 1kB rss, 0kB swap; reason: free memory 9kB < low watermark 10kB")
        });
        (vec![sigkill(us, 77), exit, told], line)
    };
    let of = |(more, line): (Vec<Value>, Option<String>)| {
        verdict_of(&events(&more), line.as_slice(), &[], (0, 0))
    };
    assert_eq!(of(outside(1_000_000, Some(950))), [""; 0]);
    assert_eq!(of(outside(1_000_000, Some(850))), ["victims fall in oom_score_adj"]);
    let (order, expendable) =
        ("victims fall in oom_score_adj", "of others, only the expendable were killed");
    assert_eq!(of(outside(1_000_000, Some(0))), [order, expendable]);
    let silent = [order, expendable, "every kill is logged with its numbers"];
    assert_eq!(of(outside(1_000_000, None)), silent);
    // One after the other holds for them as well.
    let (mut more, line) = outside(1_000_000, Some(950));
    more[1]["us"] = 1_090_000.into();
    more.push(sigkill(1_020_000, 10));
    more.extend(gone(1_030_000, 10));
    let lines = [line.unwrap(), kill_line_of(10, "free memory 9kB < low watermark 10kB")];
    assert_eq!(
        verdict_of(&events(&more), &lines, &[record_of(10)], (0, 0)),
        ["no second SIGKILL before an exit or the timeout"]
    );
    // The daemon's other threads are the daemon.
    let (mut more, line) = outside(1_000_000, Some(0));
    more[0]["by_tid"] = 6.into();
    assert_eq!(of((more, line)), [order, expendable]);
    // Another process's kill is its own affair.
    let mut other = sigkill(1_000_000, 77);
    other["by_tid"] = 1.into();
    assert_eq!(verdict(&events(&[other]), (0, 0)), [""; 0]);
}

#[test]
fn the_exit_of_a_leader_is_not_that_of_its_threads() {
    let overlap = |second: u64| {
        let threads = json!({"us": 3000, "event": "threads", "pid": 10, "tids": [10, 20, 21]});
        let exit = |us: u64, tid: u32| json!({"us": us, "event": "exit", "pid": tid});
        let mut more = vec![threads, sigkill(1_000_000, 10), sigkill(second, 11)];
        more.extend([exit(1_001_000, 20), exit(1_050_000, 21)]);
        let mut first = gone(1_002_000, 10);
        // The parent is late.
        first[1]["us"] = 1_080_000.into();
        more.extend(first);
        more.extend(gone(1_090_000, 11));
        verdict(&events(&more), (0, 0))
    };
    assert_eq!(overlap(1_020_000), ["no second SIGKILL before an exit or the timeout"]);
    assert_eq!(overlap(1_051_000), [""; 0]);
}

#[test]
fn a_leader_that_was_gone_long_before_its_threads_is_no_riddle() {
    let mut more = vec![
        json!({"us": 3000, "event": "threads", "pid": 10, "tids": [10, 20]}),
        json!({"us": 4000, "event": "exit", "pid": 10}),
        sigkill(1_000_000, 10),
        json!({"us": 1_030_000, "event": "exit", "pid": 20}),
        json!({"us": 1_080_000, "event": "death", "pid": 10, "end": 9, "ended": false}),
        json!({"us": 1_080_100, "event": "told", "pid": 10}),
        sigkill(1_040_000, 11),
    ];
    more.extend(gone(1_050_000, 11));
    assert_eq!(verdict(&events(&more), (0, 0)), [""; 0]);
}

#[test]
fn a_victim_that_gets_it_again_after_another_is_noticed_but_not_who_has_its_id() {
    let twice = |between: &[Value]| {
        let mut more = vec![sigkill(1_000_000, 10)];
        more.extend(gone(1_010_000, 10));
        more.push(sigkill(1_100_000, 11));
        more.extend(gone(1_110_000, 11));
        more.extend_from_slice(between);
        more.push(sigkill(1_300_000, 10));
        more.extend(gone(1_310_000, 10));
        verdict(&events(&more), (0, 0))
    };
    let overlap = "no second SIGKILL before an exit or the timeout";
    assert!(twice(&[]).contains(&overlap));
    let next = [
        json!({"us": 1_200_000, "event": "app", "pid": 10, "name": "next", "kb": 8192}),
        json!({"us": 1_200_000, "event": "rank", "pid": 10, "name": "next", "adj": 700}),
    ];
    assert!(!twice(&next).contains(&overlap));
}
