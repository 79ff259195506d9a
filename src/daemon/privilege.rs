//! What the daemon wants for itself: memory that stays, a CPU when it matters, descriptors.
//!
//! Each refusal is one line; the daemon runs on without.

use crate::sys::program::lock_program;
use crate::sys::sched;
use rustix::process::Resource;
use rustix::process::Rlimit;

/// Raises the descriptor limit: a registered process holds one descriptor.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: maximum, maximum };
    if current != maximum {
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, wanted) {
            log::warn!("the limit of open files stays at {current:?} ({error})");
        }
    }
}

/// Locks memory, takes the real-time class, and puts this process out of every killer's reach.
/// Called when all threads that should stay ordinary have been started.
pub fn harden() {
    if let Err(error) = sched::lock_memory().and_then(|()| lock_program()) {
        log::warn!(
            "memory is not locked ({error}): the daemon itself may have to wait for pages under \
             pressure; grant CAP_IPC_LOCK or raise RLIMIT_MEMLOCK"
        );
    }
    if let Err(error) = sched::set_fifo(0, 1) {
        log::warn!(
            "no real-time class ({error}): kills may be late on a busy machine; grant CAP_SYS_NICE \
             or raise RLIMIT_RTPRIO"
        );
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        log::warn!(
            "own oom_score_adj stays as it is ({error}): the kernel may choose this daemon; grant \
             CAP_SYS_RESOURCE"
        );
    }
}
