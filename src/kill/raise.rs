//! Raising a victim around its SIGKILL, so that it gets a CPU to die on.
//!
//! A process frees its own memory when it exits, on its own time, and its memory goes with the last
//! of its threads: one that is starved of CPU (idle class, low nice value) may hold it for seconds
//! after the signal. The leader is raised before the signal. The other threads follow it, as there
//! may be hundreds; their list is opened before it, as nothing is opened of a dying process.

use crate::kernel::process::ProcDir;
use crate::sys::sched;
use std::os::fd::OwnedFd;

/// Threads beyond this many are left as they are.
pub const MOST_THREADS: usize = 256;

/// The threads that are still to be raised.
#[must_use]
#[derive(Debug)]
pub struct Rest {
    leader: i32,
    list: Option<OwnedFd>,
}

/// Puts the leader of `pid` in the normal class at the best nice value permitted. `threads` is how
/// many threads there are as far as is known; 0 if it is not.
pub fn raise_leader(proc: &ProcDir, pid: i32, threads: u32) -> Rest {
    // Opening the list makes the kernel allocate, which may take long when memory has run out.
    let list = if threads == 1 { None } else { proc.open_threads(pid).ok() };
    raise_thread(pid);
    Rest { leader: pid, list }
}

impl Rest {
    /// Raises the other threads. Returns how many; one that is gone or may not be raised does not
    /// count.
    pub fn raise(self) -> usize {
        let Some(list) = self.list else { return 0 };
        let (mut seen, mut raised) = (0_usize, 0_usize);
        // A process that is gone has nothing left to raise.
        let _ = ProcDir::held_threads(&list, |tid| {
            seen = seen.saturating_add(1);
            if tid != self.leader && raise_thread(tid) {
                raised = raised.saturating_add(1);
            }
            seen < MOST_THREADS
        });
        raised
    }
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
