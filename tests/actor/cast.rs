//! The processes on stage: started, counted as they die, told to grow.

use crate::out::now_us;
use crate::raw;
use anyhow::Context;
use anyhow::Result;
use lmkd::sys::pidfd::pidfd_open;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// Uid of the first app, as Android counts them.
pub const FIRST_APP_UID: u32 = 10_000;

/// One process.
pub struct App {
    pub name: String,
    pub pid: u32,
    pub uid: u32,
    pub adj: Option<i32>,
    /// The signal or, negative, the status that it ended with.
    pub end: Option<i32>,
    /// The actor has ended it itself.
    pub ended: bool,
    /// The order that waits for it to get ready.
    pub order: Option<u64>,
    child: Child,
    pidfd: OwnedFd,
}

/// How an app is to be.
pub struct Shape<'a> {
    pub name: &'a str,
    pub kind: &'a str,
    pub mib: u64,
    pub threads: u64,
    pub role: &'a str,
    pub sched: &'a str,
    pub uid: u32,
}

impl App {
    /// Starts an app whose lines go to `pipe`.
    pub fn start(shape: &Shape<'_>, pipe: BorrowedFd<'_>, cache: &str) -> Result<Self> {
        let (mib, threads) = (shape.mib.to_string(), shape.threads.to_string());
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["app", shape.kind, &mib, &threads, shape.role, shape.sched])
            .env("ACTOR_CACHE", cache);
        command.arg0(shape.name);
        if shape.uid > 0 {
            command.uid(shape.uid).gid(shape.uid);
        }
        // Its own user may not take the class.
        raw::set_fifo(shape.sched == "fifo")?;
        let app = Self::run(command, shape.name, shape.uid, pipe);
        raw::set_fifo(false)?;
        app
    }

    /// Starts any program under that name.
    pub fn run(mut command: Command, name: &str, uid: u32, pipe: BorrowedFd<'_>) -> Result<Self> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(pipe.try_clone_to_owned()?)
            .spawn()
            .with_context(|| name.to_owned())?;
        let pid = child.id();
        let pidfd = pidfd_open(i32::try_from(pid)?).context("pidfd_open")?;
        let app = Self {
            name: name.to_owned(),
            pid,
            uid,
            adj: None,
            end: None,
            ended: false,
            order: None,
            child,
            pidfd,
        };
        // Not this program's own, which children inherit.
        app.set_adj(0)?;
        Ok(app)
    }

    /// Sets its oom_score_adj without a daemon.
    pub fn set_adj(&self, adj: i32) -> Result<()> {
        let path = format!("/proc/{}/oom_score_adj", self.pid);
        fs::write(&path, adj.to_string()).context(path)
    }

    /// Ids of its threads, of which the leader's is its own.
    pub fn threads(&self) -> Vec<u32> {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
    }

    /// Whether it has ended just now; then `end` says how, and this is the time.
    pub fn has_ended(&mut self) -> Option<u64> {
        if self.end.is_some() {
            return None;
        }
        let status = self.child.try_wait().ok()??;
        self.end = status.signal().or_else(|| status.code().map(|code| -code));
        Some(now_us())
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("no pipe")?;
        Ok(stdin.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Ends it, if it has not ended.
    pub fn finish(&mut self) {
        self.ended = true;
        if self.end.is_none() {
            let _ = self.child.kill();
        }
    }
}

impl AsFd for App {
    /// Readable once all its threads are gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
