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

    /// How often each call was made, the most frequent first.
    fn detach(self) -> Vec<(String, f64)> {
        let pid = rustix::process::Pid::from_raw(support::pid_of(&self.0)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let out = self.0.wait_with_output().unwrap();
        let table = String::from_utf8_lossy(&out.stderr).into_owned();
        let rows = table.lines().skip_while(|line| !line.starts_with("---")).skip(1);
        let rows = rows.take_while(|line| !line.starts_with("---"));
        // Share, seconds, microseconds a call, calls, perhaps errors, name.
        let mut calls: Vec<_> = rows
            .map(|row| {
                let mut fields = row.split_whitespace();
                let count: f64 = fields.nth(3).unwrap().parse().unwrap();
                (fields.last().unwrap().to_owned(), count)
            })
            .collect();
        calls.sort_by(|a, b| b.1.total_cmp(&a.1));
        calls
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

/// Calls a command, in all and each, for commands about known and about new processes.
fn syscalls(known: &[i32], new: &[i32], adj: i32) -> Option<[(f64, String); 2]> {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    burst(&mut client, known, adj);
    let many: Vec<_> = known.iter().cycle().take(COMMANDS).copied().collect();
    let mut count = |pids: &[i32]| {
        let counter = Counter::attach(&daemon)?;
        burst(&mut client, pids, adj);
        let commands = f64::from(u32::try_from(pids.len()).unwrap());
        let mut calls = counter.detach();
        calls.iter_mut().for_each(|(_, count)| *count /= commands);
        let all = calls.iter().map(|(_, count)| count).sum();
        let often = calls.iter().filter(|(_, count)| *count >= 0.005);
        let each: Vec<_> = often.map(|(name, count)| format!("{name} {count:.2}")).collect();
        Some((all, each.join(", ")))
    };
    Some([count(&many)?, count(new)?])
}

/// Bytes of the daemon's memory for each of these processes.
fn memory(first: &[i32], more: &[i32], adj: i32) -> u64 {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.connect();
    burst(&mut client, first, adj);
    let before = daemon.status("VmRSS");
    burst(&mut client, more, adj);
    (daemon.status("VmRSS") - before) * 1024 / u64::try_from(more.len()).unwrap()
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
    let mut notes = Vec::new();
    // Processes at or below 200 have their statm held open.
    for (adj, band) in [(900, ""), (100, ", adj at most 200")] {
        let rates = measure(known, new, adj);
        let calls = syscalls(known, new, adj);
        let names = ["adj change of a known process", "new process"];
        for (index, [ours, bare]) in rates.into_iter().enumerate() {
            let name = format!("{}{band}", names[index]);
            let calls = calls.as_ref().map(|calls| &calls[index]);
            let all = calls.map_or("no strace".to_owned(), |(all, _)| format!("{all:.2}"));
            let (ratio, target) = (bare / ours, [5, 8][index]);
            println!("| {name} | {ours:.0} | {bare:.0} | {ratio:.2} | {all} | {target} |");
            notes.extend(calls.map(|(_, each)| format!("{name}: {each}")));
        }
        let bytes = memory(known, new, adj);
        notes.push(format!("memory of a registered process{band}: {bytes} bytes (target 200)"));
    }
    println!("\nOf {} new processes. {}.", new.len(), notes.join(".\n"));
}
