//! Raising a victim before its SIGKILL, so that it gets a CPU to die on.
//!
//! A process frees its own memory when it exits, on its own time: one that is starved of CPU
//! (idle class, low nice value) may hold its memory for seconds after the signal.

use crate::kernel::process::ProcDir;
use crate::sys::sched;

/// Threads beyond this many are left as they are: the first ones to run take the signal, and
/// raising thousands would delay it.
pub const MOST_THREADS: usize = 256;

/// Puts every thread of `pid` in the normal class at the best nice value permitted. `threads` is
/// how many it has, as its status says. Returns how many were raised; one that is gone or may not
/// be raised does not count.
///
/// Must be called before the signal: listing the threads of a dying process would hold its
/// memory back.
pub fn raise(proc: &ProcDir, pid: i32, threads: u32) -> usize {
    let mut raised = usize::from(raise_thread(pid));
    if threads == 1 {
        // Opening the list makes the kernel allocate, which may take long when memory has run out.
        return raised;
    }
    let mut seen: usize = 0;
    // A process that vanishes meanwhile is the caller's to notice, by its pidfd.
    let _ = proc.threads(pid, |tid| {
        seen = seen.saturating_add(1);
        if tid != pid && raise_thread(tid) {
            raised = raised.saturating_add(1);
        }
        seen < MOST_THREADS
    });
    raised
}

/// Raises one thread. Whether anything could be done for it.
pub fn raise_thread(tid: i32) -> bool {
    let normal = sched::set_normal(tid).is_ok();
    let nice = sched::set_nice(tid, -20).is_ok() || sched::set_nice(tid, 0).is_ok();
    normal || nice
}
