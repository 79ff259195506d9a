//! Per-process files of `/proc`, read without the heap.
//!
//! Paths are built on the stack and opened below a held descriptor of `/proc`. Nothing may be opened
//! of a process that has been signalled: an open file of a dying process can hold its memory back.

mod error;
mod name;
mod parse;

use super::reader;
use crate::oom_score_adj::OomScoreAdj;
use crate::sys::dir;
use crate::units::Kib;
use crate::units::Pages;
pub use error::ProcError;
pub use name::TaskName;
use parse::number;
use parse::parse_stat;
use parse::parse_statm;
pub use parse::Comm;
pub use parse::Stat;
pub use parse::Status;
use parse::StatusLines;
use rustix::fs::Access;
use rustix::fs::AtFlags;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CStr;
use std::fmt;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;

/// A held descriptor of `/proc` and what is read below it.
#[derive(Debug)]
pub struct ProcDir {
    root: OwnedFd,
}

/// Longest path built here: `2147483647/task/2147483647/oom_score_adj` and its NUL.
const PATH: usize = 64;

/// Enough for the entries of many processes at once.
const FILE: usize = 4096;

/// Enough for `stat`: fifty numbers and a short name.
const STAT: usize = 1280;

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
        Self::held_status(&self.open_at(path, OFlags::RDONLY)?)
    }

    /// Opens `status`, to be read again and again; see [`Self::open_statm`].
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn open_status(&self, pid: i32) -> Result<OwnedFd, ProcError> {
        self.open_at(format_args!("{pid}/status"), OFlags::RDONLY)
    }

    /// Reads a descriptor of [`Self::open_status`].
    ///
    /// # Errors
    ///
    /// As [`Self::status`].
    pub fn held_status(status: &OwnedFd) -> Result<Status, ProcError> {
        let mut lines = StatusLines::default();
        // In pieces: a user in hundreds of groups has a longer file than anyone would reserve.
        reader::read_lines(status.as_fd(), &mut [0; STATUS], |line| {
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
        Self::held_stat(&self.open_stat(pid)?)
    }

    /// Opens `stat`, to be read again and again; see [`Self::open_statm`].
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn open_stat(&self, pid: i32) -> Result<OwnedFd, ProcError> {
        self.open_at(format_args!("{pid}/stat"), OFlags::RDONLY)
    }

    /// Reads a descriptor of [`Self::open_stat`].
    ///
    /// # Errors
    ///
    /// As [`Self::stat`].
    pub fn held_stat(stat: &OwnedFd) -> Result<Stat, ProcError> {
        let mut buffer = [0; STAT];
        parse_stat(read_held(stat, &mut buffer)?)
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
        parse_statm(read_held(statm, &mut buffer)?)
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
        let all = self.open_at(format_args!("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        list(all.as_fd(), on)
    }

    /// Calls `on` with the id of each thread of a process until it returns false.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn threads(&self, pid: i32, on: impl FnMut(i32) -> bool) -> Result<(), ProcError> {
        Self::held_threads(&self.open_threads(pid)?, on)
    }

    /// Opens the list of a process's threads, to be read by [`Self::held_threads`].
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn open_threads(&self, pid: i32) -> Result<OwnedFd, ProcError> {
        self.open_at(format_args!("{pid}/task"), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Calls `on` with the id of each thread until it returns false, from the first one on however
    /// often this is called.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn held_threads(threads: &OwnedFd, on: impl FnMut(i32) -> bool) -> Result<(), ProcError> {
        rustix::fs::seek(threads, rustix::fs::SeekFrom::Start(0))?;
        list(threads.as_fd(), on)
    }

    /// Whether a list that [`Self::open_threads`] has opened has this thread. Asks for its
    /// existence alone, for which no right to the thread is needed. One that was reaped is not on it.
    #[must_use]
    pub fn held_thread(threads: &OwnedFd, tid: i32) -> bool {
        let mut buffer = [0; PATH];
        let Ok(name) = build_path(&mut buffer, format_args!("{tid}")) else { return false };
        rustix::fs::accessat(threads, name, Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// Resident and swapped memory of a process whose leader may have left its threads behind: then
    /// it is seen through the first that has not left.
    ///
    /// # Errors
    ///
    /// [`ProcError::Gone`] if no memory is left; anything else says that it could not be found out.
    pub fn memory(&self, pid: i32, status: &Status) -> Result<(Kib, Kib), ProcError> {
        let of = |status: &Status| Some((status.rss?, status.swap.unwrap_or_default()));
        if let Some(found) = of(status) {
            return Ok(found);
        }
        let mut found = Err(ProcError::Gone);
        self.threads(pid, |tid| {
            match self.thread_status(pid, tid) {
                Ok(status) => found = of(&status).ok_or(ProcError::Gone),
                // It has left since it was listed.
                Err(ProcError::Gone) => {}
                Err(error) => found = Err(error),
            }
            found == Err(ProcError::Gone)
        })?;
        found
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
        read_held(&file, buffer)
    }
}

/// Reads from the start, once.
fn read_held<'b>(file: &OwnedFd, buffer: &'b mut [u8]) -> Result<&'b [u8], ProcError> {
    let read = rustix::io::retry_on_intr(|| rustix::io::pread(file, &mut *buffer, 0))?;
    Ok(buffer.get(..read).unwrap_or(&[]))
}

/// The numbers among the entries of a directory.
fn list(dir: BorrowedFd<'_>, mut on: impl FnMut(i32) -> bool) -> Result<(), ProcError> {
    let mut buffer = [0; FILE];
    loop {
        let filled = dir::getdents64(dir, &mut buffer)?;
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

fn build_path<'b>(
    buffer: &'b mut [u8; PATH],
    path: fmt::Arguments<'_>,
) -> Result<&'b CStr, ProcError> {
    let mut out = &mut buffer[..];
    // The last byte stays NUL: a path that does not fit is an error, not a shorter path.
    out.write_fmt(path).map_err(|_| ProcError::Other(Errno::NAMETOOLONG))?;
    CStr::from_bytes_until_nul(buffer).map_err(|_| ProcError::Other(Errno::NAMETOOLONG))
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
        assert!(b"RS".contains(&status.state));
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
    fn a_held_list_of_threads_is_read_from_its_start_each_time() {
        let list = proc().open_threads(me()).unwrap();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let count = || {
            let mut found = false;
            ProcDir::held_threads(&list, |tid| {
                found |= tid == me();
                true
            })
            .unwrap();
            found
        };
        let thread = std::thread::spawn(move || stopped.recv());
        assert!(count() && count());
        drop(stop);
        let _ = thread.join();
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
        assert_eq!(proc().memory(pid, &status), Err(ProcError::Gone));
        child.wait().unwrap();
    }

    #[test]
    fn memory_that_cannot_be_read_just_now_is_not_taken_for_none() {
        let root = std::env::temp_dir().join(format!("lmkd-memory-{}", std::process::id()));
        std::fs::create_dir_all(root.join("7/task/7")).unwrap();
        std::fs::create_dir_all(root.join("7/task/8")).unwrap();
        let headless = "Name:\tx\nTgid:\t7\nUid:\t0\t0\n";
        std::fs::write(root.join("7/task/7/status"), headless).unwrap();
        // What cannot be read, as when descriptors have run out.
        std::fs::create_dir_all(root.join("7/task/8/status")).unwrap();
        let answer = ProcDir::open(&root).unwrap().memory(7, &Status::default());
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(answer, Err(ProcError::Other(Errno::ISDIR)));
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
        let comm = *b"x\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let expected = Status { comm, state: 0, tgid: 7, uid: 2, rss, swap, threads: 1 };
        assert_eq!(status, Ok(expected));
    }
}
