//! Scheduling classes and memory locking: what the daemon wants for itself and its victims.

use super::check;
use rustix::io::Errno;

/// SCHED_OTHER by the kernel's own name: bionic's headers know it by this one only.
const SCHED_NORMAL: i32 = 0;

/// `sched_setscheduler(tid, SCHED_FIFO, priority)`; 0 means the calling thread.
///
/// # Errors
///
/// EPERM without CAP_SYS_NICE and a fitting RLIMIT_RTPRIO.
pub fn set_fifo(tid: i32, priority: i32) -> Result<(), Errno> {
    set_scheduler(tid, libc::SCHED_FIFO, priority)
}

/// `sched_setscheduler(tid, SCHED_OTHER, 0)`: the normal class; 0 means the calling thread.
///
/// # Errors
///
/// EPERM if the thread is another user's, ESRCH if it is gone.
pub fn set_normal(tid: i32) -> Result<(), Errno> {
    set_scheduler(tid, SCHED_NORMAL, 0)
}

/// A thread's class, nice value and priority: the first version of `struct sched_attr` of
/// `include/uapi/linux/sched/types.h`.
#[repr(C)]
#[derive(Default)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

const ATTR_SIZE: u32 = 48;
const _: () = assert!(size_of::<SchedAttr>() == 48);

/// `sched_setattr(tid, SCHED_OTHER, nice)`: class and nice value at once.
///
/// # Errors
///
/// EPERM without CAP_SYS_NICE if that is better than what the thread has, ESRCH if it is gone.
pub fn set_normal_at(tid: i32, nice: i32) -> Result<(), Errno> {
    set_class(tid, SCHED_NORMAL.unsigned_abs(), 0, nice)
}

/// `sched_setattr(tid)`: a class by its number, a real-time priority and a nice value, as
/// `/proc/PID/stat` has them. The nice value of a real-time class is left as it is.
///
/// # Errors
///
/// As [`set_normal_at`]; EINVAL for the deadline class, which takes more than this.
pub fn set_class(tid: i32, policy: u32, priority: u32, nice: i32) -> Result<(), Errno> {
    let mut attr = SchedAttr { size: ATTR_SIZE, policy, nice, priority, ..SchedAttr::default() };
    let attr: *mut SchedAttr = &raw mut attr;
    // SAFETY: `attr` is initialised, writable, as long as its first field says, and outlives the
    // call, which may write the size it knows into it.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, tid, attr, 0) })?;
    Ok(())
}

fn set_scheduler(tid: i32, policy: i32, priority: i32) -> Result<(), Errno> {
    // SAFETY: sched_param is plain integers, for which zero is a valid value; musl pads it.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    let param: *const libc::sched_param = &raw const param;
    // SAFETY: `param` is initialised and outlives the call, which only reads it. The system call
    // is made directly because musl's wrapper refuses.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, tid, policy, param) })?;
    Ok(())
}

/// `setpriority(PRIO_PROCESS, tid, nice)`: the nice value of one thread, -20 (best) to 19.
///
/// # Errors
///
/// EACCES or EPERM without CAP_SYS_NICE, ESRCH if the thread is gone.
pub fn set_nice(tid: i32, nice: i32) -> Result<(), Errno> {
    // SAFETY: setpriority takes three integers and touches no memory of ours.
    check(unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, tid, nice) })?;
    Ok(())
}

/// `mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)`: what the daemon has touched stays in
/// memory; what it has not costs nothing.
///
/// # Errors
///
/// EPERM or ENOMEM without CAP_IPC_LOCK and a fitting RLIMIT_MEMLOCK; EINVAL before Linux 4.4.
pub fn lock_memory() -> Result<(), Errno> {
    const MCL_ONFAULT: i32 = 4;
    // SAFETY: mlockall takes an integer and changes no contents of memory.
    check(libc::c_long::from(unsafe {
        libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | MCL_ONFAULT)
    }))?;
    Ok(())
}

/// Makes the next `BYTES` of this thread's stack present, so that [`lock_memory`] keeps them.
#[inline(never)]
pub fn touch_stack<const BYTES: usize>() {
    let bytes = [0_u8; BYTES];
    std::hint::black_box(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_always_have_the_normal_class() {
        assert_eq!(set_normal(0), Ok(()));
    }

    #[test]
    fn class_and_nice_value_are_set_at_once() {
        std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            assert_eq!(set_normal_at(tid, 7), Ok(()));
            assert_eq!(rustix::process::getpriority_process(None), Ok(7));
            assert_eq!(set_normal_at(tid, 9), Ok(()));
            // Better again needs CAP_SYS_NICE, as does a real-time class.
            if set_class(tid, libc::SCHED_FIFO.unsigned_abs(), 1, 0).is_ok() {
                assert_eq!(set_class(tid, SCHED_NORMAL.unsigned_abs(), 0, 7), Ok(()));
                assert_eq!(rustix::process::getpriority_process(None), Ok(7));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_thread_that_is_gone_is_named_as_gone() {
        let tid =
            std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get()).join().unwrap();
        assert_eq!(set_nice(tid, 0), Err(Errno::SRCH));
        assert_eq!(set_normal(tid), Err(Errno::SRCH));
        assert_eq!(set_normal_at(tid, 0), Err(Errno::SRCH));
    }
}
