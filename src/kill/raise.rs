//! Raising a victim around its SIGKILL, so that it gets a CPU to die on.
//!
//! A process frees its own memory when it exits, on its own time, and its memory goes with the last
//! of its threads: one that is starved of CPU (idle class, low nice value) may hold it for seconds
//! after the signal. The leader is raised before the signal. The other threads follow it, as there
//! may be hundreds; their list is opened before it, as nothing is opened of a dying process.
//!
//! The kernel takes ids here, and an id may have passed to somebody else in between: whoever turns
//! out not to be the victim's does not stay raised. Nobody is asked for the class that it had: for
//! that SELinux wants `process:getsched`, which Android's policy does not give to lmkd, nor
//! `process:signull`, by which a thread's process could be asked. A victim's is in its `stat`;
//! another gets the normal class at nice 0, with which processes begin.

use crate::kernel::process::ProcDir;
use crate::kernel::process::Stat;
use crate::sys::sched;
use std::os::fd::OwnedFd;

/// Threads beyond this many are left as they are.
pub const MOST_THREADS: usize = 256;

/// Where the list of a victim's threads is.
#[derive(Clone, Copy, Debug)]
pub enum Threads<'a> {
    /// It was opened ahead, with [`ProcDir::open_threads`].
    Held(&'a OwnedFd),
    /// It is opened if there may be others than the leader: the kernel allocates for that, which
    /// may take long when memory has run out.
    In(&'a ProcDir),
}

/// The threads that are still to be raised.
#[must_use]
#[derive(Debug)]
pub struct Rest<'a> {
    leader: i32,
    list: List<'a>,
}

#[derive(Debug)]
enum List<'a> {
    None,
    Held(&'a OwnedFd),
    Opened(OwnedFd),
}

/// Puts the leader of `pid` in the normal class at the best nice value permitted. `threads` is how
/// many threads there are as far as is known; 0 if it is not.
pub fn raise_leader(list: Threads<'_>, pid: i32, threads: u32) -> Rest<'_> {
    let list = match list {
        _ if threads == 1 => List::None,
        Threads::Held(list) => List::Held(list),
        Threads::In(proc) => proc.open_threads(pid).map_or(List::None, List::Opened),
    };
    raise_thread(pid);
    Rest { leader: pid, list }
}

impl Rest<'_> {
    /// Raises the other threads. Returns how many; one that is gone or may not be raised does not
    /// count.
    pub fn raise(self) -> usize {
        let list = match &self.list {
            List::None => return 0,
            List::Held(list) => *list,
            List::Opened(list) => list,
        };
        let (mut seen, mut raised) = (0_usize, 0_usize);
        // A process that is gone has nothing left to raise.
        let _ = ProcDir::held_threads(list, |tid| {
            seen = seen.saturating_add(1);
            if tid != self.leader {
                raised = raised.saturating_add(usize::from(raise_thread_of(list, tid)));
            }
            seen < MOST_THREADS
        });
        raised
    }

    /// Takes it back. `before` is the leader as it was, if it was not killed; None if its id was
    /// another's by then.
    pub fn undo(self, before: Option<&Stat>) {
        put_back(self.leader, before);
    }
}

/// Raises a thread of this list unless it turns out to be none.
fn raise_thread_of(list: &OwnedFd, tid: i32) -> bool {
    let raised = raise_thread(tid);
    if raised && !ProcDir::held_thread(list, tid) {
        put_back(tid, None);
        return false;
    }
    raised
}

fn put_back(tid: i32, before: Option<&Stat>) {
    // Nobody has the id, or it is not ours to change.
    let _ = match before {
        Some(stat) => sched::set_class(tid, stat.policy, stat.rt_priority, stat.nice),
        None => sched::set_normal_at(tid, 0),
    };
}

/// Raises one thread. Whether anything could be done for it.
pub fn raise_thread(tid: i32) -> bool {
    if sched::set_normal_at(tid, -20).is_ok() {
        return true;
    }
    let normal = sched::set_normal(tid).is_ok();
    let nice = sched::set_nice(tid, 0).is_ok();
    normal || nice
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Held;
    use std::path::Path;
    use std::process::Command;

    struct Idler(Held);

    impl Idler {
        /// A process that asked for little: others need no right to raise it from there, but to
        /// put it back they need one that only root has.
        fn start(program: &str, args: &[&str]) -> Self {
            let args = [&["-o", "0", "nice", "-n", "7", program], args].concat();
            Self(Held::start(Command::new("chrt").args(args)))
        }

        fn pid(&self) -> i32 {
            self.0.pid()
        }

        fn is_called(&self, proc: &ProcDir, name: &[u8]) -> bool {
            proc.status(self.pid()).is_ok_and(|status| status.comm.starts_with(name))
        }
    }

    fn sleeper(proc: &ProcDir) -> Option<Idler> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can raise and put back");
            return None;
        }
        let idler = Idler::start("sleep", &["600"]);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !idler.is_called(proc, b"sleep") {
            assert!(std::time::Instant::now() < end, "chrt does not run sleep");
            std::thread::yield_now();
        }
        Some(idler)
    }

    #[test]
    fn a_leader_that_was_not_killed_is_put_back() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let Some(sleeper) = sleeper(&proc) else { return };
        let nice = || proc.stat(sleeper.pid()).unwrap().nice;
        let before = proc.stat(sleeper.pid()).unwrap();
        assert_eq!((before.policy, before.nice), (0, 7));
        let rest = raise_leader(Threads::In(&proc), sleeper.pid(), 1);
        assert_eq!(nice(), -20);
        rest.undo(Some(&before));
        assert_eq!(nice(), 7);
    }

    #[test]
    fn whoever_has_the_leaders_id_by_then_begins_anew() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let Some(sleeper) = sleeper(&proc) else { return };
        raise_leader(Threads::In(&proc), sleeper.pid(), 1).undo(None);
        assert_eq!(proc.stat(sleeper.pid()).unwrap().nice, 0);
    }

    #[test]
    fn a_thread_that_is_not_on_the_victims_list_does_not_stay_raised() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let Some(sleeper) = sleeper(&proc) else { return };
        let Some(other) = self::sleeper(&proc) else { return };
        let list = proc.open_threads(sleeper.pid()).unwrap();
        assert!(!raise_thread_of(&list, other.pid()));
        assert_eq!(proc.stat(other.pid()).unwrap().nice, 0);
        assert!(raise_thread_of(&list, sleeper.pid()));
        assert_eq!(proc.stat(sleeper.pid()).unwrap().nice, -20);
    }
}
