//! How fast one client's registrations are served, beside the bare writes of oom_score_adj.
//!
//! A second run under strace counts the system calls of each command. Takes the number of distinct
//! processes as its argument; 10,000 without.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use lmkd::control::client::Client;
use lmkd::control::wire::KillCount;
use std::fs;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;
use support::process;
use support::Daemon;
use support::Sleepers;

/// Commands of one round.
const COMMANDS: usize = 10_000;
const KNOWN: usize = 1000;
const ROUNDS: usize = 5;

/// Sends a command for each, and waits until all have been executed. Returns the seconds it took.
fn burst(client: &mut Client, pids: &[i32], adj: i32) -> f64 {
    let start = Instant::now();
    for pid in pids {
        client.register(&process(*pid, adj)).unwrap();
    }
    client.kill_count(KillCount::Total).unwrap();
    start.elapsed().as_secs_f64()
}

/// The least that any daemon must do: open, write, close.
fn bare_writes(pids: &[i32], adj: &[u8]) -> f64 {
    let start = Instant::now();
    for pid in pids {
        let path = format!("/proc/{pid}/oom_score_adj");
        fs::OpenOptions::new().write(true).open(path).unwrap().write_all(adj).unwrap();
    }
    start.elapsed().as_secs_f64()
}

/// strace counting the calls of a daemon until it ends.
struct Counter(Child);

impl Counter {
    fn attach(daemon: &Daemon) -> Option<Self> {
        let child = Command::new("strace")
            .args(["-c", "-f", "-p", &daemon.pid().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let status = format!("/proc/{}/status", daemon.pid());
        while fs::read_to_string(&status).unwrap().contains("TracerPid:\t0\n") {
            std::thread::yield_now();
        }
        // It says that it is attached before it lets the daemon go on.
        std::thread::sleep(std::time::Duration::from_millis(200));
        Some(Self(child))
    }

    /// Calls in all, and the table.
    fn detach(self) -> (f64, String) {
        let pid = rustix::process::Pid::from_raw(support::pid_of(&self.0)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let out = self.0.wait_with_output().unwrap();
        let table = String::from_utf8_lossy(&out.stderr).into_owned();
        let total = table.lines().find(|line| line.ends_with(" total")).unwrap();
        (total.split_whitespace().nth(3).unwrap().parse().unwrap(), table)
    }
}

/// Commands a second by the daemon and by bare writes, the best rounds of each: other load only
/// ever slows them down.
fn measure(known: &[i32], new: &[i32], adj: i32) -> [[f64; 2]; 2] {
    let mut best = [[0.0_f64; 2]; 2];
    for round in 0..ROUNDS {
        let daemon = Daemon::start(&[]);
        let mut client = daemon.connect();
        // Out of the first commands' way.
        burst(&mut client, known, adj);
        let adj = adj + i32::try_from(round).unwrap();
        let commands = f64::from(u32::try_from(known.len() * (COMMANDS / KNOWN)).unwrap());
        let many: Vec<_> = known.iter().cycle().take(COMMANDS / KNOWN * known.len()).collect();
        let many: Vec<_> = many.into_iter().copied().collect();
        let fresh = f64::from(u32::try_from(new.len()).unwrap());
        let text = adj.to_string();
        let rates = [
            [
                commands / burst(&mut client, &many, adj),
                commands / bare_writes(&many, text.as_bytes()),
            ],
            [fresh / burst(&mut client, new, adj), fresh / bare_writes(new, text.as_bytes())],
        ];
        for (best, rate) in best.iter_mut().flatten().zip(rates.into_iter().flatten()) {
            *best = best.max(rate);
        }
    }
    best
}

fn syscalls(known: &[i32], new: &[i32], adj: i32) -> Option<[f64; 2]> {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    burst(&mut client, known, adj);
    let mut counts = [0.0; 2];
    let many: Vec<_> = known.iter().cycle().take(COMMANDS).copied().collect();
    for (count, pids) in counts.iter_mut().zip([&many[..], new]) {
        let counter = Counter::attach(&daemon)?;
        burst(&mut client, pids, adj);
        let (calls, table) = counter.detach();
        if std::env::var_os("VERBOSE").is_some() {
            eprintln!("{table}");
        }
        *count = calls / f64::from(u32::try_from(pids.len()).unwrap());
    }
    Some(counts)
}

fn main() {
    let new = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    support::print_circumstances();
    let sleepers = Sleepers::start(KNOWN + new);
    let pids: Vec<_> = sleepers.pids().collect();
    let (known, new) = pids.split_at(KNOWN);
    println!(
        "| LMK_PROCPRIO | a second | bare writes a second | ratio | system calls each | target |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    // Processes at or below 200 have their statm held open.
    for (adj, band) in [(900, ""), (100, ", adj at most 200")] {
        let rates = measure(known, new, adj);
        let calls = syscalls(known, new, adj);
        let names = ["adj change of a known process", "new process"];
        for (index, [ours, bare]) in rates.into_iter().enumerate() {
            let ratio = bare / ours;
            let calls = calls.map_or("no strace".to_owned(), |c| format!("{:.2}", c[index]));
            let target = [5, 8][index];
            println!(
                "| {}{band} | {ours:.0} | {bare:.0} | {ratio:.2} | {calls} | {target} |",
                names[index]
            );
        }
    }
}
