//! How long a kill takes: from the wake-up to the signal, and from the signal to the exit.
//!
//! `cargo bench --bench kill -- [signal|exit] [N]`: one part only, N kills of each kind. The
//! real-time class and the starved victims need CAP_SYS_NICE; the wake-ups need a memory cgroup.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use lmkd::clock::MonoTime;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::kernel::process::ProcDir;
use lmkd::kill::raise;
use lmkd::kill::reaper::Reaper;
use lmkd::pidfd::PidFd;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use support::percentile;
use support::pid_of;
use support::process;
use support::Daemon;
use support::Sleepers;

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [first, mib, threads] = &args[..] {
        if first == "victim" {
            return victim(mib.parse().unwrap(), threads.parse().unwrap());
        }
    }
    let number = args.iter().find_map(|arg| arg.parse().ok());
    let wants = |part: &str| {
        args.iter().any(|arg| arg == part)
            || !args.iter().any(|arg| arg == "signal" || arg == "exit")
    };
    support::print_circumstances();
    if wants("signal") {
        wake_to_signal(number.unwrap_or(50));
    }
    if wants("exit") {
        signal_to_exit(number.unwrap_or(11));
    }
}

// ---- from the wake-up to the signal ----

/// A group of processes whose file cache does not fit their limit, and whose stalls are only felt
/// by a daemon that watches its pressure file.
struct Pressure {
    groups: Vec<PathBuf>,
    file: PathBuf,
    readers: Child,
}

impl Pressure {
    fn rise() -> std::io::Result<Self> {
        let top = Path::new("/sys/fs/cgroup");
        let name = format!("lmkd-bench-{}", std::process::id());
        let (unified, parents, limit) = if top.join("cgroup.controllers").exists() {
            let _ = fs::write(top.join("cgroup.subtree_control"), "+memory");
            (top.join(&name), vec![top.to_owned()], "memory.max")
        } else {
            let parents = vec![top.join("unified"), top.join("memory")];
            (top.join("unified").join(&name), parents, "memory.limit_in_bytes")
        };
        let groups: Vec<_> = parents.iter().map(|parent| parent.join(&name)).collect();
        for group in &groups {
            fs::create_dir(group)?;
        }
        fs::write(groups.last().unwrap().join(limit), "16M")?;
        let join: String =
            groups.iter().map(|g| format!("echo 0 >{}/cgroup.procs;", g.display())).collect();
        let file = std::env::temp_dir().join(&name).with_extension("file");
        let path = file.display();
        let script = format!(
            "{join} head -c 64M /dev/zero >{path}; while :; do cat {path} >/dev/null; done"
        );
        let readers = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn()?;
        let pressure = unified.join("memory.pressure");
        fs::metadata(pressure)?;
        Ok(Self { groups, file, readers })
    }

    fn args(&self) -> Vec<String> {
        let mut args = vec![format!("--psi={}", self.groups[0].join("memory.pressure").display())];
        let tunables =
            ["psi_window_size_ms=500", "psi_partial_stall_ms=0", "psi_complete_stall_ms=10"];
        args.extend(tunables.map(|tunable| format!("--set={tunable}")));
        args
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        let _ = fs::write(self.groups[0].join("cgroup.kill"), "1");
        let _ = self.readers.kill();
        let _ = self.readers.wait();
        let _ = fs::remove_file(&self.file);
        for group in &self.groups {
            for _ in 0..500 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn wake_to_signal(kills: usize) {
    println!("From the wake-up to SIGKILL, microseconds, {kills} kills each; the first is not in the others.\n");
    println!("| registered | order | first | p50 | p99 | max | p50 to decision | p50 to raised |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut sleepers = Sleepers::start(0);
    for registered in [10, 1000, 5000, 10_000] {
        while sleepers.0.len() < registered {
            sleepers.0.push(support::sleeper());
        }
        for heaviest in [false, true] {
            if let Err(error) = kill_some(&mut sleepers, heaviest, kills) {
                println!("\nNo pressure can be made here: {error}");
                return;
            }
        }
    }
    println!();
}

fn kill_some(sleepers: &mut Sleepers, heaviest: bool, kills: usize) -> std::io::Result<()> {
    let pressure = Pressure::rise()?;
    let args = pressure.args();
    // At or below 200 the heaviest goes first.
    let adj = if heaviest { 100 } else { 900 };
    let daemon = Daemon::start(&args);
    let mut client = daemon.connect();
    client.set_timeout(Some(Duration::from_secs(120))).unwrap();
    client.subscribe(Event::Kill).unwrap();
    for pid in sleepers.pids() {
        client.register(&process(pid, adj)).unwrap();
    }
    for _ in 0..=kills {
        let KillEvent::Killed(killed) = client.next_event().unwrap() else { continue };
        let victim = sleepers.0.iter_mut().find(|child| pid_of(child) == killed.pid).unwrap();
        victim.wait().unwrap();
        // As many as before, from now on.
        *victim = support::sleeper();
        client.register(&process(pid_of(victim), adj)).unwrap();
    }
    let log = daemon.log();
    let moments = |after: &str| -> Vec<f64> {
        let lines = log
            .lines()
            .filter(|line| line.contains(" lmkd I Proven:") || line.contains(" lmkd I Gone:"));
        lines
            .filter_map(|line| line.split_once(after)?.1.split_once("us")?.0.parse().ok())
            .collect()
    };
    let split = |mut all: Vec<f64>| {
        let first = all.remove(0);
        all.sort_by(f64::total_cmp);
        (first, all)
    };
    let (first, signalled) = split(moments(" signalled "));
    let (_, decided) = split(moments(" decided "));
    let (_, raised) = split(moments(" raised "));
    println!(
        "| {} | {} | {first} | {} | {} | {} | {} | {} |",
        sleepers.0.len(),
        if heaviest { "heaviest" } else { "least recent" },
        percentile(&signalled, 50),
        percentile(&signalled, 99),
        percentile(&signalled, 100),
        percentile(&decided, 50),
        percentile(&raised, 50),
    );
    Ok(())
}

// ---- from the signal to the exit ----

/// Fills memory, starts threads, says so, and waits to be killed.
fn victim(mib: usize, threads: usize) {
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

const ORDERS: [Order; 7] = [
    order("kill", Raise::Nobody, Raise::Nobody, false),
    order("kill, reap", Raise::Nobody, Raise::Nobody, true),
    order("raise all, kill", Raise::All, Raise::Nobody, false),
    order("raise leader, kill, reap", Raise::Leader, Raise::Nobody, true),
    order("raise all, kill, reap", Raise::All, Raise::Nobody, true),
    order("kill, raise leader, reap", Raise::Nobody, Raise::Leader, true),
    order("kill, raise all, reap", Raise::Nobody, Raise::All, true),
];

fn signal_to_exit(rounds: usize) {
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
struct Hogs(Vec<Child>);

impl Hogs {
    fn start() -> Self {
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
    let raise = |whom: Raise| match whom {
        Raise::Nobody => {}
        Raise::Leader => {
            raise::raise_thread(pid);
        }
        Raise::All => {
            raise::raise(proc, pid, u32::try_from(kind.threads).unwrap());
        }
    };
    let start = MonoTime::now();
    raise(order.before);
    pidfd.kill().unwrap();
    raise(order.after);
    if order.reap {
        reaper.hand_over(0, ticket, &pidfd, pid, start);
    }
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    while !matches!(rustix::event::poll(&mut fds, None), Ok(1)) {}
    let micros = MonoTime::now().micros_since(start);
    child.wait().unwrap();
    drop(hogs);
    f64::from(u32::try_from(micros).unwrap()) / 1000.0
}
