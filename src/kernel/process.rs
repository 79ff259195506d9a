//! Per-process files of `/proc`, read without the heap.
//!
//! Paths are built on the stack and opened below a held descriptor of `/proc`. Nothing here may be
//! called for a process that has been signalled: an open file of a dying process can hold its
//! memory back.

use super::reader;
use super::scan;
use super::ReadError;
use crate::oom_score_adj::OomScoreAdj;
use crate::sys::dir;
use crate::units::Kib;
use crate::units::Pages;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Why a process file gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcError {
    /// There is no such process (any more).
    Gone,
    /// This daemon may not read or write it.
    Denied,
    /// The file lacks this field or it is malformed.
    Malformed(&'static str),
    /// Anything else.
    Other(Errno),
}

impl From<Errno> for ProcError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            other => Self::Other(other),
        }
    }
}

impl From<ReadError> for ProcError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Os(errno) => errno.into(),
            ReadError::Parse(error) => Self::Malformed(error.field),
        }
    }
}

impl fmt::Display for ProcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "no such process"),
            Self::Denied => write!(f, "permission denied"),
            Self::Malformed(field) => write!(f, "no {field} in it"),
            Self::Other(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for ProcError {}

/// A process's name: at most 127 bytes, the limit of the statistics packet.
#[derive(Clone, Copy)]
pub struct TaskName {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl TaskName {
    /// Longest name kept, in bytes.
    pub const LONGEST: usize = 127;

    /// A name, cut at [`Self::LONGEST`].
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; Self::LONGEST];
        let mut len: u8 = 0;
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { bytes, len }
    }

    /// As the process wrote it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl fmt::Display for TaskName {
    /// Control characters, which could forge a log line, and bytes that are not UTF-8 show as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() { '?' } else { c })?;
            }
            for _ in chunk.invalid() {
                f.write_char('?')?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Lines of `/proc/PID/status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// `Tgid`: differs from the id asked for if that is a thread's.
    pub tgid: i32,
    /// `Uid`, the effective one.
    pub uid: u32,
    /// `VmRSS`; a kernel thread, a zombie, and a leader that left its threads behind have none.
    pub rss: Option<Kib>,
    /// `VmSwap`, likewise.
    pub swap: Option<Kib>,
    /// `Threads`; 0 if the kernel does not say.
    pub threads: u32,
}

/// Fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// `state`: R, S, D, Z, T, ...
    pub state: u8,
    /// `ppid`
    pub ppid: i32,
    /// `flags`, the kernel's `PF_*`.
    pub flags: u64,
    /// `minflt`
    pub minflt: u64,
    /// `majflt`
    pub majflt: u64,
    /// `num_threads`
    pub threads: u64,
    /// `starttime`, clock ticks since boot.
    pub start_time: u64,
}

impl Stat {
    /// Whether this is a thread of the kernel (`PF_KTHREAD` of `include/linux/sched.h`).
    #[must_use]
    pub const fn is_kernel_thread(&self) -> bool {
        self.flags & 0x0020_0000 != 0
    }
}

/// A held descriptor of `/proc` and what is read below it.
#[derive(Debug)]
pub struct ProcDir {
    root: OwnedFd,
}

/// Longest path built here: `2147483647/task/2147483647/oom_score_adj` and its NUL.
const PATH: usize = 64;

/// Enough for `stat`, and for the entries of many processes at once.
const FILE: usize = 4096;

/// Takes in the `status` of most processes in one read.
const STATUS: usize = 2048;

impl ProcDir {
    /// Opens a directory of processes, `/proc` outside tests.
    ///
    /// # Errors
    ///
    /// What open(2) says.
    pub fn open(root: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(root, flags, Mode::empty()).map(|root| Self { root })
    }

    /// Reads `status`.
    ///
    /// # Errors
    ///
    /// The process is gone, or the file has no `Tgid` or `Uid`.
    pub fn status(&self, pid: i32) -> Result<Status, ProcError> {
        self.status_of(format_args!("{pid}/status"))
    }

    /// Reads `status` of one thread: the memory of a process whose leader has left is seen there.
    ///
    /// # Errors
    ///
    /// As [`Self::status`].
    pub fn thread_status(&self, pid: i32, tid: i32) -> Result<Status, ProcError> {
        self.status_of(format_args!("{pid}/task/{tid}/status"))
    }

    fn status_of(&self, path: fmt::Arguments<'_>) -> Result<Status, ProcError> {
        let file = self.open_at(path, OFlags::RDONLY)?;
        let mut lines = StatusLines::default();
        // In pieces: a user in hundreds of groups has a longer file than anyone would reserve.
        reader::read_lines(file.as_fd(), &mut [0; STATUS], |line| {
            lines.line(line);
            Ok(())
        })?;
        lines.finish()
    }

    /// Reads `stat`.
    ///
    /// # Errors
    ///
    /// The process is gone, or a field is missing.
    pub fn stat(&self, pid: i32) -> Result<Stat, ProcError> {
        let mut buffer = [0; FILE];
        parse_stat(self.read(format_args!("{pid}/stat"), &mut buffer)?)
    }

    /// Resident pages, the second field of `statm`; 0 for kernel threads and zombies.
    ///
    /// # Errors
    ///
    /// The process is gone, or the field is malformed.
    pub fn rss(&self, pid: i32) -> Result<Pages, ProcError> {
        self.rss_of(format_args!("{pid}/statm"))
    }

    /// Opens `statm`, to be read again and again; reading fails once the process is gone. Each
    /// such descriptor that has been read keeps one page of the kernel's memory.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn open_statm(&self, pid: i32) -> Result<OwnedFd, ProcError> {
        self.open_at(format_args!("{pid}/statm"), OFlags::RDONLY)
    }

    /// Resident pages from a descriptor of [`Self::open_statm`].
    ///
    /// # Errors
    ///
    /// The process is gone, or the field is malformed.
    pub fn held_rss(statm: &OwnedFd) -> Result<Pages, ProcError> {
        let mut buffer = [0; 128];
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(statm, &mut buffer[..], 0))?;
        parse_statm(buffer.get(..read).unwrap_or(&[]))
    }

    /// As [`Self::rss`], of one thread.
    ///
    /// # Errors
    ///
    /// As [`Self::rss`].
    pub fn thread_rss(&self, pid: i32, tid: i32) -> Result<Pages, ProcError> {
        self.rss_of(format_args!("{pid}/task/{tid}/statm"))
    }

    fn rss_of(&self, path: fmt::Arguments<'_>) -> Result<Pages, ProcError> {
        let mut buffer = [0; 128];
        parse_statm(self.read(path, &mut buffer)?)
    }

    /// The first argument of the command line, up to a space; the kernel's short name in
    /// parentheses if there is none.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn name(&self, pid: i32) -> Result<TaskName, ProcError> {
        let mut buffer = [0; TaskName::LONGEST];
        let cmdline = self.read(format_args!("{pid}/cmdline"), &mut buffer)?;
        let first = cmdline.split(|b| *b == 0 || *b == b' ').next().unwrap_or(&[]);
        if !first.is_empty() {
            return Ok(TaskName::new(first));
        }
        let comm = self.read(format_args!("{pid}/comm"), &mut buffer)?;
        let comm = comm.strip_suffix(b"\n").unwrap_or(comm);
        let mut name = [0_u8; TaskName::LONGEST];
        let mut out = &mut name[..];
        // The kernel's name has at most 15 bytes, far from the end.
        let _ = out.write_all(b"(").and_then(|()| out.write_all(comm));
        let _ = out.write_all(b")");
        let left = out.len();
        Ok(TaskName::new(name.get(..name.len().saturating_sub(left)).unwrap_or(&[])))
    }

    /// Reads `oom_score_adj`.
    ///
    /// # Errors
    ///
    /// The process is gone, or the kernel wrote no such value.
    pub fn oom_score_adj(&self, pid: i32) -> Result<OomScoreAdj, ProcError> {
        let mut buffer = [0; 16];
        let text = self.read(format_args!("{pid}/oom_score_adj"), &mut buffer)?;
        let text = std::str::from_utf8(text).unwrap_or("");
        let value = text.trim_end().parse().ok().and_then(OomScoreAdj::new);
        value.ok_or(ProcError::Malformed("oom_score_adj"))
    }

    /// Opens `oom_score_adj` for writing. The descriptor means the process that has the id now;
    /// whether that is the one a pidfd means is to be asked between this and the write.
    ///
    /// # Errors
    ///
    /// The process is gone or another user's.
    pub fn open_oom_score_adj(&self, pid: i32) -> Result<OwnedFd, ProcError> {
        self.open_at(format_args!("{pid}/oom_score_adj"), OFlags::WRONLY)
    }

    /// Opens `cgroup`, the groups that the process is in.
    pub(super) fn open_cgroup(&self, pid: i32) -> Result<OwnedFd, ProcError> {
        self.open_at(format_args!("{pid}/cgroup"), OFlags::RDONLY)
    }

    /// The effective user id, as owner of the process's directory.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn owner(&self, pid: i32) -> Result<u32, ProcError> {
        let mut path = [0; PATH];
        let path = build_path(&mut path, format_args!("{pid}"))?;
        let stat = rustix::fs::statat(&self.root, path, rustix::fs::AtFlags::empty())?;
        Ok(stat.st_uid)
    }

    /// Calls `on` with the id of each process until it returns false.
    ///
    /// # Errors
    ///
    /// What getdents64(2) says.
    pub fn processes(&self, on: impl FnMut(i32) -> bool) -> Result<(), ProcError> {
        self.list(format_args!("."), on)
    }

    /// Calls `on` with the id of each thread of a process until it returns false.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn threads(&self, pid: i32, on: impl FnMut(i32) -> bool) -> Result<(), ProcError> {
        self.list(format_args!("{pid}/task"), on)
    }

    fn list(
        &self,
        path: fmt::Arguments<'_>,
        mut on: impl FnMut(i32) -> bool,
    ) -> Result<(), ProcError> {
        let dir = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut buffer = [0; FILE];
        loop {
            let filled = dir::getdents64(dir.as_fd(), &mut buffer)?;
            if filled == 0 {
                return Ok(());
            }
            for name in dir::names(buffer.get(..filled).unwrap_or(&[])) {
                if let Some(id) = number(name) {
                    if !on(id) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn open_at(&self, path: fmt::Arguments<'_>, flags: OFlags) -> Result<OwnedFd, ProcError> {
        let mut buffer = [0; PATH];
        let path = build_path(&mut buffer, path)?;
        Ok(rustix::fs::openat(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Opens, reads once, closes. One read is enough: each of these files is made in one piece.
    fn read<'b>(
        &self,
        path: fmt::Arguments<'_>,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], ProcError> {
        let file = self.open_at(path, OFlags::RDONLY)?;
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut *buffer))?;
        Ok(buffer.get(..read).unwrap_or(&[]))
    }
}

fn build_path<'b>(
    buffer: &'b mut [u8; PATH],
    path: fmt::Arguments<'_>,
) -> Result<&'b CStr, ProcError> {
    let mut out = &mut buffer[..];
    // The last byte stays NUL: a path that does not fit is an error, not a shorter path.
    out.write_fmt(path).map_err(|_| ProcError::Other(Errno::NAMETOOLONG))?;
    CStr::from_bytes_until_nul(buffer).map_err(|_| ProcError::Other(Errno::NAMETOOLONG))
}

/// A number and nothing else.
fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    if !text.first()?.is_ascii_digit() && *text.first()? != b'-' {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// Collects the wanted lines of `status`.
#[derive(Debug, Default)]
struct StatusLines {
    tgid: Option<i32>,
    uid: Option<u32>,
    rss: Option<Kib>,
    swap: Option<Kib>,
    threads: Option<u32>,
}

impl StatusLines {
    fn line(&mut self, line: &[u8]) {
        let (key, value) = scan::split_word(line);
        let mut values = words(value);
        match key {
            b"Tgid:" => self.tgid = values.next().and_then(number),
            b"Uid:" => self.uid = values.nth(1).and_then(number),
            b"VmRSS:" => self.rss = values.next().and_then(number).map(Kib),
            b"VmSwap:" => self.swap = values.next().and_then(number).map(Kib),
            b"Threads:" => self.threads = values.next().and_then(number),
            _ => {}
        }
    }

    fn finish(self) -> Result<Status, ProcError> {
        Ok(Status {
            tgid: self.tgid.ok_or(ProcError::Malformed("Tgid"))?,
            uid: self.uid.ok_or(ProcError::Malformed("Uid"))?,
            rss: self.rss,
            swap: self.swap,
            threads: self.threads.unwrap_or(0),
        })
    }
}

/// The name stands in parentheses and may hold spaces and parentheses of its own, so fields are
/// counted from the last one.
fn parse_stat(text: &[u8]) -> Result<Stat, ProcError> {
    let end = text.iter().rposition(|byte| *byte == b')').ok_or(ProcError::Malformed("name"))?;
    let mut fields = words(text.get(end.saturating_add(1)..).unwrap_or(&[]));
    // Numbers of proc_pid_stat(5); the first one after the name is the third.
    let mut at: usize = 3;
    let mut field = |wanted: usize| {
        let skip = wanted.saturating_sub(at);
        at = wanted.saturating_add(1);
        fields.nth(skip)
    };
    let state = field(3).and_then(|word| word.first().copied());
    Ok(Stat {
        state: state.ok_or(ProcError::Malformed("state"))?,
        ppid: field(4).and_then(number).ok_or(ProcError::Malformed("ppid"))?,
        flags: field(9).and_then(number).ok_or(ProcError::Malformed("flags"))?,
        minflt: field(10).and_then(number).ok_or(ProcError::Malformed("minflt"))?,
        majflt: field(12).and_then(number).ok_or(ProcError::Malformed("majflt"))?,
        threads: field(20).and_then(number).ok_or(ProcError::Malformed("num_threads"))?,
        start_time: field(22).and_then(number).ok_or(ProcError::Malformed("starttime"))?,
    })
}

/// The second field of `statm`.
///
/// # Errors
///
/// It is missing or no number.
pub fn parse_statm(text: &[u8]) -> Result<Pages, ProcError> {
    words(text).nth(1).and_then(number).map(Pages).ok_or(ProcError::Malformed("resident"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    fn proc() -> ProcDir {
        ProcDir::open(Path::new("/proc")).unwrap()
    }

    #[test]
    fn this_process_is_read_as_it_is() {
        let proc = proc();
        let status = proc.status(me()).unwrap();
        assert_eq!(status.tgid, me());
        assert_eq!(status.uid, rustix::process::geteuid().as_raw());
        assert!(status.rss.unwrap() > Kib(100));
        assert!(status.swap.is_some());
        assert!(proc.rss(me()).unwrap() > Pages(10));
        assert_eq!(proc.owner(me()).unwrap(), status.uid);
        let stat = proc.stat(me()).unwrap();
        assert!(stat.threads >= 1 && stat.start_time > 0 && !stat.is_kernel_thread());
        assert!(proc.oom_score_adj(me()).is_ok());
        let name = proc.name(me()).unwrap();
        assert!(name.to_string().contains("lmkd"), "{name}");
    }

    #[test]
    fn processes_and_threads_are_listed() {
        let proc = proc();
        let mut found = false;
        proc.processes(|pid| {
            found |= pid == me();
            true
        })
        .unwrap();
        assert!(found);
        let mut calls = 0;
        proc.threads(me(), |_| {
            calls += 1;
            false
        })
        .unwrap();
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_process_that_is_gone_is_named_as_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        assert_eq!(proc().status(pid), Err(ProcError::Gone));
        assert_eq!(proc().rss(pid), Err(ProcError::Gone));
        assert!(proc().threads(pid, |_| true).is_err());
    }

    #[test]
    fn a_zombie_has_no_memory_lines_and_its_short_name() {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let pidfd = crate::pidfd::PidFd::open(pid).unwrap();
        let mut fds = [rustix::event::PollFd::new(&pidfd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        let status = proc().status(pid).unwrap();
        assert_eq!((status.rss, status.swap), (None, None));
        assert_eq!(proc().rss(pid), Ok(Pages(0)));
        assert_eq!(proc().stat(pid).unwrap().state, b'Z');
        assert_eq!(proc().name(pid).unwrap().to_string(), "(true)");
        child.wait().unwrap();
    }

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = b"77 (a) b (c)) S 1 77 77 0 -1 4194560 11 0 22 0 3 4 0 0 20 0 5 0 12345 1 2\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.minflt, stat.majflt), (b'S', 1, 11, 22));
        assert_eq!((stat.threads, stat.start_time, stat.flags), (5, 12345, 4_194_560));
    }

    fn parse_status(text: &[u8]) -> Result<Status, ProcError> {
        let mut lines = StatusLines::default();
        text.split(|byte| *byte == b'\n').for_each(|line| lines.line(line));
        lines.finish()
    }

    #[test]
    fn a_user_in_many_groups_is_read_to_the_end() {
        let root = std::env::temp_dir().join(format!("lmkd-groups-{}", std::process::id()));
        std::fs::create_dir_all(root.join("7")).unwrap();
        let groups = "1234567 ".repeat(5000);
        let text = format!(
            "Name:\tx\nTgid:\t7\nUid:\t1\t2\t1\t1\nGroups:\t{groups}\nVmRSS:\t 12 kB\nVmSwap:\t 3 kB\nThreads:\t1\n"
        );
        std::fs::write(root.join("7/status"), text).unwrap();
        let status = ProcDir::open(&root).unwrap().status(7);
        std::fs::remove_dir_all(&root).unwrap();
        let (rss, swap) = (Some(Kib(12)), Some(Kib(3)));
        let expected = Status { tgid: 7, uid: 2, rss, swap, threads: 1 };
        assert_eq!(status, Ok(expected));
    }

    #[test]
    fn a_file_that_lacks_a_field_is_refused_by_its_name() {
        assert_eq!(parse_status(b"Name:\tx\n"), Err(ProcError::Malformed("Tgid")));
        assert_eq!(parse_status(b"Tgid:\t1\nUid:\tx\n"), Err(ProcError::Malformed("Uid")));
        assert_eq!(parse_stat(b"1 (x) S 1"), Err(ProcError::Malformed("flags")));
        assert_eq!(parse_stat(b""), Err(ProcError::Malformed("name")));
        assert_eq!(parse_statm(b"12"), Err(ProcError::Malformed("resident")));
        assert_eq!(parse_statm(b"12 x"), Err(ProcError::Malformed("resident")));
    }

    #[test]
    fn a_name_cannot_forge_a_log_line() {
        let name = TaskName::new(b"a\nKill \xff\x1b[1m");
        assert_eq!(name.to_string(), "a?Kill ??[1m");
        assert_eq!(TaskName::new(&[b'x'; 500]).as_bytes().len(), TaskName::LONGEST);
    }
}
