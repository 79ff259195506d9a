//! From the signal to the exit: which order of raising, SIGKILL and process_mrelease is the
//! quickest, by kinds of victims.

use crate::support::percentile;
use crate::support::pid_of;
use lmkd::clock::MonoTime;
use lmkd::kernel::process::ProcDir;
use lmkd::kill::raise;
use lmkd::kill::raise::Threads;
use lmkd::kill::reaper::Reaper;
use lmkd::kill::reaper::Signalled;
use lmkd::pidfd::PidFd;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

/// Fills memory, starts threads, says so, and waits to be killed.
pub fn victim(mib: usize, threads: usize) {
    let memory = vec![1_u8; mib << 20];
    for _ in 1..threads {
        std::thread::spawn(|| loop {
            std::thread::park();
        });
    }
    println!("ready");
    std::hint::black_box(&memory);
    std::thread::sleep(Duration::from_secs(600));
}

#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    mib: usize,
    threads: usize,
    starved: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Raise {
    Nobody,
    Leader,
    /// The leader before the signal, the other threads after it, as the daemon does.
    Around,
    All,
}

#[derive(Clone, Copy)]
struct Order {
    name: &'static str,
    before: Raise,
    after: Raise,
    reap: bool,
}

const fn kind(name: &'static str, mib: usize, threads: usize, starved: bool) -> Kind {
    Kind { name, mib, threads, starved }
}

const fn order(name: &'static str, before: Raise, after: Raise, reap: bool) -> Order {
    Order { name, before, after, reap }
}

const KINDS: [Kind; 8] = [
    kind("1 MiB", 1, 1, false),
    kind("64 MiB", 64, 1, false),
    kind("256 MiB", 256, 1, false),
    kind("1024 MiB", 1024, 1, false),
    kind("256 MiB, 64 threads", 256, 64, false),
    kind("starved, 1 MiB", 1, 1, true),
    kind("starved, 256 MiB", 256, 1, true),
    kind("starved, 256 MiB, 64 threads", 256, 64, true),
];

const ORDERS: [Order; 8] = [
    order("kill", Raise::Nobody, Raise::Nobody, false),
    order("kill, reap", Raise::Nobody, Raise::Nobody, true),
    order("raise all, kill", Raise::All, Raise::Nobody, false),
    order("raise leader, kill, reap", Raise::Leader, Raise::Nobody, true),
    order("raise all, kill, reap", Raise::All, Raise::Nobody, true),
    order("raise leader, kill, reap, raise rest", Raise::Around, Raise::Around, true),
    order("kill, raise leader, reap", Raise::Nobody, Raise::Leader, true),
    order("kill, raise all, reap", Raise::Nobody, Raise::All, true),
];

pub fn signal_to_exit(rounds: usize) {
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    // Started before the real-time class is taken, as in the daemon.
    let reaper = Reaper::start();
    let fifo = takes_fifo();
    println!(
        "From the decision to the victim's exit, milliseconds, median and longest of {rounds}{}.\n",
        if fifo { "" } else { "; without the real-time class" }
    );
    print!("| victim |");
    for order in &ORDERS {
        print!(" {} |", order.name);
    }
    println!("\n| --- |{}", " --- |".repeat(ORDERS.len()));
    let mut ticket = 0;
    for kind in &KINDS {
        let mut times = ORDERS.map(|_| vec![]);
        for _ in 0..rounds {
            for (order, times) in ORDERS.iter().zip(&mut times) {
                ticket += 1;
                times.push(one(kind, order, &proc, &reaper, ticket));
            }
        }
        print!("| {} |", kind.name);
        for mut times in times {
            times.sort_by(f64::total_cmp);
            print!(" {:.2}, {:.1} |", percentile(&times, 50), percentile(&times, 100));
        }
        println!();
    }
}

/// Whether this process could take the class that the daemon has.
fn takes_fifo() -> bool {
    let me = std::process::id().to_string();
    let done = Command::new("chrt").args(["--fifo", "--pid", "1", &me]).status();
    done.is_ok_and(|status| status.success())
}

/// Something to do for every CPU, killed in the end.
pub struct Hogs(Vec<Child>);

impl Hogs {
    pub fn start() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let hog = || ordinary("timeout").args(["60", "sh", "-c", "while :; do :; done"]).spawn();
        Self((0..cpus).map(|_| hog().unwrap()).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let pid = rustix::process::Pid::from_raw(pid_of(hog)).unwrap();
            // timeout(1) passes it on.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = hog.wait();
        }
    }
}

/// A program that does not inherit the real-time class.
fn ordinary(program: &str) -> Command {
    let mut command = Command::new("chrt");
    command.args(["--other", "0", program]);
    command
}

/// Makes a victim, kills it. Milliseconds until its exit.
fn one(kind: &Kind, order: &Order, proc: &ProcDir, reaper: &Reaper, ticket: u32) -> f64 {
    let me = std::env::current_exe().unwrap();
    let (mib, threads) = (kind.mib.to_string(), kind.threads.to_string());
    let mut child = ordinary(me.to_str().unwrap())
        .args(["victim", &mib, &threads])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let pid = pid_of(&child);
    let mut hogs = None;
    if kind.starved {
        let pid = pid.to_string();
        let args = ["--all-tasks", "--idle", "--pid", "0", &pid];
        assert!(Command::new("chrt").args(args).status().unwrap().success());
        hogs = Some(Hogs::start());
        // The hogs have to be at it.
        std::thread::sleep(Duration::from_millis(50));
    }
    let pidfd = PidFd::open(pid).unwrap();
    let threads = u32::try_from(kind.threads).unwrap();
    let all = || raise::raise_leader(Threads::In(proc), pid, threads);
    let mut rest = None;
    let start = MonoTime::now();
    match order.before {
        Raise::Nobody => {}
        Raise::Leader => {
            raise::raise_thread(pid);
        }
        Raise::Around => rest = Some(all()),
        Raise::All => {
            all().raise();
        }
    }
    pidfd.kill().unwrap();
    let victim = Signalled { pid, ticket, may_be_frozen: false, at: start };
    // The daemon's order is that with threads on both sides of the signal: it hands over first.
    let at_once = order.reap && order.after == Raise::Around;
    if at_once {
        reaper.hand_over(0, &pidfd, victim);
    }
    match (order.after, rest) {
        (Raise::Nobody, _) => {}
        (Raise::Leader, _) => {
            raise::raise_thread(pid);
        }
        (_, rest) => {
            rest.unwrap_or_else(all).raise();
        }
    }
    if order.reap && !at_once {
        reaper.hand_over(0, &pidfd, victim);
    }
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    while !matches!(rustix::event::poll(&mut fds, None), Ok(1)) {}
    let micros = MonoTime::now().micros_since(start);
    child.wait().unwrap();
    drop(hogs);
    f64::from(u32::try_from(micros).unwrap()) / 1000.0
}
