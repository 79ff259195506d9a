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
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            findings.push(process(&stat, pid));
            let answer = self.answer.as_ref();
            findings.extend(answer.map(|answer| recorder(&self.operators_socket(), answer)));
            findings.push(locked_memory(&self.status));
            findings.push(schedule(&stat));
            findings.push(protection(&self.file("oom_score_adj")));
            if device::is_android() {
                findings.push(domain(&self.file("attr/current")));
            }
        }
        findings
    }

    fn examine_socket(&self) -> Finding {
        let uid = self.status("Uid").and_then(|ids| ids.split_whitespace().nth(1));
        socket(&self.socket, self.listener, uid.unwrap_or("?"))
    }
}

fn socket(path: &Path, listener: Result<i32, Errno>, uid: &str) -> Finding {
    const CHECK: &str = "socket";
    let path = path.display();
    match listener {
        Ok(0) => Finding::ok(CHECK, format_args!("{path}: a daemon outside this pid namespace")),
        Ok(pid) => {
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

/// By `/proc/PID/stat`. The kernel lets clients connect to a process that is stopped, too.
fn process(stat: &str, pid: i32) -> Finding {
    const CHECK: &str = "process";
    match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
        Some('T' | 't') => Finding::broken(
            CHECK,
            "it is stopped, by a signal or a debugger",
            "nobody is killed, and clients wait",
            format_args!("kill -CONT {pid}, or end the debugger"),
        ),
        Some(_) => Finding::ok(CHECK, "it runs"),
        None => Finding::unknown(CHECK, "its stat cannot be read"),
    }
}

fn recorder<T>(path: &Path, answer: &Result<T, ClientError>) -> Finding {
    const CHECK: &str = "recorder";
    match answer {
        Ok(_) => Finding::ok(CHECK, format_args!("{}: answers operators", path.display())),
        Err(ClientError::Connect(_, Errno::ACCESS) | ClientError::Refused(_)) => {
            Finding::unknown(CHECK, format_args!("{}: not for this user", path.display()))
        }
        Err(ClientError::Late) => Finding::degraded(
            CHECK,
            format_args!("{}: {}", path.display(), ClientError::Late),
            "operators are not answered; kills may be late or not come",
            "see its log and its threads' states in /proc/PID/task, and restart it if it stays so",
        ),
        Err(error) => Finding::degraded(
            CHECK,
            error,
            "what was seen and done cannot be asked for",
            "let the daemon make the socket, or have init hand it over as lmkctl",
        ),
    }
}

/// By `/proc/PID/status`.
fn locked_memory(status: &str) -> Finding {
    const CHECK: &str = "locked_memory";
    let kb = |field| line(status, field).and_then(|text| text.split(' ').next()?.parse().ok());
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

/// By `/proc/PID/stat`.
fn schedule(stat: &str) -> Finding {
    const CHECK: &str = "schedule";
    const FIFO: &str = "1";
    let fields: Vec<&str> =
        stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split_whitespace().collect();
    // Fields 40 and 41 of proc_pid_stat(5); the first here is the third.
    match (fields.get(40 - 3), fields.get(41 - 3)) {
        (Some(priority), Some(&FIFO)) => Finding::ok(CHECK, format_args!("SCHED_FIFO {priority}")),
        (Some(_), Some(_)) => Finding::degraded(
            CHECK,
            "not of the real-time class",
            "kills may be late on a busy machine",
            "grant CAP_SYS_NICE or raise RLIMIT_RTPRIO, and restart it",
        ),
        _ => Finding::unknown(CHECK, "its stat cannot be read"),
    }
}

/// By the daemon's own oom_score_adj.
fn protection(adj: &str) -> Finding {
    const CHECK: &str = "oom_score_adj";
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
fn domain(context: &str) -> Finding {
    const CHECK: &str = "domain";
    match context.trim_end_matches(['\0', '\n']) {
        "" => Finding::unknown(CHECK, "its SELinux context cannot be read"),
        context @ "u:r:lmkd:s0" => Finding::ok(CHECK, context),
        other => Finding::broken(
            CHECK,
            other,
            "SELinux refuses what the daemon does",
            "label its file u:object_r:lmkd_exec:s0 and let init start it",
        ),
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

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_socket_that_nobody_listens_at_is_found() {
        let of = |listener| socket(Path::new("lmkd.sock"), listener, "0").state();
        assert_eq!([of(Ok(7)), of(Ok(0))], [State::Ok, State::Ok]);
        assert_eq!([of(Err(Errno::NOENT)), of(Err(Errno::CONNREFUSED))], [State::Degraded; 2]);
        assert_eq!(of(Err(Errno::ACCESS)), State::Unknown);
    }

    #[test]
    fn a_daemon_that_does_not_answer_operators_is_found() {
        let path = Path::new("lmkd.sock.ctl");
        let of = |answer: Result<(), ClientError>| recorder(path, &answer).state();
        let connect = |errno| Err(ClientError::Connect(path.to_owned(), errno));
        assert_eq!([of(connect(Errno::NOENT)), of(Err(ClientError::Late))], [State::Degraded; 2]);
        let refused = ClientError::Refused("for root".to_owned());
        assert_eq!([of(connect(Errno::ACCESS)), of(Err(refused))], [State::Unknown; 2]);
        assert_eq!(of(Ok(())), State::Ok);
    }

    #[test]
    fn a_daemon_that_is_stopped_is_found() {
        let of = |stat: &str| process(stat, 7).state();
        assert_eq!([of("7 (a) T) T 1"), of("7 (lmkd) t 1")], [State::Broken; 2]);
        assert_eq!([of("7 (lmkd) S 1"), of("7 (T) T) R 1")], [State::Ok; 2]);
        assert_eq!(of(""), State::Unknown);
    }

    #[test]
    fn a_daemon_that_has_locked_nothing_is_found() {
        let of = |text: &str| locked_memory(text).state();
        assert_eq!(of("Name:\tlmkd\nVmLck:\t       0 kB\nVmRSS:\t    2048 kB\n"), State::Degraded);
        assert_eq!(of("VmLck:\t    4096 kB\nVmRSS:\t    2048 kB\n"), State::Ok);
        assert_eq!(of(""), State::Unknown);
    }

    #[test]
    fn a_daemon_that_is_not_of_the_real_time_class_is_found() {
        // The fields from the state on; priority and class are the 38th and 39th of them.
        let of = |class: &str| {
            let mut fields = vec!["0"; 50];
            (fields[0], fields[37], fields[38]) = ("S", "1", class);
            schedule(&format!("7 (a) b) {}\n", fields.join(" "))).state()
        };
        assert_eq!([of("1"), of("0")], [State::Ok, State::Degraded]);
        assert_eq!(schedule("").state(), State::Unknown);
    }

    #[test]
    fn a_daemon_that_the_kernel_may_choose_is_found() {
        let of = |adj: &str| protection(adj).state();
        assert_eq!(
            [of("-1000\n"), of("0\n"), of("")],
            [State::Ok, State::Degraded, State::Unknown]
        );
    }

    #[test]
    fn another_domain_than_lmkds_is_found() {
        let of = |context: &str| domain(context).state();
        assert_eq!(
            [of("u:r:lmkd:s0\0"), of("u:r:su:s0\0"), of("")],
            [State::Ok, State::Broken, State::Unknown]
        );
    }
}
