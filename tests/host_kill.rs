//! The real daemon under real memory pressure: whom it kills, when, and what it says about it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::app::UID;
use host::daemon::Daemon;
use host::pressure::Pressure;
use host::tracer::Tracer;
use host::wire::word;
use host::wire::GETKILLCNT;
use host::wire::PROCKILL;
use host::wire::PROCS_PRIO;
use host::wire::STAT;
use host::wire::SUBSCRIBE;
use lmkd::control::client::Client;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::kernel::process::ProcDir;
use lmkd::units::Pages;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

const SIGKILL: i32 = 9;

/// A daemon that watches a group of its own, and `extra`.
fn daemon_on(pressure: &Pressure, extra: &[&str]) -> Daemon {
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).chain(extra.iter().copied()).collect();
    Daemon::start(&args)
}

fn register(client: &mut Client, apps: &[(&App, i32)]) {
    let records: Vec<_> = apps.iter().map(|(app, adj)| app.at(*adj)).collect();
    client.register_all(&records).unwrap();
    client.kill_count(KillCount::Total).unwrap();
}

#[test]
fn under_pressure_apps_die_one_by_one_from_the_highest_adj_down_and_each_death_is_proven() {
    let Some(mut pressure) = Pressure::prepare("kill order") else { return };
    // A victim that gets no CPU takes its time.
    let daemon = daemon_on(&pressure, &["--set=kill_timeout_ms=30000"]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    // Registered in another order than that of their deaths.
    let adjs = [100, 900, 0, 700, 800, 200, 500];
    let mut apps: Vec<(i32, App)> =
        adjs.map(|adj| (adj, App::start(&format!("com.example.adj{adj}")))).into();
    let mut system = App::start("com.example.system");
    let mut known: Vec<_> = apps.iter().map(|(adj, app)| (app, *adj)).collect();
    known.push((&system, -800));
    register(&mut client, &known);

    apps.sort_by_key(|(adj, _)| -adj);
    let sizes: Vec<i32> = apps.iter().map(|(_, app)| app.rss_kb()).collect();
    pressure.rise();
    for (index, ((adj, app), rss)) in apps.iter_mut().zip(sizes).enumerate() {
        assert_eq!(app.ended_by(), Some(SIGKILL), "the app at {adj}");
        let KillEvent::Killed(notice) = client.next_event().unwrap() else {
            panic!("statistics were not asked for")
        };
        assert_eq!((notice.pid, notice.uid, notice.rss_kb), (app.pid(), UID, rss));
        let killed = daemon.log.wait_for(index + 1, "Kill '");
        let line = &daemon.log.lines()[killed];
        let (name, pid) = (&app.name, app.pid());
        let what = format!("Kill '{name}' ({pid}), uid {UID}, oom_score_adj {adj} to free {rss}kB");
        assert!(line.contains(&what), "{line}");
        let (_, reason) = line.split_once("; reason: ").expect("a reason");
        assert!(!reason.is_empty());
    }

    // There is pressure still, and nobody left who may be killed.
    daemon.log.wait_for(1, "a kill is due");
    assert!(system.is_alive());
    let lowest = lmkd::oom_score_adj::OomScoreAdj::FOREGROUND;
    let highest = lmkd::oom_score_adj::OomScoreAdj::MAX;
    assert_eq!(client.kill_count(KillCount::Between(lowest, highest)).unwrap(), 7);
    assert_eq!(client.kill_count(KillCount::Between(highest, highest)).unwrap(), 0);
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 7);

    // One at a time: each is dead before the next is killed.
    let lines = daemon.log.lines();
    let place = |text: String| {
        lines.iter().position(|line| line.contains(&text)).unwrap_or_else(|| panic!("no '{text}'"))
    };
    let mut before = 0;
    for (_, app) in &apps {
        let killed = place(format!("Kill '{}'", app.name));
        let dead = lines.iter().position(|line| {
            line.contains("Process got killed") && line.contains(&format!("({})", app.pid()))
        });
        assert!(before <= killed, "{} was killed too early", app.name);
        before = dead.unwrap_or_else(|| panic!("nothing on the death of {}", app.name));
        assert!(killed < before);
    }

    if host::kernel_tells_exit() {
        for (_, app) in &apps {
            let text = format!("Proven: '{}' ({}) was ended by SIGKILL", app.name, app.pid());
            daemon.log.wait_for(1, &text);
        }
    }
}

/// As when the user opens an app, which moves it and makes pressure, while the daemon is busy.
#[test]
fn whom_a_client_has_moved_before_the_pressure_is_seen_is_not_chosen_for_the_adj_it_had() {
    let Some(mut pressure) = Pressure::prepare("a move that waits") else { return };
    let daemon = daemon_on(&pressure, &[]);
    let client = daemon.raw();
    let opened = App::start("com.example.opened");
    let mut other = App::start("com.example.other");
    let new = App::start("com.example.new");
    let uid = UID.cast_signed();
    // The first of one adj is the first to go.
    client.words(&[PROCS_PRIO, opened.pid(), uid, 900, 0, other.pid(), uid, 900, 0]);
    client.barrier();
    daemon.while_stopped(|| {
        // Neither a question nor a process that is new keeps the move behind it from being heard of.
        client.words(&[GETKILLCNT, 0, 0]);
        client.words(&[PROCS_PRIO, new.pid(), uid, 0, 0, opened.pid(), uid, 0, 0]);
        pressure.rise();
        pressure.until_told();
    });
    assert_eq!(other.ended_by(), Some(SIGKILL));
    pressure.fall();
    let killed = daemon.log.wait_for(1, "Kill '");
    assert!(daemon.log.lines()[killed].contains("com.example.other"));
}

#[test]
fn without_pressure_nobody_is_killed() {
    let Some(mut pressure) = Pressure::prepare("no pressure") else { return };
    let daemon = daemon_on(&pressure, &[]);
    let mut client = daemon.client();
    let mut first = App::start("com.example.first");
    let mut second = App::start("com.example.second");
    register(&mut client, &[(&first, 900), (&second, 800)]);
    pressure.rise();
    assert_eq!(first.ended_by(), Some(SIGKILL));
    pressure.fall();
    // An event may be on its way still; after that there is silence.
    let kills = || client_kills(&daemon);
    let mut seen = kills();
    let mut since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(50));
        if kills() != seen {
            seen = kills();
            since = Instant::now();
        }
    }
    assert!(seen <= 2);
    assert_eq!(second.is_alive(), seen < 2);
}

fn client_kills(daemon: &Daemon) -> u32 {
    daemon.client().kill_count(KillCount::Total).unwrap()
}

#[test]
fn a_process_that_was_removed_is_no_victim() {
    let Some(mut pressure) = Pressure::prepare("removed") else { return };
    let daemon = daemon_on(&pressure, &[]);
    let mut client = daemon.client();
    let mut removed = App::start("com.example.removed");
    let mut kept = App::start("com.example.kept");
    register(&mut client, &[(&removed, 900), (&kept, 0)]);
    client.unregister(removed.at(0).pid).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    pressure.rise();
    assert_eq!(kept.ended_by(), Some(SIGKILL));
    daemon.log.wait_for(1, "a kill is due");
    assert!(removed.is_alive());
}

#[test]
fn a_process_that_died_unannounced_is_neither_reported_nor_counted() {
    let Some(mut pressure) = Pressure::prepare("died unannounced") else { return };
    let daemon = daemon_on(&pressure, &[]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let mut gone = App::start("com.example.gone");
    let mut last = App::start("com.example.last");
    register(&mut client, &[(&gone, 900), (&last, 800)]);
    gone.end();
    pressure.rise();
    assert_eq!(last.ended_by(), Some(SIGKILL));
    let KillEvent::Killed(notice) = client.next_event().unwrap() else { panic!() };
    assert_eq!(notice.pid, last.pid());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 1);
}

#[test]
fn statistics_come_before_the_kill_notice_and_only_to_whom_asked() {
    let Some(mut pressure) = Pressure::prepare("statistics") else { return };
    let daemon = daemon_on(&pressure, &[]);
    let (both, kills, none) = (daemon.raw(), daemon.raw(), daemon.raw());
    both.words(&[SUBSCRIBE, 0]);
    both.words(&[SUBSCRIBE, 1]);
    kills.words(&[SUBSCRIBE, 0]);
    for client in [&both, &kills, &none] {
        client.barrier();
    }
    let mut app = App::start("com.example.counted");
    let mut client = daemon.client();
    register(&mut client, &[(&app, 900)]);
    let rss = app.rss_kb();
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    let started = proc.stat(app.pid()).unwrap().start_time;
    pressure.rise();
    assert_eq!(app.ended_by(), Some(SIGKILL));

    let stat = both.receive();
    assert_eq!(word(&stat, 0), STAT);
    assert_eq!(stat.len(), 87 + app.name.len());
    let long = |index: usize| u64::from_be_bytes(stat[4 + 8 * index..][..8].try_into().unwrap());
    assert!(long(0) > 0, "page faults");
    assert_eq!(long(2), u64::try_from(rss).unwrap() * 1024);
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    assert_eq!((long(3), long(4), long(5)), (0, 0, started * tick_ns), "cache, swap, start");
    // After these six fields of 64 bits: user, adj, lowest adj, free memory, free swap, reason.
    let after = |index: usize| i32::from_be_bytes(stat[52 + 4 * index..][..4].try_into().unwrap());
    assert_eq!((after(0), after(1), after(2)), (UID.cast_signed(), 900, 0));
    assert_eq!(after(5), 1, "NOT_RESPONDING: the whole group stood still");
    assert_eq!(stat[84..86], [0, u8::try_from(app.name.len()).unwrap()]);
    assert_eq!(stat[86..], [app.name.as_bytes(), &[0]].concat());
    let notice = host::wire::bytes(&[PROCKILL, app.pid(), UID.cast_signed(), rss]);
    assert_eq!(both.receive(), notice);
    assert_eq!(kills.receive(), notice);
    // Its answer is the first packet it gets.
    assert_eq!(none.barrier(), 1);

    let count = |min: i32, max: i32| {
        none.words(&[GETKILLCNT, min, max]);
        word(&none.receive(), 1)
    };
    assert_eq!(count(-1000, 1000), 1);
    assert_eq!(count(900, 900), 1);
    assert_eq!(count(0, 899), 0);
    assert_eq!(count(901, 1000), 0);
    assert_eq!(count(900, 899), 0);
    assert_eq!(count(i32::MIN, i32::MAX), 1);
    assert_eq!(count(1001, 1001), 1);
}

#[test]
fn a_victim_that_cannot_die_costs_one_timeout_and_then_the_next_one_dies() {
    let Some(mut pressure) = Pressure::prepare("held victim") else { return };
    // More than two pressure windows, so that a daemon that does not wait is seen.
    let daemon = daemon_on(&pressure, &["--set=kill_timeout_ms=5000"]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let mut held = App::start("com.example.held");
    let mut next = App::start("com.example.next");
    register(&mut client, &[(&held, 900), (&next, 800)]);
    let Some(mut tracer) = Tracer::hold(held.pid()) else {
        host::skip("held victim", "processes may not be traced here");
        return;
    };

    pressure.rise();
    let KillEvent::Killed(first) = client.next_event().unwrap() else { panic!() };
    assert_eq!(first.pid, held.pid());
    let KillEvent::Killed(second) = client.next_event().unwrap() else { panic!() };
    assert_eq!(second.pid, next.pid());
    assert_eq!(next.ended_by(), Some(SIGKILL));
    // What process_mrelease has made of its memory is known.
    daemon.log.wait_for(1, "has not exited 5000ms after SIGKILL; its memory is back;");

    // The pressure stays, and so does the victim: it is not killed a second time.
    daemon.log.wait_for(1, "a kill is due");
    assert!(held.is_alive());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 2);
    let [first, second] = daemon.signalled()[..] else { panic!() };
    assert!(second.millis_since(first) >= 5000, "{first:?}, {second:?}");
    pressure.fall();
    tracer.release();
    assert_eq!(held.ended_by(), Some(SIGKILL));
    // It stayed on watch.
    let pid = held.pid();
    daemon.log.wait_for(1, &format!("({pid})"));
    daemon.log.wait_for(2, "Process got killed in ");
    if host::kernel_tells_exit() {
        daemon.log.wait_for(1, &format!("Proven: 'com.example.held' ({pid}) was ended by SIGKILL"));
    }
}

#[test]
fn a_victim_that_cannot_die_is_not_chosen_again_when_it_is_registered_again() {
    let Some(mut pressure) = Pressure::prepare("held victim registered again") else { return };
    let daemon = daemon_on(&pressure, &["--set=kill_timeout_ms=100"]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let held = App::start("com.example.held");
    register(&mut client, &[(&held, 900)]);
    let Some(_tracer) = Tracer::hold(held.pid()) else {
        host::skip("held victim registered again", "processes may not be traced here");
        return;
    };
    pressure.rise();
    client.next_event().unwrap();
    register(&mut client, &[(&held, 900)]);
    let mut next = App::start("com.example.next");
    register(&mut client, &[(&next, 0)]);
    let KillEvent::Killed(second) = client.next_event().unwrap() else { panic!() };
    assert_eq!(second.pid, next.pid());
    assert_eq!(next.ended_by(), Some(SIGKILL));
    daemon.log.wait_for(1, "a kill is due");
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 2);
}

#[test]
fn clients_are_served_while_a_victim_does_not_die() {
    let Some(mut pressure) = Pressure::prepare("served meanwhile") else { return };
    let daemon = daemon_on(&pressure, &["--set=kill_timeout_ms=30000"]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let held = App::start("com.example.held");
    let mut other = App::start("com.example.other");
    register(&mut client, &[(&held, 900), (&other, 800)]);
    let Some(mut tracer) = Tracer::hold(held.pid()) else {
        host::skip("served meanwhile", "processes may not be traced here");
        return;
    };
    pressure.rise();
    client.next_event().unwrap();
    let start = Instant::now();
    register(&mut client, &[(&other, 700)]);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(other.adj(), 700);
    assert!(other.is_alive());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 1);
    pressure.fall();
    tracer.release();
}

#[test]
fn a_subscriber_that_never_reads_delays_no_kill() {
    let Some(mut pressure) = Pressure::prepare("deaf subscriber") else { return };
    let daemon = daemon_on(&pressure, &[]);
    let deaf = daemon.raw();
    deaf.words(&[SUBSCRIBE, 0]);
    deaf.words(&[SUBSCRIBE, 1]);
    // Answers that it does not read fill its queue.
    let question = host::wire::bytes(&[GETKILLCNT, 1001, 1001]);
    for _ in 0..5000 {
        deaf.send(&question);
    }
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let mut apps = [800, 700, 600].map(|adj| (App::start("com.example.app"), adj));
    for (app, adj) in &apps {
        register(&mut client, &[(app, *adj)]);
    }
    pressure.rise();
    for (app, _) in &mut apps {
        assert_eq!(app.ended_by(), Some(SIGKILL));
        let KillEvent::Killed(notice) = client.next_event().unwrap() else { panic!() };
        assert_eq!(notice.pid, app.pid());
    }
    // Said once when it begins, and once more, with the sum, when it is over.
    assert_eq!(daemon.log.with("loses packets").len(), 1);
    assert_eq!(daemon.log.with("packets in all"), [""; 0]);
    drop(deaf);
    let sum = daemon.log.wait_for(1, "packets in all");
    let line = daemon.log.lines()[sum].clone();
    let lost = line.split_once(" lost ").and_then(|(_, rest)| rest.split(' ').next());
    // Most answers, and what it would have been told of each of three kills.
    assert!(lost.unwrap().parse::<u32>().unwrap() > 1000, "{line}");
    client.kill_count(KillCount::Total).unwrap();
    assert_eq!(daemon.log.with("loses packets").len(), 1);
    assert_eq!(daemon.log.with("packets in all").len(), 1);
}

#[test]
fn a_dry_run_names_the_victim_and_spares_it() {
    let Some(mut pressure) = Pressure::prepare("dry run") else { return };
    let daemon = daemon_on(&pressure, &["--dry-run"]);
    let mut client = daemon.client();
    let mut app = App::start("com.example.spared");
    register(&mut client, &[(&app, 900)]);
    pressure.rise();
    daemon.log.wait_for(2, &format!("dry run, would: Kill 'com.example.spared' ({})", app.pid()));
    assert!(app.is_alive());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
}

/// Every look kills, as all memory there is would be too little.
#[test]
fn from_the_first_kill_on_the_daemon_waits_for_no_page() {
    const KILLS: usize = 100;
    let daemon = Daemon::start(&["--set=use_psi=false", "--set=use_minfree_levels=true"]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    client.subscribe(Event::Stat).unwrap();
    let apps: Vec<App> = (0..KILLS).map(|_| App::start("com.example.app")).collect();
    let records: Vec<_> = apps.iter().map(|app| app.at(900)).collect();
    client.register_all(&records).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    let mut faults = vec![daemon.at_rest(Daemon::page_faults)];
    let level = Target { minfree: Pages(i64::from(i32::MAX)), adj: records[0].adj };
    client.set_targets(&Targets::new(&[level]).unwrap()).unwrap();
    let mut killed = 0;
    while killed < KILLS {
        if let KillEvent::Killed(_) = client.next_event().unwrap() {
            killed += 1;
            faults.push(daemon.page_faults());
        }
    }
    assert!(faults.iter().all(|at| *at == faults[0]), "before, and after each kill: {faults:?}");
}
