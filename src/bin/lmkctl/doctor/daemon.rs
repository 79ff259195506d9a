//! The daemon, if one runs: whose rights and settings count.

use super::finding::Finding;
use lmkd::config;
use lmkd::config::Mode;
use lmkd::config::Options;
use lmkd::control::handover;
use lmkd::device;
use lmkd::recorder::client::Client;
use lmkd::recorder::client::ClientError;
use lmkd::recorder::wire;
use lmkd::recorder::Settings;
use lmkd::recorder::Status;
use lmkd::sys::socket;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

/// Whose rights and limits are looked at: the daemon's, or those of whoever asks.
pub struct Subject {
    socket: PathBuf,
    /// The process that listens at the socket, or why there is none.
    listener: Result<i32, Errno>,
    status: String,
    /// What it answers operators; None where none runs.
    answer: Option<Result<(Settings, Status), ClientError>>,
}

impl Subject {
    /// Finds the process that listens at the socket, and asks its operator's socket for its state.
    pub fn find(socket: Option<&PathBuf>) -> Self {
        let socket = socket.cloned().unwrap_or_else(handover::default_path);
        let listener = listener(&socket);
        let mut subject = Self { socket, listener, status: String::new(), answer: None };
        subject.status = subject.file("status");
        if subject.daemon().is_some() {
            let path = subject.operators_socket();
            subject.answer = Some(Client::connect(&path).and_then(|mut client| client.status()));
        }
        subject
    }

    /// The settings in force and the state of the daemon, if one runs and tells.
    pub fn told(&self) -> Option<&(Settings, Status)> {
        self.answer.as_ref()?.as_ref().ok()
    }

    fn operators_socket(&self) -> PathBuf {
        let beside = || wire::path_beside(&self.socket);
        self.options().and_then(|options| options.ctl).unwrap_or_else(beside)
    }

    /// The daemon's process id, if one runs that is visible from here.
    pub fn daemon(&self) -> Option<i32> {
        self.listener.ok().filter(|pid| *pid > 0)
    }

    /// A file of `/proc/PID`; empty if it cannot be read.
    pub fn file(&self, name: &str) -> String {
        let path = match self.daemon() {
            Some(pid) => format!("/proc/{pid}/{name}"),
            None => format!("/proc/self/{name}"),
        };
        let bytes = std::fs::read(path).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// A line of `/proc/PID/status`.
    pub fn status(&self, field: &str) -> Option<&str> {
        line(&self.status, field)
    }

    /// The effective capabilities, a bit each.
    pub fn capabilities(&self) -> u64 {
        capabilities(&self.status)
    }

    /// Whether whoever asks may do less than the daemon, so that what fails here may work there.
    pub fn outranks_us(&self) -> bool {
        let ours = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        self.daemon().is_some() && self.capabilities() & !capabilities(&ours) != 0
    }

    /// The options that the daemon was started with.
    pub fn options(&self) -> Option<Options> {
        let pid = self.daemon()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = line.strip_suffix(&[0]).unwrap_or(&line).split(|byte| *byte == 0);
        let words = words.skip(1).map(|word| OsString::from_vec(word.to_vec()));
        match config::parse_arguments(words).ok()? {
            Mode::Run(mut options) => {
                // A relative path means the daemon's directory, not ours.
                let directory = PathBuf::from(format!("/proc/{pid}/cwd"));
                options.props = options.props.map(|path| directory.join(path));
                options.psi = options.psi.map(|path| directory.join(path));
                options.ctl = options.ctl.map(|path| directory.join(path));
                Some(options)
            }
            _ => None,
        }
    }

    /// Whether it runs, and as it should.
    pub fn examine(&self) -> Vec<Finding> {
        let mut findings = vec![self.examine_socket()];
        if let Some(pid) = self.daemon() {
            findings.extend(self.answer.as_ref().map(|answer| self.examine_recorder(answer)));
            findings.push(self.examine_memory());
            findings.push(self.examine_schedule(pid));
            findings.push(self.examine_protection());
            findings.extend(self.examine_domain());
        }
        findings
    }

    fn examine_socket(&self) -> Finding {
        const CHECK: &str = "socket";
        let path = self.socket.display();
        match self.listener {
            Ok(0) => {
                Finding::ok(CHECK, format_args!("{path}: a daemon outside this pid namespace"))
            }
            Ok(pid) => {
                let uid = self.status("Uid").and_then(|ids| ids.split_whitespace().nth(1));
                let uid = uid.unwrap_or("?");
                Finding::ok(CHECK, format_args!("{path}: the daemon listens, pid {pid}, uid {uid}"))
            }
            Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                Finding::unknown(CHECK, format_args!("{path}: {error}"))
            }
            Err(error) => Finding::degraded(
                CHECK,
                format_args!("{path}: nobody listens ({error})"),
                "no daemon is seen to run, and what follows is of whoever asks",
                "start lmkd, or name its socket with --socket",
            ),
        }
    }

    fn examine_recorder(&self, answer: &Result<(Settings, Status), ClientError>) -> Finding {
        const CHECK: &str = "recorder";
        let path = self.operators_socket();
        match answer {
            Ok(_) => Finding::ok(CHECK, format_args!("{}: answers operators", path.display())),
            Err(ClientError::Connect(_, Errno::ACCESS) | ClientError::Refused(_)) => {
                Finding::unknown(CHECK, format_args!("{}: not for this user", path.display()))
            }
            Err(error) => Finding::degraded(
                CHECK,
                error,
                "what was seen and done cannot be asked for",
                "let the daemon make the socket, or have init hand it over as lmkctl",
            ),
        }
    }

    fn examine_memory(&self) -> Finding {
        const CHECK: &str = "locked_memory";
        let kb = |field| self.status(field).and_then(|text| text.split(' ').next()?.parse().ok());
        match (kb("VmLck"), kb("VmRSS")) {
            (Some(0), _) => Finding::degraded(
                CHECK,
                "nothing is locked",
                "the daemon may wait for its own pages under pressure",
                "grant CAP_IPC_LOCK or raise RLIMIT_MEMLOCK, and restart it",
            ),
            (Some(locked), Some::<u64>(resident)) => {
                Finding::ok(CHECK, format_args!("{locked} kB locked, {resident} kB resident"))
            }
            _ => Finding::unknown(CHECK, "its status cannot be read"),
        }
    }

    fn examine_schedule(&self, pid: i32) -> Finding {
        const CHECK: &str = "schedule";
        const FIFO: &str = "1";
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        // Fields 40 and 41 of proc_pid_stat(5); the first here is the third.
        match (fields.get(40 - 3), fields.get(41 - 3)) {
            (Some(priority), Some(&FIFO)) => {
                Finding::ok(CHECK, format_args!("SCHED_FIFO {priority}"))
            }
            (Some(_), Some(_)) => Finding::degraded(
                CHECK,
                "not of the real-time class",
                "kills may be late on a busy machine",
                "grant CAP_SYS_NICE or raise RLIMIT_RTPRIO, and restart it",
            ),
            _ => Finding::unknown(CHECK, "its stat cannot be read"),
        }
    }

    fn examine_protection(&self) -> Finding {
        const CHECK: &str = "oom_score_adj";
        let adj = self.file("oom_score_adj");
        match adj.trim() {
            "" => Finding::unknown(CHECK, "cannot be read"),
            "-1000" => Finding::ok(CHECK, "-1000: the kernel does not choose the daemon"),
            other => Finding::degraded(
                CHECK,
                other,
                "the kernel may choose the daemon itself",
                "grant CAP_SYS_RESOURCE, or have init write -1000",
            ),
        }
    }

    /// On Android: SELinux grants the domain `lmkd` what the daemon needs, and no other.
    fn examine_domain(&self) -> Option<Finding> {
        if !device::is_android() {
            return None;
        }
        let context = self.file("attr/current");
        let context = context.trim_end_matches(['\0', '\n']);
        Some(match context {
            "" => Finding::unknown("domain", "its SELinux context cannot be read"),
            "u:r:lmkd:s0" => Finding::ok("domain", context),
            other => Finding::broken(
                "domain",
                other,
                "SELinux refuses what the daemon does",
                "label its file u:object_r:lmkd_exec:s0 and let init start it",
            ),
        })
    }
}

fn line<'a>(status: &'a str, field: &str) -> Option<&'a str> {
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| *name == field).map(|(_, text)| text.trim()).next()
}

fn capabilities(status: &str) -> u64 {
    line(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

fn listener(path: &Path) -> Result<i32, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, &address)?;
    // Of the one who listens, as it was when it began to.
    Ok(socket::peer_credentials(socket.as_fd())?.pid)
}
