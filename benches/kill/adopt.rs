//! From the wake-up to the signal where nobody registered the victims.
//!
//! An adopting daemon kills whatever it finds: it runs in a pid namespace with a `/proc` of its own,
//! where nothing outside can be seen, let alone killed.

use crate::exit::Hogs;
use crate::moments;
use crate::support;
use crate::support::Daemon;
use crate::support::Sleepers;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::oom_score_adj::OomScoreAdj;
use std::fs;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// The word by which this program is told that it is init of the namespace.
pub const INSIDE: &str = "adopted";

/// Runs [`inside`] in a namespace.
pub fn wake_to_signal(kills: usize, only: Option<usize>) {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--mount-proc", "--kill-child"]);
        command
    };
    if !unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        return println!("unshare cannot make a pid namespace for this user.\n");
    }
    let dir = support::own_dir();
    let mut child = unshare()
        .arg(std::env::current_exe().unwrap())
        .args([INSIDE, &kills.to_string()])
        .args(only.map(|only| only.to_string()))
        // Its id is 1 in every namespace.
        .env("TMPDIR", &dir)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let held = child.stdin.take();
    let status = child.wait().unwrap();
    drop(held);
    let _ = fs::remove_dir_all(dir);
    assert!(status.success(), "in the namespace: {status}");
}

/// As init of a namespace that holds nothing else: it goes with this process.
pub fn inside(kills: usize, only: Option<usize>) {
    assert_eq!(everybody(), [1], "others could be killed");
    std::thread::spawn(|| {
        // It ends when the one outside does.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(1);
    });
    // To be there before the next look, as the daemon's equal; what it starts is not.
    let class = ["--reset-on-fork", "--fifo", "--pid", "1", "1"];
    let _ = Command::new("chrt").args(class).status();
    println!("From the wake-up to SIGKILL of processes that nobody registered, microseconds, {kills} kills each; the first is not in the others. Every look reads zoneinfo too.\n");
    println!(
        "| unregistered | order | CPUs | first | p50 | p99 | max | p50 to decision | p50 to raised | kills |"
    );
    println!("|{}", " --- |".repeat(10));
    let mut sleepers = Sleepers::start(0);
    for number in [10, 1000, 2000] {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        while sleepers.0.len() < number {
            sleepers.0.push(support::sleeper());
        }
        // At or below 200 the heaviest goes first.
        for (order, adj) in [("longest-running", 900), ("heaviest", 100)] {
            let adj = OomScoreAdj::new(adj).unwrap();
            for (busy, cpus) in [(false, "no hogs"), (true, "a hog on each")] {
                let _hogs = busy.then(Hogs::start);
                let log = kill_some(&mut sleepers, adj, kills);
                println!("| {number} | {order} | {cpus} | {}", crate::steps(&log, kills));
            }
        }
    }
    println!();
}

/// Fewer are killed faster than they can be replaced.
const FEW: usize = 100;

/// Has the daemon find all at this adj and kill one after the other, each replaced at once, until
/// its log tells of so many and the first. The log.
fn kill_some(sleepers: &mut Sleepers, adj: OomScoreAdj, kills: usize) -> String {
    replace_the_dead(sleepers, adj);
    let daemon = Daemon::start_adopting(&crate::eager());
    let mut client = daemon.connect();
    client.set_timeout(Some(Duration::from_secs(120))).unwrap();
    client.subscribe(Event::Kill).unwrap();
    // Down to their adj: the hogs, with that of this process, are no candidates.
    client.set_targets(&crate::everything_is_too_little(adj)).unwrap();
    let told = |daemon: &Daemon| moments(&daemon.log(), " signalled ", usize::MAX).len();
    // One that is reaped late is not in the log if sixteen others were killed since.
    while told(&daemon) <= kills {
        for _ in told(&daemon)..=kills {
            let KillEvent::Killed(killed) = client.next_event().unwrap() else { continue };
            let place = sleepers.pids().position(|pid| pid == killed.pid);
            // None if it was seen dead before.
            let Some(place) = place else { continue };
            let few = sleepers.0.len() <= FEW;
            if few {
                // Out of its reach until the next look, 10 ms later, can find all of them again.
                sleepers.0.iter().for_each(|child| set_adj(child, OomScoreAdj::FOREGROUND));
            }
            sleepers.0[place].wait().unwrap();
            if few {
                replace_the_dead(sleepers, adj);
            } else {
                sleepers.0[place] = support::sleeper();
                set_adj(&sleepers.0[place], adj);
            }
        }
    }
    daemon.log()
}

/// Afterwards all of them are at this adj.
fn replace_the_dead(sleepers: &mut Sleepers, adj: OomScoreAdj) {
    for child in &mut sleepers.0 {
        if child.try_wait().unwrap().is_some() {
            *child = support::sleeper();
        }
    }
    sleepers.0.iter().for_each(|child| set_adj(child, adj));
}

fn set_adj(child: &Child, adj: OomScoreAdj) {
    let adj = adj.get().to_string();
    fs::write(format!("/proc/{}/oom_score_adj", child.id()), adj).unwrap();
}

/// The ids that `/proc` shows.
fn everybody() -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}
