//! The real daemon when registered processes are more than the descriptors it may have: they are
//! known by their start time then.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::app::UID;
use host::daemon::Daemon;
use host::pressure::Pressure;
use host::until;
use host::wire::PROCPRIO;
use lmkd::kernel::process::ProcDir;
use rustix::process::Resource;
use rustix::process::Rlimit;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

/// As many as prlimit leaves the daemon.
const LIMIT: usize = 64;
/// More than that, so most have no descriptor.
const APPS: usize = 100;

const UNDER_LIMIT: &[&str] = &["prlimit", "--nofile=64:64"];
/// The machine itself may be short of memory.
const DRY: &[&str] = &["--dry-run"];
const APP_UID: i32 = UID.cast_signed();

/// How many of the daemon's descriptors are pidfds, once it is at rest.
fn pidfds(daemon: &Daemon) -> usize {
    let is_pidfd = |path: &Path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("pidfd"))
    };
    daemon.at_rest(|daemon| {
        let fds = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        fds.filter(|fd| is_pidfd(&fd.as_ref().unwrap().path())).count()
    })
}

/// The CPU time of the daemon's loop.
fn busy_time(daemon: &Daemon) -> Duration {
    let text = fs::read_to_string(format!("/proc/{}/schedstat", daemon.pid())).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn more_processes_than_descriptors_are_registered_and_clients_still_served() {
    let daemon = Daemon::start_under(UNDER_LIMIT, DRY);
    let client = daemon.raw();
    let apps: Vec<App> = (0..APPS).map(|_| App::start("com.example.app")).collect();
    for app in &apps {
        client.words(&[PROCPRIO, app.pid(), APP_UID, 900]);
    }
    client.barrier();
    // Where sizes decide, their files are wanted too.
    for (app, adj) in apps.iter().zip((100..).step_by(2)) {
        client.words(&[PROCPRIO, app.pid(), APP_UID, adj]);
    }
    client.barrier();
    for (app, adj) in apps.iter().zip((100..).step_by(2)) {
        assert_eq!(app.adj(), adj);
    }
    assert_eq!(daemon.log.with("is not registered"), [""; 0]);
    let (held, open) = (pidfds(&daemon), daemon.descriptors());
    assert!(held > 0 && held < APPS, "{held} pidfds");
    assert!(open < LIMIT, "{open} of {LIMIT} descriptors in use");

    // Those without a pidfd are registered no less: another client cannot have them.
    let other = daemon.raw();
    for app in &apps {
        other.words(&[PROCPRIO, app.pid(), APP_UID, 999]);
    }
    other.barrier();
    assert!(apps.iter().all(|app| app.adj() != 999));
    // As many clients as ever are served.
    let more: Vec<_> = (2..lmkd::control::server::CLIENTS_MAX).map(|_| daemon.raw()).collect();
    for client in &more {
        client.barrier();
    }
}

/// Not even the one that is kept for saying no: the kernel refuses again and again.
#[test]
fn newcomers_that_cannot_be_had_do_not_keep_the_loop_busy() {
    let daemon = Daemon::start_under(UNDER_LIMIT, DRY);
    let known = daemon.raw();
    known.barrier();
    let pid = rustix::process::Pid::from_raw(daemon.pid());
    let limit = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(64) };
        rustix::process::prlimit(pid, Resource::Nofile, limit).unwrap()
    };
    let before = limit(3);
    // Connected for itself: nobody answers yet.
    let newcomer = daemon.raw();
    daemon.log.wait_for(1, "Too many open files");
    let (busy, start) = (busy_time(&daemon), Instant::now());
    // There is no event to wait for: it is about what does not happen meanwhile.
    std::thread::sleep(Duration::from_secs(1));
    let (busy, passed) = (busy_time(&daemon) - busy, start.elapsed());
    assert!(busy < passed / 10, "{busy:?} of {passed:?}");
    known.barrier();
    limit(before.current.unwrap());
    newcomer.barrier();
}

#[test]
fn the_daemon_takes_as_many_descriptors_as_it_may_have() {
    let daemon = Daemon::start_under(&["prlimit", "--nofile=64:4096"], DRY);
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers, ["4096", "4096"]);
}

#[test]
fn a_process_without_a_held_descriptor_is_killed_by_one_opened_then() {
    let Some(mut pressure) = Pressure::prepare("kill without held descriptors") else { return };
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start_under(UNDER_LIMIT, &args);
    let client = daemon.raw();
    let mut apps: Vec<App> = (0..APPS).map(|_| App::start("com.example.app")).collect();
    let (last, others) = apps.split_last_mut().unwrap();
    for app in others.iter() {
        client.words(&[PROCPRIO, app.pid(), APP_UID, 0]);
    }
    client.barrier();
    let held = pidfds(&daemon);
    client.words(&[PROCPRIO, last.pid(), APP_UID, 900]);
    client.barrier();
    assert_eq!(pidfds(&daemon), held, "the last one has a descriptor");
    pressure.rise();
    daemon.log.wait_for(1, &format!("Kill 'com.example.app' ({})", last.pid()));
    pressure.fall();
    assert_eq!(last.ended_by(), Some(9));
}

#[test]
fn a_move_that_the_daemon_lacks_a_descriptor_for_counts() {
    // Held by a descriptor, and beyond those that are.
    for before in [0, 250] {
        let Some(mut pressure) = Pressure::prepare("move without a descriptor") else { return };
        let args = pressure.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let daemon = Daemon::start_under(&["prlimit", "--nofile=256:256"], &args);
        let client = daemon.raw();
        let fill: Vec<App> = (0..before).map(|_| App::start("com.example.app")).collect();
        for app in &fill {
            client.words(&[PROCPRIO, app.pid(), APP_UID, 0]);
        }
        let [promoted, mut other] = ["com.example.promoted", "com.example.other"].map(App::start);
        client.words(&[PROCPRIO, promoted.pid(), APP_UID, 900]);
        client.words(&[PROCPRIO, other.pid(), APP_UID, 800]);
        client.barrier();
        let pid = rustix::process::Pid::from_raw(daemon.pid());
        let limit = |current| {
            let limit = Rlimit { current: Some(current), maximum: Some(256) };
            rustix::process::prlimit(pid, Resource::Nofile, limit).unwrap();
        };
        limit(3);
        client.words(&[PROCPRIO, promoted.pid(), APP_UID, 0]);
        client.barrier();
        daemon.log.wait_for(1, "stays as it is: Too many open files");
        assert_eq!(promoted.adj(), 900);
        limit(256);
        pressure.rise();
        assert_eq!(other.ended_by(), Some(9));
        pressure.fall();
    }
}

/// In hundredths of a second after the boot, as processes' start times are.
fn uptime() -> u64 {
    let text = fs::read_to_string("/proc/uptime").unwrap();
    text.split(' ').next().unwrap().replace('.', "").parse().unwrap()
}

fn start_time(pid: i32) -> u64 {
    ProcDir::open(Path::new("/proc")).unwrap().stat(pid).unwrap().start_time
}

/// Gives this pid to a new process, if none comes in between.
fn start_at(pid: i32) -> Option<App> {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
    let app = App::start("com.example.newcomer");
    (app.pid() == pid).then_some(app)
}

#[test]
fn a_newcomer_at_the_id_of_one_without_a_descriptor_is_another_process() {
    let daemon = Daemon::start_under(UNDER_LIMIT, DRY);
    let (client, other) = (daemon.raw(), daemon.raw());
    let apps: Vec<App> = (0..LIMIT).map(|_| App::start("com.example.app")).collect();
    for app in &apps {
        client.words(&[PROCPRIO, app.pid(), APP_UID, 900]);
    }
    client.barrier();
    let mut old = App::start("com.example.old");
    let pid = old.pid();
    let held = pidfds(&daemon);
    client.words(&[PROCPRIO, pid, APP_UID, 900]);
    client.barrier();
    assert_eq!(pidfds(&daemon), held, "the last one has a descriptor");
    other.words(&[PROCPRIO, pid, APP_UID, 500]);
    other.barrier();
    assert_eq!(old.adj(), 900, "it is claimed");
    // Two processes at one id within a hundredth of a second cannot be told apart by it.
    let started = start_time(pid);
    until("the clock to tick", || (uptime() > started).then_some(()));
    old.end();
    let mut tries = 0;
    let newcomer = until("the id to be given again", || {
        tries += 1;
        start_at(pid).or_else(|| (tries > 200).then(|| App::start("elsewhere")))
    });
    if newcomer.pid() != pid {
        host::skip("reused id without descriptor", "the id cannot be had again here");
        return;
    }
    // The claim was on the dead one.
    other.words(&[PROCPRIO, pid, APP_UID, 500]);
    other.barrier();
    assert_eq!(newcomer.adj(), 500);
}
