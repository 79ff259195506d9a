//! Registering a process: its oom_score_adj written, its pidfd held and watched.
//!
//! The order makes the write hit the process that was checked, or nobody. The file is opened first:
//! it belongs for good to the process that had the id then, and writing to it fails once that
//! process has been reaped. So a write that succeeds, after whatever was found out about the id in
//! between, went to that very process. A refused registration has changed nothing.

use super::recording;
use super::report::Notices;
use super::Daemon;
use super::Token;
use crate::clock::MonoTime;
use crate::control::auth::Rights;
use crate::kernel::memcg::protected_bytes;
use crate::kernel::memcg::MemcgError;
use crate::kernel::memcg::MemoryCgroups;
use crate::kernel::process::ProcDir;
use crate::kernel::process::ProcError;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use crate::processes::ClientId;
use crate::processes::Pid;
use crate::processes::Record;
use crate::processes::RecordId;
use crate::recorder::Process;
use crate::recorder::Removal;
use rustix::io::Errno;
use std::fmt;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Android's user `system`.
const SYSTEM_UID: u32 = 1000;

/// What a client asks to be registered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Registration {
    pub pid: Pid,
    pub uid: u32,
    pub adj: OomScoreAdj,
    /// Whether this is an app, whose cgroup is protected with per_app_memcg.
    pub is_app: bool,
    /// Who asks.
    pub client: ClientId,
    /// Whose processes it may concern itself with.
    pub rights: Rights,
}

/// Why a process was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Myself,
    Ancestor,
    Shielded,
    Gone,
    Thread,
    KernelThread,
    Owner { is: u32, said: u32 },
    NotYours,
    Claimed,
    Adj(ProcError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Myself => write!(f, "this is the daemon itself"),
            Self::Ancestor => write!(f, "it is an ancestor of the daemon"),
            Self::Shielded => write!(f, "only root may put a process below oom_score_adj 0"),
            Self::Gone => write!(f, "no such process"),
            Self::Thread => write!(f, "this is a thread's id, not a process's"),
            Self::KernelThread => write!(f, "this is a thread of the kernel"),
            Self::Owner { is, said } => {
                write!(f, "it belongs to uid {is}, not to uid {said} as the client says")
            }
            Self::NotYours => write!(f, "it belongs to another user than the client"),
            Self::Claimed => write!(f, "another client has registered it"),
            Self::Adj(error) => write!(f, "its oom_score_adj cannot be written: {error}"),
        }
    }
}

/// The processes above this one, up to init, which is left out: it can never be registered.
///
/// Those whose parent may not be seen are the last.
///
/// # Errors
///
/// The daemon lacks something, such as a descriptor.
fn ancestors(proc: &ProcDir) -> Result<Vec<i32>, ProcError> {
    const DEEPEST: usize = 64;
    let mut above = Vec::new();
    let mut pid = rustix::process::getpid().as_raw_nonzero().get();
    while above.len() < DEEPEST {
        match proc.stat(pid) {
            Ok(stat) if stat.ppid > 1 => above.push(stat.ppid),
            Ok(_) | Err(ProcError::Gone | ProcError::Denied) => break,
            Err(error) => return Err(error),
        }
        pid = *above.last().unwrap_or(&pid);
    }
    Ok(above)
}

/// Whether a record's id is its user's now, or root's: that of a process which has not taken its
/// user yet, or which hides from it.
pub(super) fn may_be_of(proc: &ProcDir, record: &Record) -> bool {
    let owner = proc.owner(record.pid().get());
    owner.is_ok_and(|owner| owner == record.uid || owner == 0)
}

/// Whether the process with a record's id is the one that was registered, as far as the kernel
/// tells and a descriptor can be had.
fn may_have_inode(record: &Record) -> bool {
    let Some(inode) = record.inode else { return true };
    let now = PidFd::open(record.pid().get()).ok().and_then(|pidfd| pidfd.inode());
    now.is_none_or(|now| now == inode)
}

impl Daemon {
    /// Registers a process or moves a registered one to another adj.
    pub(super) fn register(&mut self, wanted: &Registration) -> Result<(), Refusal> {
        let pid = wanted.pid.get();
        if pid == self.own_pid {
            return Err(Refusal::Myself);
        }
        if self.is_ancestor(pid) {
            return Err(Refusal::Ancestor);
        }
        if wanted.rights != Rights::All && wanted.adj < OomScoreAdj::FOREGROUND {
            return Err(Refusal::Shielded);
        }
        let now = MonoTime::now();
        let stored = self.stored_adj(wanted);
        if let Some(id) = self.registry.by_pid(wanted.pid) {
            match self.move_record(id, wanted, stored, now) {
                // Its id has passed to another process, or to nobody.
                Err(Refusal::Gone) => {}
                done => return done,
            }
        }
        let record = self.new_record(wanted, stored, now)?;
        let memcg = self.protect(wanted, &record);
        self.note_unprotected(wanted, now, memcg);
        self.forget(wanted.pid, Removal::Exited);
        let process = recording::process(&record);
        let id = self.registry.insert(record);
        let by_size = self.tunables.kill_heaviest_task;
        self.searcher.hold_size(&mut self.registry, &self.proc, id, by_size);
        if let Some(pidfd) = self.registry.get(id).and_then(|record| record.pidfd.as_ref()) {
            if let Err(error) = self.reactor.add(pidfd, Token::Process(id)) {
                // It stays registered: its death is noticed when it is chosen.
                log::warn!("the exit of process {} will not be noticed: {error}", wanted.pid);
            }
        }
        self.record_added(now, process);
        Ok(())
    }

    /// Whether a process is above this one, as far as that can be found out just now.
    fn is_ancestor(&self, pid: i32) -> bool {
        let known = match self.ancestors.get() {
            Some(known) => known,
            None => match ancestors(&self.proc) {
                Ok(found) => self.ancestors.get_or_init(|| found),
                // The next registration asks again.
                Err(_) => return false,
            },
        };
        // Those known may have died since, and their ids been used again.
        known.contains(&pid) && ancestors(&self.proc).map_or(true, |now| now.contains(&pid))
    }

    /// Gives a registered process another adj. Refused as gone if it no longer holds its id. Its own
    /// file may stay out of reach, for want of a descriptor: here it counts at the new adj all the
    /// same, or it would be killed for the old one.
    fn move_record(
        &mut self,
        id: RecordId,
        wanted: &Registration,
        stored: OomScoreAdj,
        now: MonoTime,
    ) -> Result<(), Refusal> {
        let file = match open_adj(&self.proc, wanted.pid) {
            Err(Refusal::Adj(error)) => Err(error),
            file => Ok(file?),
        };
        let record = self.registry.get(id).ok_or(Refusal::Gone)?;
        let untold = || file.is_err() && self.cannot_tell(record);
        if !self.is_same(record) && !untold() {
            return Err(Refusal::Gone);
        }
        if record.claim.is_some_and(|claim| claim != wanted.client) {
            return Err(Refusal::Claimed);
        }
        let renamed = record.uid != wanted.uid;
        if renamed {
            self.check_owner(wanted)?;
        } else if !wanted.rights.covers(record.uid) {
            return Err(Refusal::NotYours);
        }
        let moved = renamed || record.adj() != stored;
        if moved {
            self.watchdog.take_back(id);
        }
        match &file {
            Ok(file) => write_adj(file, &mut self.notices, wanted)?,
            Err(error) => self.notices.adj_kept(now, wanted.pid.get(), error),
        }
        let memcg = self.protect(wanted, record);
        self.note_unprotected(wanted, now, memcg);
        self.registry.set_adj(id, stored, now);
        if moved {
            let (pid, uid) = (wanted.pid.get(), wanted.uid);
            self.record_moved(now, Process { pid, uid, adj: stored });
        }
        let by_size = self.tunables.kill_heaviest_task;
        self.searcher.hold_size(&mut self.registry, &self.proc, id, by_size);
        if let Some(record) = self.registry.get_mut(id) {
            record.claim = Some(wanted.client);
            record.uid = wanted.uid;
        }
        Ok(())
    }

    /// Removes a record whose claim allows it. Unknown processes are nobody's concern.
    pub(super) fn unregister(
        &mut self,
        pid: Pid,
        client: ClientId,
        rights: Rights,
    ) -> Result<(), Refusal> {
        let Some(id) = self.registry.by_pid(pid) else { return Ok(()) };
        let record = self.registry.get(id).ok_or(Refusal::Gone)?;
        if record.claim.is_some_and(|claim| claim != client) {
            return Err(Refusal::Claimed);
        }
        if !rights.covers(record.uid) {
            return Err(Refusal::NotYours);
        }
        self.forget(pid, Removal::Asked);
        Ok(())
    }

    /// Whether a record's process still holds its id: by its pidfd, else by start time and user.
    fn is_same(&self, record: &Record) -> bool {
        match &record.pidfd {
            Some(pidfd) => pidfd.holds_its_pid(),
            None => {
                let stat = self.proc.stat(record.pid().get());
                let started = stat.is_ok_and(|stat| stat.start_time == record.start_time);
                started && may_be_of(&self.proc, record) && may_have_inode(record)
            }
        }
    }

    /// Whether a record without a pidfd cannot be told from another process just now: for want of a
    /// descriptor too. A kill asks again.
    fn cannot_tell(&self, record: &Record) -> bool {
        let stat = self.proc.stat(record.pid().get());
        record.pidfd.is_none() && matches!(stat, Err(ProcError::Other(_)))
    }

    /// Drops the record of a pid. Its pidfd is taken out of the epoll set by hand: the watchdog's
    /// duplicate of it would keep it there.
    pub(super) fn forget(&mut self, pid: Pid, why: Removal) {
        let Some(id) = self.registry.by_pid(pid) else { return };
        self.watchdog.take_back(id);
        if let Some(record) = self.registry.remove(id) {
            if let Some(pidfd) = &record.pidfd {
                self.reactor.remove(pidfd);
            }
            self.record_removed(pid.get(), why);
        }
    }

    fn new_record(
        &mut self,
        wanted: &Registration,
        stored: OomScoreAdj,
        now: MonoTime,
    ) -> Result<Record, Refusal> {
        let pid = wanted.pid.get();
        let file = open_adj(&self.proc, wanted.pid)?;
        let pidfd = match PidFd::open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::SRCH) => return Err(Refusal::Gone),
            // A thread's id: EINVAL, on newer kernels ENOENT.
            Err(Errno::INVAL | Errno::NOENT) => return Err(Refusal::Thread),
            // Out of descriptors: known by its start time until it is to be killed.
            Err(_) => None,
        };
        // So is it where descriptors run short: what a kill opens must find some left.
        let held = pidfd.as_ref().is_some_and(|pidfd| self.searcher.may_keep(pidfd));
        let owner = self.check_owner(wanted)?;
        let mut start_time = 0;
        if !held || owner == 0 {
            let stat = self.proc.stat(pid).map_err(|_| Refusal::Gone)?;
            if stat.is_kernel_thread() {
                return Err(Refusal::KernelThread);
            }
            start_time = stat.start_time;
        }
        write_adj(&file, &mut self.notices, wanted)?;
        let mut record = Record::new(wanted.pid, wanted.uid, stored, now);
        if !held {
            record.inode = pidfd.as_ref().and_then(PidFd::inode);
        }
        record.pidfd = pidfd.filter(|_| held);
        record.claim = Some(wanted.client);
        record.start_time = start_time;
        Ok(record)
    }

    /// The owner of a process, whom it may be registered for.
    fn check_owner(&self, wanted: &Registration) -> Result<u32, Refusal> {
        let owner = self.proc.owner(wanted.pid.get()).map_err(|_| Refusal::Gone)?;
        if !wanted.rights.covers(owner) {
            return Err(Refusal::NotYours);
        }
        // A process that zygote or init has just made belongs to root until it takes its own user.
        if owner != wanted.uid && owner != 0 {
            return Err(Refusal::Owner { is: owner, said: wanted.uid });
        }
        Ok(owner)
    }

    /// With per_app_memcg: leaves an app's cgroup as much memory as the adj asked for is worth.
    fn protect(&self, wanted: &Registration, record: &Record) -> Result<(), MemcgError> {
        if !(self.tunables.per_app_memcg && wanted.is_app) {
            return Ok(());
        }
        let memcg = self.memcg.get(MemoryCgroups::find)?;
        let file = memcg.open(&self.proc, wanted.pid.get())?;
        if !self.is_same(record) {
            return Err(MemcgError::Process(ProcError::Gone));
        }
        memcg.protect(&file, protected_bytes(wanted.adj))
    }

    fn note_unprotected(
        &mut self,
        wanted: &Registration,
        now: MonoTime,
        outcome: Result<(), MemcgError>,
    ) {
        // Android's system_server has no group of its own.
        let system_server = wanted.adj == OomScoreAdj::SYSTEM && wanted.uid == SYSTEM_UID;
        match outcome {
            Err(error) if !system_server => {
                self.notices.unprotected(now, wanted.pid.get(), &error);
            }
            _ => {}
        }
    }

    /// The adj under which the process is kept: with per_app_memcg a launcher (600 to 699) counts
    /// as perceptible, as in AOSP's daemon.
    fn stored_adj(&self, wanted: &Registration) -> OomScoreAdj {
        let launcher = (600..=699).contains(&wanted.adj.get());
        if self.tunables.per_app_memcg && wanted.is_app && launcher {
            OomScoreAdj::PERCEPTIBLE
        } else {
            wanted.adj
        }
    }
}

fn open_adj(proc: &ProcDir, pid: Pid) -> Result<OwnedFd, Refusal> {
    proc.open_oom_score_adj(pid.get()).map_err(|error| match error {
        ProcError::Gone => Refusal::Gone,
        other => Refusal::Adj(other),
    })
}

/// Writes oom_score_adj, unless the process that the file was opened of has been reaped.
fn write_adj(file: &OwnedFd, notices: &mut Notices, wanted: &Registration) -> Result<(), Refusal> {
    let mut text = [0_u8; 8];
    let mut out = &mut text[..];
    // Five characters at most.
    let _ = write!(out, "{}", wanted.adj);
    let left = out.len();
    let text = text.get(..text.len().saturating_sub(left)).unwrap_or(&[]);
    match rustix::io::write(file, text) {
        Ok(_) => Ok(()),
        Err(Errno::SRCH) => Err(Refusal::Gone),
        // The kernel's own killer would then go by another rank than ours; still worth knowing.
        Err(error) => {
            notices.adj_kept(MonoTime::now(), wanted.pid.get(), &error);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn ancestors_that_cannot_be_read_just_now_are_not_taken_for_none() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        let dir = std::env::temp_dir().join(format!("lmkd-ancestors-{own}"));
        std::fs::create_dir_all(dir.join(own.to_string())).unwrap();
        std::fs::copy("/proc/self/stat", dir.join(format!("{own}/stat"))).unwrap();
        let above = dir.join(format!("{parent}/stat"));
        // No file, but not for want of the process.
        std::fs::create_dir_all(&above).unwrap();
        let proc = ProcDir::open(&dir).unwrap();
        assert!(ancestors(&proc).is_err());
        // Of another user's processes some mounts of /proc say that they are not there.
        std::fs::remove_dir(&above).unwrap();
        assert_eq!(ancestors(&proc), Ok(vec![parent]));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_write_never_reaches_a_process_that_came_after_the_one_whose_file_was_opened() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let wanted = Registration {
            pid: Pid::new(child.id().cast_signed()).unwrap(),
            uid: 0,
            adj: OomScoreAdj::MAX,
            is_app: true,
            client: ClientId { slot: 0, generation: 0 },
            rights: Rights::All,
        };
        let mut notices = Notices::default();
        let file = open_adj(&proc, wanted.pid).unwrap();
        assert_eq!(write_adj(&file, &mut notices, &wanted), Ok(()));
        child.kill().unwrap();
        child.wait().unwrap();
        // Whoever has the id by now.
        assert_eq!(write_adj(&file, &mut notices, &wanted), Err(Refusal::Gone));
    }
}
