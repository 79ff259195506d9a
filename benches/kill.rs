//! How long a kill takes: from the wake-up to the signal, and from the signal to the exit.
//!
//! `cargo bench --bench kill -- [signal|event|calls|exit] [N [R]]`: one part only, N kills of each kind,
//! and only the rows of `signal` with R registered. The
//! real-time class and the starved victims need CAP_SYS_NICE; the wake-ups need a memory cgroup.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod support;

use lmkd::clock::MonoTime;
use lmkd::control::client::Client;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::kernel::process::ProcDir;
use lmkd::kill::raise;
use lmkd::kill::raise::Threads;
use lmkd::kill::reaper::Reaper;
use lmkd::kill::reaper::Signalled;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::pidfd::PidFd;
use lmkd::units::Pages;
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
    let mut numbers = args.iter().filter_map(|arg| arg.parse().ok());
    let (number, only) = (numbers.next(), numbers.next());
    let wants = |part: &str| {
        args.iter().any(|arg| arg == part)
            || !args.iter().any(|arg| ["signal", "event", "calls", "exit"].contains(&arg.as_str()))
    };
    support::print_circumstances();
    if wants("signal") {
        wake_to_signal(number.unwrap_or(200), only);
    }
    if wants("event") {
        event_to_signal(number.unwrap_or(50));
    }
    if wants("calls") {
        system_calls();
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

/// Every look kills: sampled memory is below any level of `everything_is_too_little`, and after a
/// death the next look is at once.
fn eager() -> Vec<String> {
    ["--set=use_psi=false", "--set=use_minfree_levels=true"].map(str::to_owned).into()
}

fn everything_is_too_little() -> Targets {
    let level = Target { minfree: Pages(i64::from(i32::MAX)), adj: OomScoreAdj::FOREGROUND };
    Targets::new(&[level]).unwrap()
}

fn wake_to_signal(kills: usize, only: Option<usize>) {
    println!("From the wake-up to SIGKILL, microseconds, {kills} kills each; the first is not in the others. Every look reads zoneinfo too.\n");
    println!(
        "| registered | order | CPUs | first | p50 | p99 | max | p50 to decision | p50 to raised | kills |"
    );
    println!("|{}", " --- |".repeat(10));
    let mut sleepers = Sleepers::start(0);
    for registered in [10, 1000, 5000, 10_000] {
        if only.is_some_and(|only| only != registered) {
            continue;
        }
        while sleepers.0.len() < registered {
            sleepers.0.push(support::sleeper());
        }
        for heaviest in [false, true] {
            for busy in [false, true] {
                let _hogs = busy.then(Hogs::start);
                let daemon = Daemon::start(&eager());
                let log = kill_some(&daemon, &mut sleepers, heaviest, kills, |client| {
                    client.set_targets(&everything_is_too_little()).unwrap();
                });
                let order = if heaviest { "heaviest" } else { "least recent" };
                let cpus = if busy { "a hog on each" } else { "no hogs" };
                println!("| {registered} | {order} | {cpus} | {}", steps(&log, kills));
            }
        }
    }
    println!();
}

/// The same where a pressure event is the wake-up: one in two seconds at most without
/// CAP_SYS_RESOURCE.
fn event_to_signal(kills: usize) {
    println!("From the pressure event to SIGKILL, microseconds, {kills} kills each.\n");
    println!("| registered | order | first | p50 | p99 | max | p50 to decision | p50 to raised | kills |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut sleepers = Sleepers::start(10);
    let pressure = match Pressure::rise() {
        Ok(pressure) => pressure,
        Err(error) => return println!("\nNo pressure can be made here: {error}"),
    };
    let daemon = Daemon::start(&pressure.args());
    let log = kill_some(&daemon, &mut sleepers, false, kills, |_| {});
    println!("| 10 | least recent | {}\n", steps(&log, kills));
}

/// Registers all, lets them be killed one after the other, and replaces the dead of a small number.
/// The daemon's log.
fn kill_some(
    daemon: &Daemon,
    sleepers: &mut Sleepers,
    heaviest: bool,
    kills: usize,
    begin: impl FnOnce(&mut Client),
) -> String {
    // At or below 200 the heaviest goes first.
    let adj = if heaviest { 100 } else { 900 };
    let replace = sleepers.0.len() < kills;
    let mut client = daemon.connect();
    client.set_timeout(Some(Duration::from_secs(120))).unwrap();
    client.subscribe(Event::Kill).unwrap();
    for pid in sleepers.pids() {
        client.register(&process(pid, adj)).unwrap();
    }
    client.kill_count(KillCount::Total).unwrap();
    begin(&mut client);
    // One that is reaped late is not in the log if sixteen others were killed since.
    let kills = if replace { kills } else { kills * 2 };
    for _ in 0..=kills {
        let KillEvent::Killed(killed) = client.next_event().unwrap() else { continue };
        let victim = sleepers.0.iter_mut().find(|child| pid_of(child) == killed.pid).unwrap();
        victim.wait().unwrap();
        if replace {
            *victim = support::sleeper();
            client.register(&process(pid_of(victim), adj)).unwrap();
        }
    }
    daemon.stop();
    for child in &mut sleepers.0 {
        if child.try_wait().unwrap().is_some() {
            *child = support::sleeper();
        }
    }
    daemon.log()
}

/// What the ledger says of the kills, as the rest of a table's row.
fn steps(log: &str, most: usize) -> String {
    let moments = |after: &str| -> Vec<f64> {
        let lines = log
            .lines()
            .filter(|line| line.contains(" lmkd I Proven:") || line.contains(" lmkd I Gone:"));
        let kills = lines.take(most.saturating_add(1));
        kills
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
    format!(
        "{first} | {} | {} | {} | {} | {} | {} |",
        percentile(&signalled, 50),
        percentile(&signalled, 99),
        percentile(&signalled, 100),
        percentile(&decided, 50),
        percentile(&raised, 50),
        signalled.len(),
    )
}

// ---- system calls ----

/// What strace(1) sees of the loop, from one wait for events to the next.
#[derive(Default)]
struct Turn {
    calls: usize,
    /// As many of them were made when the victim was signalled.
    to_signal: Option<usize>,
    looked: bool,
}

fn system_calls() {
    let kills = 20;
    println!("System calls from the wake-up on, median (`strace -f`).\n");
    let turns = |args: &[String], work: &dyn Fn(&Daemon)| {
        let file = std::env::temp_dir().join(format!("lmkd-bench-{}.strace", std::process::id()));
        let path = file.to_str().unwrap();
        let daemon = Daemon::start_under(&["strace", "-f", "-o", path], args);
        work(&daemon);
        drop(daemon);
        let trace = fs::read_to_string(&file).unwrap();
        let _ = fs::remove_file(&file);
        (loop_turns(&trace), reapers_calls(&trace))
    };
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_err() {
        return println!("strace is not here.\n");
    }
    let median = |mut counts: Vec<usize>| {
        counts.sort_unstable();
        counts[counts.len() / 2]
    };
    let (idle, _) = turns(&["--set=use_psi=false".to_owned()], &|daemon| {
        drop(daemon.connect());
        std::thread::sleep(Duration::from_secs(5));
    });
    let looks = idle.iter().filter(|turn| turn.looked && turn.to_signal.is_none());
    println!(
        "| a look that kills nobody | {} |\n| --- | --- |",
        median(looks.map(|t| t.calls).collect())
    );
    let (killing, reapers) = turns(&eager(), &|daemon| {
        let mut sleepers = Sleepers::start(kills * 2 + 1);
        kill_some(daemon, &mut sleepers, false, kills, |client| {
            client.set_targets(&everything_is_too_little()).unwrap();
        });
    });
    let to_signal: Vec<_> = killing.iter().filter_map(|turn| turn.to_signal).collect();
    let all = killing.iter().filter(|turn| turn.to_signal.is_some()).map(|turn| turn.calls);
    println!("| a kill, to the signal, the look included | {} |", median(to_signal));
    println!("| a kill, to the next wait | {} |", median(all.collect()));
    println!("| a kill, the reaper's | {reapers:.1} |\n");
}

/// How many calls the reaper makes for a kill, its waits for the next one included, on average.
fn reapers_calls(trace: &str) -> f64 {
    let thread = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    let begun = || trace.lines().filter(|line| !line.contains(" resumed>"));
    // The loop asks once at its start whether there is such a call.
    let is_reap = |line: &&str| line.contains("process_mrelease(") && !line.contains("(-1");
    let Some(reaper) = begun().find(is_reap).map(thread) else { return 0.0 };
    let own = || begun().filter(|line| thread(line) == reaper);
    let calls = own().skip_while(|line| !is_reap(line)).count();
    let kills = own().filter(is_reap).count();
    f64::from(u32::try_from(calls).unwrap()) / f64::from(u32::try_from(kills).unwrap())
}

fn loop_turns(trace: &str) -> Vec<Turn> {
    let daemon = trace.split(' ').next().unwrap();
    let own = |line: &&str| line.split(' ').next() == Some(daemon) && !line.contains(" resumed>");
    let mut turns = vec![];
    let mut turn: Option<Turn> = None;
    for line in trace.lines().filter(own) {
        if line.contains(" epoll_pwait(") {
            turns.extend(turn.replace(Turn::default()));
            continue;
        }
        let Some(turn) = &mut turn else { continue };
        turn.calls += 1;
        turn.looked |= line.contains("\"nr_free_pages ");
        if line.contains("SIGKILL") {
            turn.to_signal = Some(turn.calls);
        }
    }
    turns
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
