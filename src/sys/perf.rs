//! perf_event_open(2), as far as it takes to run a BPF program at a tracepoint.

use super::check;
use rustix::io::Errno;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
/// `_IO('$', 0)`
const PERF_EVENT_IOC_ENABLE: u32 = 0x2400;
/// `_IOW('$', 8, __u32)`
const PERF_EVENT_IOC_SET_BPF: u32 = 0x4004_2408;

/// `struct perf_event_attr` in its first published size, 64 bytes.
#[repr(C)]
#[derive(Default)]
struct PerfEventAttr {
    event_type: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    config1: u64,
}

/// Runs `program` whenever the tracepoint with this id (`events/GROUP/NAME/id` of tracefs) is
/// passed, on any CPU, for as long as the returned descriptor lives.
///
/// A program that somebody else has attached there already keeps running for both.
///
/// # Errors
///
/// EACCES or EPERM without CAP_PERFMON; ENODEV or EINVAL if there is no such tracepoint or the
/// program is of another type.
pub fn attach_to_tracepoint(id: u64, program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let mut attr = PerfEventAttr {
        event_type: PERF_TYPE_TRACEPOINT,
        size: u32::try_from(size_of::<PerfEventAttr>()).map_err(|_| Errno::INVAL)?,
        config: id,
        // No samples are wanted, but a period is needed for the event to count as a sampling one.
        sample_period: 1,
        wakeup_events: 1,
        ..PerfEventAttr::default()
    };
    // A tracepoint runs its programs on every CPU, whichever one the event is opened for.
    let (any_task, cpu, no_group): (libc::pid_t, libc::c_int, libc::c_int) = (-1, 0, -1);
    // SAFETY: the attribute structure is live, says its own size, and holds no pointers.
    let raw = check(unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw mut attr,
            any_task,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    })?;
    let raw = i32::try_from(raw).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    let event = unsafe { OwnedFd::from_raw_fd(raw) };
    match control(&event, PERF_EVENT_IOC_SET_BPF, program.as_raw_fd()) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    control(&event, PERF_EVENT_IOC_ENABLE, 0)?;
    Ok(event)
}

fn control(event: &OwnedFd, request: u32, argument: libc::c_int) -> Result<(), Errno> {
    // The type of the request differs between the C libraries; its value fits all of them.
    #[allow(clippy::cast_possible_wrap)]
    let request = request as _;
    // SAFETY: both requests take a plain integer as their argument.
    check(unsafe { libc::ioctl(event.as_raw_fd(), request, argument) }.into()).map(drop)
}
