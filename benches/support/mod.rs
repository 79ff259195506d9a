//! What the benchmarks of the whole daemon share.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use lmkd::control::client::Client;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::ProcType;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use std::fs;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// A running daemon with a directory of its own.
pub struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    /// One that has nothing to kill but what is registered.
    pub fn start(args: &[String]) -> Self {
        Self::start_under(&[], args)
    }

    /// The same, as the child of another program.
    pub fn start_under(launcher: &[&str], args: &[String]) -> Self {
        let words = [launcher, &[env!("CARGO_BIN_EXE_lmkd"), "--no-adopt"]].concat();
        Self::run(&words, args)
    }

    /// One that kills whatever it finds: only where this process is init of a namespace.
    pub fn start_adopting(args: &[String]) -> Self {
        assert_eq!(std::process::id(), 1, "others could be killed");
        Self::run(&[env!("CARGO_BIN_EXE_lmkd")], args)
    }

    fn run(words: &[&str], args: &[String]) -> Self {
        let dir = own_dir();
        let child = Command::new(words[0])
            .args(&words[1..])
            .arg("--socket")
            .arg(dir.join("socket"))
            .args(args)
            .stdin(Stdio::null())
            .stderr(File::create(dir.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    pub fn pid(&self) -> i32 {
        pid_of(&self.child)
    }

    /// Ends it at once, also if another program runs it.
    pub fn stop(&self) {
        let parent = self.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let traced = children.ok().and_then(|pids| pids.trim().parse().ok());
        let pid = rustix::process::Pid::from_raw(traced.unwrap_or(parent)).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }

    /// Connects as soon as the daemon listens.
    pub fn connect(&self) -> Client {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match Client::connect(&self.dir.join("socket")) {
                Ok(client) => return client,
                Err(error) => assert!(Instant::now() < end, "{error}: {}", self.log()),
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// A number of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A directory of this process.
pub fn own_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("lmkd-bench-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Processes that do nothing, killed in the end.
pub struct Sleepers(pub Vec<Child>);

impl Sleepers {
    pub fn start(count: usize) -> Self {
        Self((0..count).map(|_| sleeper()).collect())
    }

    pub fn pids(&self) -> impl Iterator<Item = i32> + '_ {
        self.0.iter().map(pid_of)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}

/// One that ends on its own, should nobody be left to kill it.
pub fn sleeper() -> Child {
    let mut command = Command::new("sleep");
    command.uid(app_uid());
    command.arg("1800").stdin(Stdio::null()).spawn().unwrap()
}

/// The user that the sleepers belong to: an app's, as on a device, where this process may give it.
fn app_uid() -> u32 {
    let me = rustix::process::geteuid().as_raw();
    if me == 0 {
        10_000
    } else {
        me
    }
}

pub fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

/// One of the sleepers, as clients register it.
pub fn process(pid: i32, adj: i32) -> ProcPrio {
    ProcPrio {
        pid: Pid::new(pid).unwrap(),
        uid: app_uid(),
        adj: OomScoreAdj::new(adj).unwrap(),
        kind: ProcType::App,
    }
}

/// The value that `percent` of all do not exceed.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted[index]
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    percentile(&times, 50)
}

/// What figures are worth nothing without.
pub fn print_circumstances() {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (kernel, load) = (read("/proc/sys/kernel/osrelease"), read("/proc/loadavg"));
    let (kernel, load) = (kernel.trim(), load.split(' ').next().unwrap_or("?"));
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let date = Command::new("date").arg("+%F").output().unwrap().stdout;
    let date = String::from_utf8_lossy(&date);
    println!("Linux {kernel}, {cpus} CPUs, load average {load}, {}.\n", date.trim());
}
