//! `lmkctl wait`: blocks until processes, of whomever, have exited.
//!
//! A process is a pidfd, and one poll(2) waits for all of them, so nothing is asked twice and an id
//! that was given to another process deceives nobody. A pidfd becomes readable when the process has
//! exited and hangs up when its parent has reaped it; from then on Linux 6.15 and newer tell how it
//! ended.

use crate::flag;
use crate::json::SCHEMA;
use crate::text::Span;
use crate::text::Utc;
use anyhow::bail;
use anyhow::Context;
use clap::value_parser;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use lmkd::kernel::process::ProcDir;
use lmkd::pidfd::Exit;
use lmkd::pidfd::PidFd;
use lmkd::sys::pidfd::pidfd_send_signal;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use serde_json::json;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// As timeout(1) has it.
const TIMED_OUT: u8 = 124;
/// As the shell's `wait` has it for what it does not know.
const NO_SUCH_PROCESS: u8 = 127;
/// As shells have it: plus the signal's number.
const BY_SIGNAL: u8 = 128;
/// How long the parent of a process that has exited gets to reap it: only then the kernel tells.
const REAPING: Duration = Duration::from_millis(500);

/// The end of the help.
const MORE: &str = "\
Exit status: that of the process, and of several that of the first to end with another than 0; 128
and the signal's number for one that a signal ended. 0 also where the kernel does not tell how it
ended: Linux tells since 6.15, once the parent has reaped it. 124 the time was up; 127 there is no
such process; 1 it cannot be waited for; 2 the command line is not understood.

Examples:
  lmkctl wait 4711                     blocks until process 4711 has exited
  lmkctl wait --timeout 5 4711 4712    for 5 seconds at most
  lmkctl wait --any $(pidof chrome)    until one of them is gone
  lmkctl wait --json 4711              {\"event\":\"exit\",\"pid\":4711,\"signal\":9,...}

--json prints one object per line and process: event (\"exit\", \"no_such_process\", \"timeout\"), pid,
name, status and signal (null if it does not apply or is not told), time (UTC), waited_ms, schema (1).";

/// The command line.
pub fn command() -> Command {
    Command::new("wait")
        .about("Wait until processes have exited, children or not, without polling")
        .after_help(MORE)
        .args([
            Arg::new("pid")
                .required(true)
                .num_args(1..)
                .value_name("PID")
                .value_parser(value_parser!(i32).range(1..))
                .help("Processes to wait for"),
            Arg::new("timeout")
                .short('t')
                .long("timeout")
                .value_name("SECONDS")
                .value_parser(seconds)
                .help("Give up after so many seconds, such as 5 or 0.25"),
            flag("any").help("Return when the first of them has exited"),
            flag("all")
                .conflicts_with("any")
                .help("Return when all of them have exited, which is the default"),
            flag("json").help("One JSON object per line"),
        ])
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "not a number of seconds".to_owned())
}

/// Waits; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let start = Instant::now();
    let any = arguments.get_flag("any");
    let mut told = Told { json: arguments.get_flag("json"), start, out };
    let mut waiting = Vec::new();
    let mut status = 0;
    let mut named = BTreeSet::new();
    let pids = arguments.get_many::<i32>("pid").into_iter().flatten();
    for &pid in pids.filter(|pid| named.insert(**pid)) {
        match Process::open(pid)? {
            Ok(process) => waiting.push(process),
            Err(absent) => {
                status = NO_SUCH_PROCESS;
                told.absent(pid, absent)?;
            }
        }
    }
    if any && status != 0 {
        return Ok(status);
    }
    let end = arguments.get_one("timeout").and_then(|timeout| start.checked_add(*timeout));
    while !waiting.is_empty() {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end && waiting.iter().any(|p| p.exited.is_none())) {
            for process in &waiting {
                match process.exited {
                    None => told.timeout(process)?,
                    // How it ended is not told yet; that it did is known.
                    Some(_) => told.exit(process, process.outcome().flatten())?,
                }
            }
            return Ok(TIMED_OUT);
        }
        let next = waiting.iter().filter_map(Process::patience).chain(end).min();
        poll(&mut waiting, next.map(|next| next.saturating_duration_since(now)))?;
        let mut index = 0;
        while let Some(process) = waiting.get(index) {
            let Some(exit) = process.outcome() else {
                index += 1;
                continue;
            };
            told.exit(process, exit)?;
            let code = exit.map_or(0, exit_status);
            if status == 0 {
                status = code;
            }
            if any {
                return Ok(code);
            }
            waiting.swap_remove(index);
        }
    }
    Ok(status)
}

/// A process that is waited for.
struct Process {
    pid: i32,
    name: String,
    pidfd: PidFd,
    /// When its exit was noticed.
    exited: Option<(Instant, SystemTime)>,
    /// Whether its parent has reaped it.
    reaped: bool,
}

impl Process {
    /// What is said instead if there is no such process.
    fn open(pid: i32) -> anyhow::Result<Result<Self, &'static str>> {
        let pidfd = match PidFd::open(pid) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(Err("no such process")),
            Err(Errno::INVAL | Errno::NOENT) => return Ok(Err("a thread, not a process")),
            Err(Errno::NOSYS) => bail!("this kernel has no pidfd_open(2); Linux 5.3 and newer do"),
            Err(error) => return Err(error).with_context(|| format!("process {pid}")),
        };
        let name = ProcDir::open(Path::new("/proc")).ok().and_then(|proc| proc.name(pid).ok());
        let name = name.map(|name| name.to_string()).unwrap_or_default();
        Ok(Ok(Self { pid, name, pidfd, exited: None, reaped: false }))
    }

    /// Until when to wait for its parent, if it has exited.
    fn patience(&self) -> Option<Instant> {
        self.exited.and_then(|(at, _)| at.checked_add(REAPING))
    }

    /// How it ended, once that is settled: None inside if the kernel does not tell.
    fn outcome(&self) -> Option<Option<Exit>> {
        self.exited?;
        if let Some(exit) = self.pidfd.exit().or_else(|| self.zombie()) {
            return Some(Some(exit));
        }
        let waited = self.patience().is_some_and(|end| Instant::now() >= end);
        let hopeless = self.reaped || waited || !PidFd::kernel_tells_exit();
        hopeless.then_some(None)
    }

    /// What `/proc` says of one that was not reaped. A status of 0 is not believed: the file also
    /// has 0 for readers who may not know.
    fn zombie(&self) -> Option<Exit> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // From the state on, the third field of proc_pid_stat(5).
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        let code: i32 = fields.get(52 - 3)?.parse().ok()?;
        // After the reading: the file was this very process's, if that has not been reaped. Signal 0
        // tells on every kernel, and of a reaped process before it asks whether it may.
        let reaped = || pidfd_send_signal(self.pidfd.as_fd(), 0) == Err(Errno::SRCH);
        let told = fields.first() == Some(&"Z") && code != 0 && !reaped();
        told.then(|| Exit::from_wait(code))
    }
}

/// Waits for an exit or a reaping, for this long at most.
fn poll(waiting: &mut [Process], timeout: Option<Duration>) -> anyhow::Result<()> {
    // A process that has exited stays readable; of it only the reaping is still to come.
    let wanted = |process: &Process| match process.exited {
        None => PollFlags::IN,
        Some(_) => PollFlags::empty(),
    };
    let mut fds: Vec<_> =
        waiting.iter().map(|process| PollFd::new(&process.pidfd, wanted(process))).collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match rustix::event::poll(&mut fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error).context("poll"),
    }
    let seen: Vec<_> = fds.iter().map(PollFd::revents).collect();
    let now = (Instant::now(), SystemTime::now());
    for (process, seen) in waiting.iter_mut().zip(seen) {
        if !seen.is_empty() {
            process.exited.get_or_insert(now);
        }
        process.reaped |= seen.contains(PollFlags::HUP);
    }
    Ok(())
}

fn exit_status(exit: Exit) -> u8 {
    match exit {
        Exit::Status(status) => u8::try_from(status).unwrap_or(u8::MAX),
        Exit::Signal(signal) => BY_SIGNAL.saturating_add(u8::try_from(signal).unwrap_or(0)),
    }
}

/// What is printed.
struct Told<'a> {
    json: bool,
    start: Instant,
    out: &'a mut dyn Write,
}

impl Told<'_> {
    fn absent(&mut self, pid: i32, what: &str) -> std::io::Result<()> {
        match self.json {
            true => self.line(&json!({
                "schema": SCHEMA, "event": "no_such_process", "pid": pid,
            })),
            false => self.line(&format_args!("{pid}: {what}")),
        }
    }

    fn timeout(&mut self, process: &Process) -> std::io::Result<()> {
        let Process { pid, name, .. } = process;
        let waited = self.start.elapsed();
        match self.json {
            true => self.line(&json!({
                "schema": SCHEMA, "event": "timeout", "pid": pid, "name": name, "waited_ms": millis(waited),
            })),
            false => self.line(&format_args!("{pid} {name}: still there after {}", Span(waited))),
        }
    }

    fn exit(&mut self, process: &Process, exit: Option<Exit>) -> std::io::Result<()> {
        let Process { pid, name, .. } = process;
        let Some((at, clock)) = process.exited else { return Ok(()) };
        let (waited, time) = (at.saturating_duration_since(self.start), Utc(clock));
        if self.json {
            let (status, signal) = match exit {
                Some(Exit::Status(status)) => (Some(status), None),
                Some(Exit::Signal(signal)) => (None, Some(signal)),
                None => (None, None),
            };
            return self.line(&json!({
                "schema": SCHEMA, "event": "exit", "pid": pid, "name": name, "status": status, "signal": signal,
                "time": time.to_string(), "waited_ms": millis(waited),
            }));
        }
        let how = match exit {
            Some(exit) => exit.to_string(),
            None if process.reaped || !PidFd::kernel_tells_exit() => {
                "this kernel does not tell how (Linux 6.15 does)".to_owned()
            }
            None => "its parent has not reaped it, so nobody tells how".to_owned(),
        };
        self.line(&format_args!("{pid} {name}: exited {time}, after {}: {how}", Span(waited)))
    }

    /// Out at once, for whoever reads along.
    fn line(&mut self, text: &dyn std::fmt::Display) -> std::io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }
}

fn millis(span: Duration) -> Value {
    json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
