//! Clients that mean harm, or die at the wrong moment: the daemon stays alive, serves the others and
//! does not grow.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::app::UID;
use host::daemon::Daemon;
use host::pressure::Pressure;
use host::until;
use host::wire::bytes;
use host::wire::Raw;
use host::wire::GETKILLCNT;
use host::wire::PROCPRIO;
use host::wire::PROCREMOVE;
use host::wire::PROCS_PRIO;
use host::wire::SUBSCRIBE;
use host::wire::TARGET;
use host::wire::UPDATE_PROPS;
use rustix::net::Shutdown;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

const APP_UID: i32 = UID.cast_signed();

fn prio(app: &App, adj: i32) -> [i32; 4] {
    [PROCPRIO, app.pid(), APP_UID, adj]
}

/// A packet that keeps the daemon busy for longer than it takes to send: three times a process that
/// another client has registered.
fn flood_about(app: &App) -> Vec<u8> {
    let record = [app.pid(), APP_UID, 1, 0];
    bytes(&[&[PROCS_PRIO][..], &record, &record, &record].concat())
}

#[test]
fn the_seventeenth_client_is_refused_and_the_others_stay() {
    let daemon = Daemon::start(&[]);
    let clients: Vec<Raw> = (0..16).map(|_| daemon.raw()).collect();
    for client in &clients {
        client.barrier();
    }
    let late = daemon.raw();
    assert!(late.receive().is_empty(), "hung up on");
    for client in &clients {
        client.barrier();
    }
    drop(clients);
    // Their places are free again.
    until("a free place", || {
        let client = daemon.raw();
        client.try_send(&bytes(&[GETKILLCNT, 0, 1000]));
        (client.receive().len() == 8).then_some(())
    });
}

#[test]
fn a_client_that_reconnects_gets_the_place_that_it_has_just_left() {
    let daemon = Daemon::start(&[]);
    let mut clients: Vec<Raw> = (0..16).map(|_| daemon.raw()).collect();
    for client in &clients {
        client.barrier();
    }
    // Hang-up and newcomer come in one batch, the one at any place.
    for place in 0..16 {
        let old = clients.remove(place);
        let new = daemon.while_stopped(|| {
            drop(old);
            daemon.raw()
        });
        new.barrier();
        clients.insert(place, new);
    }
    assert_eq!(daemon.log.with("connection refused"), [""; 0]);
}

#[test]
fn a_half_open_connection_and_one_that_never_reads_cost_the_others_nothing() {
    let daemon = Daemon::start(&[]);
    let _silent = daemon.raw();
    let deaf = daemon.raw();
    let question = bytes(&[GETKILLCNT, 1001, 1001]);
    for _ in 0..20_000 {
        deaf.send(&question);
    }
    let client = daemon.raw();
    let app = App::start("com.example.app");
    let start = Instant::now();
    client.words(&prio(&app, 900));
    client.barrier();
    assert_eq!(app.adj(), 900);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_client_that_has_sent_all_it_will_is_served_and_hung_up_on() {
    let daemon = Daemon::start(&[]);
    let app = App::start("com.example.app");
    let client = daemon.raw();
    daemon.while_stopped(|| {
        client.words(&prio(&app, 900));
        client.words(&[GETKILLCNT, 0, 1000]);
        client.shutdown(Shutdown::Write);
    });
    assert_eq!(client.receive(), bytes(&[GETKILLCNT, 0]));
    assert_eq!(app.adj(), 900);
    assert!(client.receive().is_empty(), "hung up on");
    daemon.raw().barrier();
}

#[test]
fn a_client_that_takes_no_more_packets_is_served_and_delays_nobody() {
    let daemon = Daemon::start(&[]);
    let app = App::start("com.example.app");
    let client = daemon.raw();
    client.words(&[SUBSCRIBE, 0]);
    client.shutdown(Shutdown::Read);
    for adj in 900..950 {
        client.words(&[GETKILLCNT, 0, 1000]);
        client.words(&prio(&app, adj));
    }
    until("its last command", || (app.adj() == 949).then_some(()));
    // It is gone for those who send, and has lost nothing by not reading.
    assert_eq!(daemon.log.with("loses packets"), [""; 0]);
    daemon.raw().barrier();
}

#[test]
fn a_hundred_thousand_packets_and_garbage_between_leave_nothing_behind() {
    let mut daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let apps = [0, 1, 2].map(|_| App::start("com.example.app"));
    for app in &apps {
        client.words(&prio(app, 900));
    }
    client.barrier();
    let (descriptors, memory) = (daemon.descriptors(), daemon.rss_kb());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..100_000_i32 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        match round % 4 {
            // Registration, and noise that no seed turns into one of somebody else's process.
            0 => client.words(&prio(&apps[0], 900 + round % 100)),
            1 => client.words(&prio(&apps[1], 900)),
            2 => client.words(&[PROCREMOVE, apps[2].pid()]),
            _ => {
                let mut noise = random.to_be_bytes().repeat(8);
                noise[0] |= 0x80;
                client.send(&noise[..1 + usize::try_from(random % 60).unwrap()]);
            }
        }
    }
    client.words(&prio(&apps[0], 901));
    client.barrier();
    assert_eq!(apps[0].adj(), 901);
    assert!(daemon.is_alive());
    assert!(daemon.rss_kb() - memory < 512, "from {memory} to {} kB", daemon.rss_kb());
    // One that was removed has given its descriptors back.
    assert!(daemon.descriptors() <= descriptors && !daemon.holds(apps[2].pid()));
    assert!(daemon.log.lines().len() < 1000, "refusals are not rate-limited");
}

#[test]
fn clients_that_never_stop_talking_do_not_keep_another_waiting() {
    let daemon = Daemon::start(&[]);
    let talking = AtomicBool::new(true);
    let app = App::start("com.example.app");
    // They have the first places.
    let flooders: Vec<Raw> = (0..4).map(|_| daemon.raw()).collect();
    flooders.iter().for_each(|flooder| _ = flooder.barrier());
    let patient = daemon.raw();
    patient.words(&prio(&app, 900));
    patient.barrier();
    let flood = flood_about(&app);
    daemon.while_stopped(|| {
        for flooder in &flooders {
            while flooder.try_send(&flood) {}
        }
    });
    std::thread::scope(|scope| {
        for flooder in &flooders {
            scope.spawn(|| {
                while talking.load(Ordering::Relaxed) {
                    flooder.send(&flood);
                }
            });
        }
        let start = Instant::now();
        for round in 0..200 {
            patient.words(&prio(&app, 800 + round));
            patient.barrier();
            assert_eq!(app.adj(), 800 + round);
        }
        // Half a second; half a minute if those at the first places always came first.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        talking.store(false, Ordering::Relaxed);
    });
}

#[test]
fn clients_that_never_stop_talking_delay_no_kill() {
    let Some(mut pressure) = Pressure::prepare("flood") else { return };
    let args = pressure.args();
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut apps = [800, 700, 600].map(|adj| (App::start("com.example.app"), adj));
    let client = daemon.raw();
    for (app, adj) in &apps {
        client.words(&prio(app, *adj));
    }
    client.barrier();
    let flooders: Vec<Raw> = (0..4).map(|_| daemon.raw()).collect();
    let flood = flood_about(&apps[0].0);
    let talking = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for flooder in &flooders {
            scope.spawn(|| {
                while talking.load(Ordering::Relaxed) {
                    flooder.send(&flood);
                }
            });
        }
        pressure.rise();
        for (app, _) in &mut apps {
            assert_eq!(app.ended_by(), Some(9));
        }
        talking.store(false, Ordering::Relaxed);
    });
}

#[test]
fn a_client_that_has_the_settings_read_without_end_delays_no_kill() {
    let Some(mut pressure) = Pressure::prepare("flood of settings") else { return };
    let args = pressure.args();
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut app = App::start("com.example.app");
    let client = daemon.raw();
    client.words(&prio(&app, 900));
    client.barrier();
    while_updating(&daemon, || {
        pressure.rise();
        assert_eq!(app.ended_by(), Some(9));
    });
    client.words(&[UPDATE_PROPS]);
    assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, 0]));
    // Nothing about them has changed.
    assert_eq!(daemon.log.with("monitors armed").len(), 1);
}

#[test]
fn a_client_that_has_the_settings_read_without_end_puts_off_no_sampling() {
    let args = ["--psi=/no/such/memory.pressure", "--set=use_minfree_levels=1"];
    let daemon = Daemon::start(&args);
    let mut app = App::start("com.example.app");
    let client = daemon.raw();
    client.words(&prio(&app, 900));
    client.barrier();
    while_updating(&daemon, || {
        // All memory is too little.
        client.words(&[TARGET, i32::MAX, 0]);
        assert_eq!(app.ended_by(), Some(9));
    });
}

/// Does something while clients have the settings read again as fast as they can.
fn while_updating(daemon: &Daemon, act: impl FnOnce()) {
    let flooders = [daemon.raw(), daemon.raw()];
    let talking = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for flooder in &flooders {
            scope.spawn(|| {
                while talking.load(Ordering::Relaxed) {
                    flooder.words(&[UPDATE_PROPS]);
                }
            });
        }
        let outcome = catch_unwind(AssertUnwindSafe(act));
        talking.store(false, Ordering::Relaxed);
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}

#[test]
fn settings_are_read_once_for_all_who_asked_by_then() {
    const ASKED: usize = 50;
    let dir = host::own_dir();
    let props = dir.join("props");
    std::fs::write(&props, "").unwrap();
    let daemon = Daemon::start(&[&format!("--props={}", props.display())]);
    let client = daemon.raw();
    client.barrier();
    // Wrong, which is said each time.
    std::fs::write(&props, "debug=perhaps").unwrap();
    daemon.while_stopped(|| (0..ASKED).for_each(|_| client.words(&[UPDATE_PROPS])));
    for _ in 0..ASKED {
        assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, -1]));
    }
    daemon.log.wait_for(1, "settings are kept as they are");
    assert_eq!(daemon.log.with("settings are kept as they are").len(), 1);
    // Those who ask later are served anew.
    std::fs::write(&props, "debug=true").unwrap();
    client.words(&[UPDATE_PROPS]);
    assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, 0]));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn ten_thousand_connections_leave_nothing_behind() {
    let mut daemon = Daemon::start(&[]);
    let client = daemon.raw();
    client.barrier();
    for _ in 0..100 {
        drop(daemon.raw());
    }
    client.barrier();
    let (descriptors, memory) = (daemon.descriptors(), daemon.rss_kb());
    for round in 0..10_000 {
        let visitor = daemon.raw();
        if round % 2 == 0 {
            // It may be refused while others have not been seen to leave.
            visitor.try_send(&bytes(&[SUBSCRIBE, 0]));
        }
    }
    until("the last visitor to leave", || (daemon.descriptors() <= descriptors).then_some(()));
    client.barrier();
    assert!(daemon.is_alive());
    assert!(daemon.rss_kb() - memory < 512, "from {memory} to {} kB", daemon.rss_kb());
}

#[test]
fn processes_that_die_give_their_descriptors_back() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    client.barrier();
    let before = daemon.descriptors();
    let apps: Vec<App> = (0..30).map(|_| App::start("com.example.app")).collect();
    for app in &apps {
        client.words(&prio(app, 900));
    }
    client.barrier();
    assert!(daemon.descriptors() > before);
    drop(apps);
    until("the descriptors", || (daemon.descriptors() <= before).then_some(()));
    // None of those hang-ups was taken for the client's.
    client.barrier();
}

#[test]
fn a_client_that_hangs_up_does_not_take_its_replacement_along() {
    let daemon = Daemon::start(&[]);
    let app = App::start("com.example.app");
    for round in 0..20 {
        let old = daemon.raw();
        old.words(&prio(&app, 900));
        old.barrier();
        let new = daemon.while_stopped(|| {
            drop(old);
            let new = daemon.raw();
            new.words(&[SUBSCRIBE, 0]);
            new
        });
        new.barrier();
        until("the claim", || {
            new.words(&prio(&app, 500 + round));
            new.barrier();
            (app.adj() == 500 + round).then_some(())
        });
    }
}
