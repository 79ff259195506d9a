//! What the idle daemon costs: memory, start, wake-ups, and its size on disk.
//!
//! Takes the seconds to watch the idle daemon for as its argument; 10 without.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;
use support::Daemon;

const STARTS: usize = 21;

/// From before fork to the first wait for events, and what a process that does nothing takes from
/// before fork to after its exit.
fn start_times() -> [f64; 2] {
    let mut times = [vec![], vec![]];
    for _ in 0..STARTS {
        let start = Instant::now();
        let daemon = Daemon::start(&[]);
        let call = format!("/proc/{}/syscall", daemon.pid());
        let wait = libc::SYS_epoll_pwait.to_string();
        while fs::read_to_string(&call).is_ok_and(|now| now.split(' ').next() != Some(&*wait)) {
            assert!(start.elapsed() < Duration::from_secs(10), "{}", daemon.log());
        }
        times[0].push(start.elapsed().as_secs_f64() * 1e3);
        drop(daemon);
        let start = Instant::now();
        Command::new("true").status().unwrap();
        times[1].push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.map(support::median)
}

fn main() {
    let seconds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10);
    support::print_circumstances();
    let [start, bare] = start_times();
    let daemon = Daemon::start(&[]);
    drop(daemon.connect());
    std::thread::sleep(Duration::from_secs(1));
    let wakeups =
        || daemon.status("voluntary_ctxt_switches") + daemon.status("nonvoluntary_ctxt_switches");
    let before = wakeups();
    std::thread::sleep(Duration::from_secs(seconds));
    let woken = wakeups() - before;
    let size = fs::metadata(env!("CARGO_BIN_EXE_lmkd")).unwrap().len() / 1000;

    println!("| the idle daemon | measured | target |\n| --- | --- | --- |");
    println!("| VmRSS, nothing registered | {} kB | 2,500 kB |", daemon.status("VmRSS"));
    println!("| RssAnon | {} kB | 600 kB |", daemon.status("RssAnon"));
    let ratio = start / bare;
    println!("| start to first epoll_wait | {start:.1} ms, {ratio:.1} x a run of `true` | 3 ms |");
    println!("| stripped binary | {size} kB | 1,500 kB |");
    println!("| wake-ups in {seconds} s | {woken} | 0 |");
}
