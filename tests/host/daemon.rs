//! The daemon under test, and what it says.

use super::own_dir;
use super::wire::Raw;
use super::PATIENCE;
use lmkd::clock::MonoTime;
use lmkd::control::client::Client;
use lmkd::recorder::client::Client as Operator;
use lmkd::recorder::wire::path_beside;
use lmkd::recorder::Record;
use rustix::process::kill_process;
use rustix::process::Pid;
use rustix::process::Signal;
use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;

pub const BINARY: &str = env!("CARGO_BIN_EXE_lmkd");

/// The lines of a log, as they come.
#[derive(Clone, Default)]
pub struct Log {
    lines: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Log {
    /// Keeps what a process says.
    pub fn follow(stderr: ChildStderr) -> Self {
        let log = Self::default();
        let lines = Arc::clone(&log.lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                lines.0.lock().unwrap().push(line);
                lines.1.notify_all();
            }
        });
        log
    }

    pub fn lines(&self) -> Vec<String> {
        self.lines.0.lock().unwrap().clone()
    }

    /// The lines with this in them.
    pub fn with(&self, text: &str) -> Vec<String> {
        let lines = self.lines.0.lock().unwrap();
        lines.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Waits for the `count`th line with this in it; its index.
    #[track_caller]
    pub fn wait_for(&self, count: usize, text: &str) -> usize {
        let find = |lines: &[String]| {
            let found = lines.iter().enumerate().filter(|(_, line)| line.contains(text));
            found.map(|(index, _)| index).nth(count - 1)
        };
        let (lock, changed) = &*self.lines;
        let lines = lock.lock().unwrap();
        let lines =
            changed.wait_timeout_while(lines, PATIENCE, |lines| find(lines).is_none()).unwrap().0;
        let found = find(&lines);
        let all = lines.join("\n");
        // A panic must not poison it: the lines are printed once more at the daemon's end.
        drop(lines);
        found.unwrap_or_else(|| panic!("no '{text}' (no. {count}) in\n{all}"))
    }
}

/// A daemon that a test has started its own way, and that does not outlive one that fails.
pub struct Started(pub Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Daemon {
    child: Child,
    dir: PathBuf,
    pub socket: PathBuf,
    pub log: Log,
}

impl Daemon {
    /// Starts it with `--no-adopt` and these arguments, and waits until it listens.
    pub fn start(args: &[&str]) -> Self {
        Self::start_under(&[], args)
    }

    /// The same, by a command that becomes the daemon.
    pub fn start_under(launcher: &[&str], args: &[&str]) -> Self {
        let dir = own_dir();
        let socket = dir.join("lmkd.sock");
        let (child, log) = spawn(launcher, &socket, args);
        Self { child, dir, socket, log }
    }

    /// Ends it and starts another one at the same socket.
    pub fn restart(&mut self, args: &[&str]) {
        self.signal(Signal::TERM);
        assert!(self.child.wait().unwrap().success());
        (self.child, self.log) = spawn(&[], &self.socket, args);
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn client(&self) -> Client {
        let client = Client::connect(&self.socket).unwrap();
        client.set_timeout(Some(PATIENCE)).unwrap();
        client
    }

    pub fn raw(&self) -> Raw {
        Raw::connect(&self.socket)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Stops it, does something that it shall meet all at once, and lets it go on.
    pub fn while_stopped<T>(&self, act: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        let process = PathBuf::from(format!("/proc/{}", self.pid()));
        super::until("the daemon to stop", || (state(&process) == Some('T')).then_some(()));
        let result = act();
        self.signal(Signal::CONT);
        result
    }

    /// Looks at it while none of its threads runs. An answer is sent before the loop prepares the next
    /// victims, and another thread reads their names after that: what is counted on the way is not what
    /// stays. The loop's own sleep would not tell that this is over, as it may wait for a lock whose
    /// holder gets no CPU. Reclaim may wake it while this looks: then the count of its wake-ups has grown.
    pub fn at_rest<T>(&self, look: impl Fn(&Self) -> T) -> T {
        super::until("the daemon to be at rest", || {
            let before = self.wakeups();
            let seen = self.sleeps().then(|| look(self))?;
            (self.sleeps() && self.wakeups() == before).then_some(seen)
        })
    }

    /// Whether all its threads sleep.
    pub fn sleeps(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        tasks.flatten().all(|task| state(&task.path()) == Some('S'))
    }

    /// Open descriptors, once it is at rest.
    pub fn descriptors(&self) -> usize {
        let fds = |daemon: &Self| std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()));
        self.at_rest(|daemon| fds(daemon).unwrap().count())
    }

    /// Whether it holds this file open.
    pub fn has_open(&self, file: &std::path::Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        // A descriptor may be closed while this looks.
        open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path == file))
    }

    /// Whether it has a pidfd of this process: those that are registered, and victims.
    pub fn holds(&self, pid: i32) -> bool {
        let infos = std::fs::read_dir(format!("/proc/{}/fdinfo", self.pid())).unwrap();
        let line = format!("Pid:\t{pid}\n");
        // A descriptor may be closed while this looks.
        infos
            .flatten()
            .any(|info| std::fs::read_to_string(info.path()).is_ok_and(|text| text.contains(&line)))
    }

    /// Resident memory.
    pub fn rss_kb(&self) -> i32 {
        super::app::status_kb(self.pid(), "VmRSS:")
    }

    /// Times that any of its threads went to sleep or was interrupted.
    pub fn wakeups(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let count = |status: String| -> u64 {
            let counts =
                status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
            counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum()
        };
        // A thread may end while this looks.
        let statuses = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
        statuses.map(count).sum()
    }

    /// Minor and major page faults.
    pub fn page_faults(&self) -> (u64, u64) {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        // From the state on, the third field of proc_pid_stat(5).
        (fields[10 - 3].parse().unwrap(), fields[12 - 3].parse().unwrap())
    }

    /// When it has sent its signals, by its flight recorder. Its clients hear of a kill before that is
    /// written, and by its next answer it is.
    pub fn signalled(&self) -> Vec<MonoTime> {
        let mut operator = Operator::connect(&path_beside(&self.socket)).unwrap();
        let records = operator.dump().unwrap().into_iter().map(|entry| entry.record);
        let signalled = records.filter_map(|record| match record {
            Record::Kill(kill) => Some(kill.moments.signalled),
            _ => None,
        });
        signalled.collect()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ends it as init does.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        super::until("the daemon's end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
        if std::thread::panicking() {
            println!("--- the daemon said:\n{}", self.log.lines().join("\n"));
        }
    }
}

/// The state of a process or thread with this directory in /proc.
fn state(dir: &std::path::Path) -> Option<char> {
    let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn spawn(launcher: &[&str], socket: &std::path::Path, args: &[&str]) -> (Child, Log) {
    // The pressure that other tests make is none of its business.
    let deaf = ["--set=psi_partial_stall_ms=0", "--set=psi_complete_stall_ms=0"];
    let watches = args.iter().any(|arg| arg.starts_with("--psi"));
    let words = [launcher, &[BINARY]].concat();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .arg("--no-adopt")
        .arg("--socket")
        .arg(socket)
        .args(deaf.iter().filter(|_| !watches))
        .args(args)
        .env_remove("ANDROID_SOCKET_lmkd")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Log::follow(child.stderr.take().unwrap());
    // The last of what it says at its start.
    log.wait_for(1, "next victims");
    log.wait_for(1, "reclaim: ");
    // The thread that found that out gives its descriptor back after the loop has heard of it.
    super::until("the end of a thread", || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).ok()?;
        let mut names =
            tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
        (!names.any(|name| name.is_ok_and(|name| name.starts_with("lmkd_memevents")))).then_some(())
    });
    (child, log)
}
