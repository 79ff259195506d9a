//! How long a kill takes: from the wake-up to the signal, and from the signal to the exit.
//!
//! `cargo bench --bench kill -- [signal|adopt|idle|event|calls|exit] [N [R]]`: one part only, N kills
//! of each kind, and only the rows of `signal` or `adopt` with R processes. The real-time class and the
//! starved victims need CAP_SYS_NICE; the wake-ups need a memory cgroup; `adopt`, where the daemon finds
//! victims that nobody registered, needs the right to make a pid namespace, CAP_SYS_ADMIN.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "kill/adopt.rs"]
mod adopt;
#[path = "kill/exit.rs"]
mod exit;
mod support;

use lmkd::control::client::Client;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::units::Pages;
use std::fs;
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

const PARTS: [&str; 6] = ["signal", "adopt", "idle", "event", "calls", "exit"];

fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if let [first, mib, threads] = &args[..] {
        if first == "victim" {
            return exit::victim(mib.parse().unwrap(), threads.parse().unwrap());
        }
    }
    let mut numbers = args.iter().filter_map(|arg| arg.parse().ok());
    let (number, only) = (numbers.next(), numbers.next());
    if args.first().is_some_and(|arg| arg == adopt::INSIDE) {
        return adopt::inside(number.unwrap(), only);
    }
    let wants = |part: &str| {
        args.iter().any(|arg| arg == part) || !args.iter().any(|arg| PARTS.contains(&arg.as_str()))
    };
    support::print_circumstances();
    if wants("signal") {
        wake_to_signal(number.unwrap_or(200), only);
    }
    if wants("adopt") {
        adopt::wake_to_signal(number.unwrap_or(200), only);
    }
    if wants("idle") {
        after_idleness(number.unwrap_or(12));
    }
    if wants("event") {
        event_to_signal(number.unwrap_or(50));
    }
    if wants("calls") {
        system_calls();
    }
    if wants("exit") {
        exit::signal_to_exit(number.unwrap_or(11));
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

fn everything_is_too_little(adj: OomScoreAdj) -> Targets {
    let level = Target { minfree: Pages(i64::from(i32::MAX)), adj };
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
                let _hogs = busy.then(exit::Hogs::start);
                let daemon = Daemon::start(&eager());
                let log = kill_some(&daemon, &mut sleepers, heaviest, kills, |client| {
                    client.set_targets(&everything_is_too_little(OomScoreAdj::FOREGROUND)).unwrap();
                });
                let order = if heaviest { "heaviest" } else { "least recent" };
                let cpus = if busy { "a hog on each" } else { "no hogs" };
                println!("| {registered} | {order} | {cpus} | {}", steps(&log, kills));
            }
        }
    }
    println!();
}

/// Whether the first kill is slower than later ones that do not follow another closely either: a
/// daemon for each first one, and before each kill two seconds with a look a second that kills
/// nobody.
fn after_idleness(daemons: usize) {
    const KILLS: usize = 4;
    println!(
        "From the wake-up to SIGKILL after two quiet seconds, microseconds, {daemons} daemons.\n"
    );
    println!("| kill of its daemon | p50 | max | p50 to decision | p50 to raised | kills |");
    println!("|{}", " --- |".repeat(6));
    let logs = (0..daemons).map(|_| {
        let daemon = Daemon::start(&eager());
        let mut client = daemon.connect();
        client.subscribe(Event::Kill).unwrap();
        client.set_targets(&everything_is_too_little(OomScoreAdj::FOREGROUND)).unwrap();
        for _ in 0..KILLS {
            std::thread::sleep(Duration::from_secs(2));
            let mut sleepers = Sleepers::start(1);
            client.register(&process(pid_of(&sleepers.0[0]), 900)).unwrap();
            let KillEvent::Killed(_) = client.next_event().unwrap() else { panic!() };
            sleepers.0[0].wait().unwrap();
        }
        // An answer comes after what it has to say of the last death.
        client.kill_count(KillCount::Total).unwrap();
        daemon.stop();
        daemon.log()
    });
    let logs: Vec<String> = logs.collect();
    for kill in 0..KILLS {
        let column = |after: &str| {
            let mut all: Vec<f64> = logs
                .iter()
                .filter_map(|log| moments(log, after, KILLS).get(kill).copied())
                .collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let (signalled, decided, raised) =
            (column(" signalled "), column(" decided "), column(" raised "));
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            kill + 1,
            percentile(&signalled, 50),
            percentile(&signalled, 100),
            percentile(&decided, 50),
            percentile(&raised, 50),
            signalled.len(),
        );
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
    // As many are killed as twice that and one, if the dead are not replaced.
    let replace = sleepers.0.len() <= kills * 2;
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

/// When this step was made, after the event, in each of the first kills that the log tells of.
fn moments(log: &str, after: &str, most: usize) -> Vec<f64> {
    let lines = log
        .lines()
        .filter(|line| line.contains(" lmkd I Proven:") || line.contains(" lmkd I Gone:"));
    let step = |line: &str| line.split_once(after)?.1.split_once("us")?.0.parse().ok();
    lines.take(most).filter_map(step).collect()
}

/// What the ledger says of the kills, as the rest of a table's row.
fn steps(log: &str, most: usize) -> String {
    let split = |mut all: Vec<f64>| {
        let first = all.remove(0);
        all.sort_by(f64::total_cmp);
        (first, all)
    };
    let (first, signalled) = split(moments(log, " signalled ", most.saturating_add(1)));
    let (_, decided) = split(moments(log, " decided ", most.saturating_add(1)));
    let (_, raised) = split(moments(log, " raised ", most.saturating_add(1)));
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
            client.set_targets(&everything_is_too_little(OomScoreAdj::FOREGROUND)).unwrap();
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
