//! A process to be registered: a `sleep` under a name of its own.

use super::until;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::ProcType;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::process::Command;
use std::process::ExitStatus;
use std::process::Stdio;

/// The user that clients name for apps. They belong to root, as a process that zygote has just
/// made.
pub const UID: u32 = 10_001;

pub struct App {
    child: Child,
    pub name: String,
}

impl App {
    pub fn start(name: &str) -> Self {
        Self::spawn(name, Command::new("sleep").arg("600"))
    }

    /// One that does this, in words of sh(1), once [`Self::let_go`] is called.
    pub fn that_will(name: &str, act: &str) -> Self {
        let script = format!("read -r line; {act}");
        Self::spawn(name, Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()))
    }

    /// See [`Self::that_will`].
    pub fn let_go(&mut self) {
        drop(self.child.stdin.take());
    }

    /// One that belongs to another user already.
    pub fn of_user(name: &str, uid: u32) -> Self {
        Self::spawn(name, Command::new("sleep").arg("600").uid(uid))
    }

    fn spawn(name: &str, command: &mut Command) -> Self {
        let child = command.arg0(name).spawn().unwrap();
        let app = Self { child, name: name.to_owned() };
        // Its memory grows no more once it sleeps.
        until("the app to sleep", || {
            let status = fs::read_to_string(format!("/proc/{}/status", app.pid())).ok()?;
            status.contains("State:\tS").then_some(())
        });
        app
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// What a client says of it.
    pub fn at(&self, adj: i32) -> ProcPrio {
        ProcPrio {
            pid: Pid::new(self.pid()).unwrap(),
            uid: UID,
            adj: OomScoreAdj::new(adj).unwrap(),
            kind: ProcType::App,
        }
    }

    /// Its oom_score_adj, as the kernel says.
    pub fn adj(&self) -> i32 {
        adj_of(self.pid())
    }

    pub fn rss_kb(&self) -> i32 {
        status_kb(self.pid(), "VmRSS:")
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Reaps it once it has ended; the signal that ended it.
    #[track_caller]
    pub fn ended_by(&mut self) -> Option<i32> {
        self.ended().signal()
    }

    /// Reaps it once it has ended; how it has.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until(&format!("the end of {}", self.name), || self.child.try_wait().unwrap())
    }

    /// Ends it, and reaps it.
    pub fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn adj_of(pid: i32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap();
    // The end of the file is asked for with a second read, which may find another number.
    text.lines().next().unwrap().parse().unwrap()
}

/// A number of /proc/PID/status.
pub fn status_kb(pid: i32, field: &str) -> i32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
