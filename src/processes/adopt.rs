//! Adoption: on plain Linux, processes that nobody registered are candidates too.
//!
//! Their place is what the kernel says: `oom_score_adj`, and of one adj the longest-running first,
//! or, where sizes decide, the heaviest. Spared are this daemon and its ancestors, init, kernel
//! threads, whatever holds no memory, and what it may not signal.

use super::known::Scale;
use super::search::Candidate;
use super::search::Who;
use super::size;
use super::Pid;
use super::Registry;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
use crate::kernel::process::ProcError;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Pages;
use rustix::time::ClockId;
use std::cmp::Reverse;
use std::fmt;

/// How many of the best are kept of one walk over `/proc`. When all of them have been tried, the
/// next walk finds those that come after.
const KEPT: usize = 16;

/// How many dying processes are left out: more than can be on watch and in memory of it.
const DYING: usize = 64;

/// How often the line of ancestors is followed anew when one of them leaves meanwhile.
const TRIES: usize = 4;

/// How far up the line of ancestors is followed.
const ANCESTORS: usize = 64;

/// Why nothing can be adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdoptError {
    /// `/proc` is not there, or belongs to another pid namespace: its numbers mean other processes.
    ForeignProc,
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignProc => {
                write!(f, "/proc is missing or of another pid namespace; mount the own one")
            }
        }
    }
}

impl std::error::Error for AdoptError {}

/// A process that nobody registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stranger {
    pub pid: Pid,
    pub adj: OomScoreAdj,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// The same moment.
    pub started: MonoTime,
    /// Resident and swapped pages; 0 where sizes do not decide.
    pub size: Pages,
}

/// Kill order: the least is the first to die.
type Rank = (Reverse<OomScoreAdj>, Reverse<Pages>, u64, Pid);

impl Stranger {
    fn rank(&self) -> Rank {
        (Reverse(self.adj), Reverse(self.size), self.start_time, self.pid)
    }

    /// As a candidate, if it still stands where it stood.
    pub fn candidate(&self, proc: &ProcDir) -> Option<Candidate> {
        let (pid, adj) = (self.pid, self.adj);
        let same = proc.oom_score_adj(pid.get()).is_ok_and(|now| now == adj);
        let uid = proc.status(pid.get()).ok().filter(|_| same)?.uid;
        Some(Candidate { pid, uid, adj, who: Who::Adopted { start_time: self.start_time } })
    }
}

/// Finds unregistered processes, best candidates first, without allocating.
#[derive(Debug)]
pub struct Adopter {
    own: i32,
    /// None if this daemon may signal everybody.
    only_uid: Option<u32>,
    /// The best of the last walk, the very best last. Never grows.
    kept: Vec<Stranger>,
    /// Whether the last walk had to leave some out.
    more: bool,
    /// The next walk looks behind this one.
    after: Option<Rank>,
    walked: bool,
    min_adj: OomScoreAdj,
    by_size: bool,
    /// The ancestors as they were last found.
    line: Option<Line>,
    /// Victims that have not exited; 0 where there is none.
    dying: [i32; DYING],
}

/// Ids of ancestors, from the parent up; unused places hold 0.
type Line = [i32; ANCESTORS];

impl Adopter {
    /// Ready to walk over `/proc`.
    ///
    /// # Errors
    ///
    /// `/proc` does not show this process under the id it knows itself by.
    pub fn new() -> Result<Self, AdoptError> {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let shown = std::fs::read_link("/proc/self").ok();
        let shown = shown.and_then(|link| link.to_str()?.parse::<i32>().ok());
        if shown != Some(own) {
            return Err(AdoptError::ForeignProc);
        }
        let uid = rustix::process::geteuid();
        Ok(Self {
            own,
            only_uid: (!uid.is_root()).then(|| uid.as_raw()),
            kept: Vec::with_capacity(KEPT),
            more: false,
            after: None,
            walked: false,
            min_adj: OomScoreAdj::MAX,
            by_size: false,
            line: None,
            dying: [0; DYING],
        })
    }

    /// Forgets what the last search found.
    pub(super) fn start(&mut self, min_adj: OomScoreAdj, by_size: bool) {
        self.kept.clear();
        self.more = false;
        self.after = None;
        self.walked = false;
        self.min_adj = min_adj.max(OomScoreAdj::FOREGROUND);
        self.by_size = by_size;
    }

    /// Leaves these out of the walks from now on. Nothing is opened of them: that may hold memory
    /// back which they are about to free.
    pub(super) fn leave_out(&mut self, dying: impl Iterator<Item = i32>) {
        self.dying = [0; DYING];
        self.dying.iter_mut().zip(dying).for_each(|(to, from)| *to = from);
    }

    /// The best one not taken yet.
    pub(super) fn peek(
        &mut self,
        registry: &Registry,
        proc: &ProcDir,
        scale: &Scale,
    ) -> Option<Stranger> {
        if self.kept.is_empty() && (!self.walked || self.more) {
            self.walk(registry, proc, scale);
        }
        self.kept.last().copied()
    }

    /// Takes the one that [`Self::peek`] shows.
    pub(super) fn pop(&mut self) {
        if let Some(taken) = self.kept.pop() {
            self.after = Some(taken.rank());
        }
    }

    fn walk(&mut self, registry: &Registry, proc: &ProcDir, scale: &Scale) {
        self.walked = true;
        self.more = false;
        // Without knowing whom to spare nobody is taken.
        let Some(ancestors) = self.ancestors(proc) else { return };
        let asleep = suspended();
        // A torn walk serves with what it found.
        let _ = proc.processes(|pid| {
            if pid != self.own && !ancestors.contains(&pid) && !self.dying.contains(&pid) {
                if let Some(pid) = Pid::new(pid) {
                    if registry.by_pid(pid).is_none() {
                        if let Some(found) = self.look_at(pid, proc, scale, asleep) {
                            self.keep(found);
                        }
                    }
                }
            }
            true
        });
    }

    /// Reads of a process what its rank needs, cheapest first; None if it is spared or cannot be
    /// among the best.
    fn look_at(
        &mut self,
        pid: Pid,
        proc: &ProcDir,
        scale: &Scale,
        asleep: u64,
    ) -> Option<Stranger> {
        let id = pid.get();
        let adj = proc.oom_score_adj(id).ok().filter(|&adj| adj >= self.min_adj)?;
        let worst = self.kept.first().filter(|_| self.kept.len() >= KEPT).copied();
        if worst.is_some_and(|worst| adj < worst.adj) {
            self.more = true;
            return None;
        }
        if let Some(uid) = self.only_uid {
            proc.owner(id).ok().filter(|&owner| owner == uid)?;
        }
        let mut size = proc.rss(id).ok()?;
        if size == Pages::ZERO {
            if proc.stat(id).ok()?.is_kernel_thread() {
                return None;
            }
            // Its leader may have left its threads behind, or all of it may be swapped out.
            let held = size::with_swap(proc, id, scale.page).map(|(rss, swap)| rss + swap);
            size = held.filter(|&size| size > Pages::ZERO)?;
        }
        if self.by_size || adj <= OomScoreAdj::PERCEPTIBLE {
            let rival = worst.filter(|worst| worst.adj == adj);
            if rival.is_some_and(|rival| size + scale.swap_used < rival.size) {
                self.more = true;
                return None;
            }
            if scale.swap_used > Pages::ZERO {
                let (rss, swap) = size::with_swap(proc, id, scale.page)?;
                size = rss + swap;
            }
        } else {
            size = Pages::ZERO;
        }
        let start_time = proc.stat(id).ok()?.start_time;
        let found =
            Stranger { pid, adj, start_time, started: since_boot(start_time, asleep), size };
        self.after.is_none_or(|after| found.rank() > after).then_some(found)
    }

    /// Puts it among the best if it belongs there.
    fn keep(&mut self, found: Stranger) {
        let place = self.kept.partition_point(|kept| kept.rank() > found.rank());
        if self.kept.len() >= KEPT {
            self.more = true;
            if place == 0 {
                return;
            }
            // The worst makes way.
            self.kept.remove(0);
            self.kept.insert(place.saturating_sub(1), found);
        } else {
            self.kept.insert(place, found);
        }
    }

    /// The ancestors. Read anew for each walk: a parent that exits leaves its children to another.
    /// When they cannot be read just now, for want of memory or descriptors, those found last serve:
    /// whoever takes an ancestor's children over is an ancestor too.
    fn ancestors(&mut self, proc: &ProcDir) -> Option<Line> {
        for _ in 0..TRIES {
            match follow(proc, self.own) {
                Ok(line) => {
                    self.line = Some(line);
                    break;
                }
                // One of them has left in this very moment.
                Err(ProcError::Gone) => {}
                Err(_) => break,
            }
        }
        self.line
    }
}

/// The line of ancestors, up to init, which is left out.
fn follow(proc: &ProcDir, own: i32) -> Result<Line, ProcError> {
    let mut line = [0; ANCESTORS];
    let mut pid = own;
    for ancestor in &mut line {
        pid = proc.stat(pid)?.ppid;
        if pid <= 1 {
            break;
        }
        *ancestor = pid;
    }
    Ok(line)
}

/// Nanoseconds that this machine has been suspended: start times count them, CLOCK_MONOTONIC
/// does not.
fn suspended() -> u64 {
    let boot = rustix::time::clock_gettime(ClockId::Boottime);
    let nanos = |n: i64| u64::try_from(n).unwrap_or(0);
    let boot = nanos(boot.tv_sec).saturating_mul(1_000_000_000).saturating_add(nanos(boot.tv_nsec));
    boot.saturating_sub(MonoTime::now().as_nanos())
}

/// A start time in clock ticks since boot, on CLOCK_MONOTONIC.
fn since_boot(ticks: u64, suspended: u64) -> MonoTime {
    let nanos = 1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second()).unwrap_or(0);
    MonoTime::from_nanos(ticks.saturating_mul(nanos).saturating_sub(suspended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::PageSize;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_user_adopts_no_other_users_processes() {
        const NOBODY: u32 = 65534;
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can start processes of two users");
            return;
        }
        let adj = OomScoreAdj::new(957).unwrap();
        let mut children = [0, NOBODY].map(|uid| {
            let child = Command::new("sleep").arg("60").uid(uid).spawn().unwrap();
            std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "957").unwrap();
            child
        });
        let [roots, nobodys] = [0, 1].map(|n: usize| children[n].id());
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let registry = Registry::with_capacity(0);
        let mut adopter = Adopter { only_uid: Some(NOBODY), ..Adopter::new().unwrap() };
        adopter.start(adj, false);
        let mut found = Vec::new();
        while let Some(stranger) = adopter.peek(&registry, &proc, &Scale::new(PageSize::SMALL)) {
            found.push(stranger.pid.get().unsigned_abs());
            adopter.pop();
        }
        assert!(found.contains(&nobodys) && !found.contains(&roots));
        for child in &mut children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn ancestors_that_cannot_be_read_just_now_are_those_found_last_or_nobody_is_taken() {
        let root = std::env::temp_dir().join(format!("lmkd-ancestors-{}", std::process::id()));
        let parent_of = |pid: i32, parent: i32| {
            let stat = format!("{pid} (x) S {parent} 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5 1 2\n");
            std::fs::create_dir_all(root.join(pid.to_string())).unwrap();
            std::fs::write(root.join(format!("{pid}/stat")), stat).unwrap();
            std::fs::write(root.join(format!("{pid}/oom_score_adj")), "900\n").unwrap();
            std::fs::write(root.join(format!("{pid}/statm")), "9 9 0\n").unwrap();
        };
        for (pid, parent) in [(50, 40), (40, 30), (30, 1), (60, 1)] {
            parent_of(pid, parent);
        }
        let proc = ProcDir::open(&root).unwrap();
        let registry = Registry::with_capacity(0);
        let scale = Scale::new(PageSize::SMALL);
        let found = |adopter: &mut Adopter| {
            adopter.start(OomScoreAdj::FOREGROUND, false);
            let mut found = Vec::new();
            while let Some(stranger) = adopter.peek(&registry, &proc, &scale) {
                found.push(stranger.pid.get());
                adopter.pop();
            }
            found
        };
        let mut adopter = Adopter { own: 50, only_uid: None, ..Adopter::new().unwrap() };
        let mut ignorant = Adopter { own: 50, only_uid: None, ..Adopter::new().unwrap() };
        assert_eq!(found(&mut adopter), [60]);
        // A file that cannot be read, as when memory or descriptors have run out.
        std::fs::remove_file(root.join("40/stat")).unwrap();
        std::fs::create_dir(root.join("40/stat")).unwrap();
        assert_eq!(found(&mut adopter), [60]);
        assert_eq!(found(&mut ignorant), [0; 0]);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn nothing_is_opened_of_those_that_are_dying() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let adj = OomScoreAdj::new(954).unwrap();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(format!("/proc/{}/oom_score_adj", child.id()), "954").unwrap();
        let pid = child.id().cast_signed();
        let mut adopter = Adopter::new().unwrap();
        let mut found = |dying: &[i32]| {
            adopter.leave_out(dying.iter().copied());
            adopter.start(adj, false);
            let (registry, scale) = (Registry::with_capacity(0), Scale::new(PageSize::SMALL));
            let mut found = false;
            while let Some(stranger) = adopter.peek(&registry, &proc, &scale) {
                found |= stranger.pid.get() == pid;
                adopter.pop();
            }
            found
        };
        assert!(found(&[]) && !found(&[7, pid]) && found(&[7]));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn start_times_leave_suspended_time_out() {
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        assert_eq!(since_boot(500, 0), MonoTime::from_nanos(500 * tick));
        assert_eq!(since_boot(500, 100 * tick), MonoTime::from_nanos(400 * tick));
        assert_eq!(since_boot(u64::MAX, 1).as_nanos(), u64::MAX - 1);
        assert_eq!(since_boot(1, u64::MAX), MonoTime::ZERO);
    }
}
