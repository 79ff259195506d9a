//! System calls that make processes misbehave, mapped files, and mounts. The actor's only unsafe code.
#![allow(unsafe_code)]

use anyhow::Context;
use anyhow::Result;
use rustix::mm::mmap;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use std::ffi::CString;
use std::fs::File;
use std::io::Error;

/// A file's beginning, mapped read-only and shared for as long as this process lives.
pub struct Mapping {
    start: *const u8,
    length: usize,
}

impl Mapping {
    /// Maps the first `length` bytes; the file must be that long.
    pub fn new(file: &File, length: usize) -> Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; it is never unmapped.
        let start = unsafe {
            mmap(std::ptr::null_mut(), length, ProtFlags::READ, MapFlags::SHARED, file, 0)
        };
        Ok(Self { start: start.context("mmap")?.cast_const().cast(), length })
    }

    /// Reads one byte of each page, so that all of them are in memory.
    pub fn touch(&self, page: usize) {
        for offset in (0..self.length).step_by(page) {
            // SAFETY: inside the mapping, which the file is as long as; others may change the byte.
            std::hint::black_box(unsafe { self.start.add(offset).read_volatile() });
        }
    }
}

/// Ends the calling thread only; in the leader, it leaves a zombie whose threads go on.
pub fn exit_thread() {
    // SAFETY: SYS_exit ends this thread at once; what others need of its stack there is nothing.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// SCHED_IDLE: runs only when no other process wants the CPU.
pub fn set_idle() -> Result<()> {
    set_scheduler(libc::SCHED_IDLE, 0).context("SCHED_IDLE")
}

/// SCHED_RESET_ON_FORK of `include/uapi/linux/sched.h`; libc does not know it on Android.
const RESET_ON_FORK: libc::c_int = 0x4000_0000;

/// SCHED_FIFO with the daemon's own priority, for this thread and, if `children`, those whom it starts. Thousands of
/// children that begin in a real-time class would keep the daemon from the CPU, as no system_server does.
pub fn set_fifo(children: bool) -> Result<()> {
    let flag = if children { 0 } else { RESET_ON_FORK };
    set_scheduler(libc::SCHED_FIFO | flag, 1).context("SCHED_FIFO")
}

fn set_scheduler(policy: libc::c_int, priority: libc::c_int) -> Result<()> {
    // SAFETY: sched_param is plain integers, for which zero is a valid value.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    let param: *const libc::sched_param = &raw const param;
    // SAFETY: `param` outlives the call, which only reads it; 0 is the calling thread.
    check(unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, param) })
}

// Of ptrace(2); the libc crate does not know them on Android.
const PTRACE_SEIZE: libc::c_long = 0x4206;
const PTRACE_O_TRACEEXIT: libc::c_long = 1 << 6;

/// Attaches to `pid` so that it stops on its way out and stays there until this process ends.
pub fn hold_at_exit(pid: i32) -> Result<()> {
    // SAFETY: PTRACE_SEIZE takes its options as a number and touches no memory of ours.
    let seized =
        unsafe { libc::syscall(libc::SYS_ptrace, PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT) };
    check(seized).context("PTRACE_SEIZE")
}

/// Lets `target` show what `source` shows.
pub fn bind(source: &str, target: &str) -> Result<()> {
    mount(source, target, libc::MS_BIND)
}

/// Makes what is mounted at `target` read-only there, and nowhere else: the filesystem itself stays as it is.
pub fn make_read_only(target: &str) -> Result<()> {
    mount("none", target, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY)
}

fn mount(source: &str, target: &str, flags: libc::c_ulong) -> Result<()> {
    let (from, to) = (CString::new(source)?, CString::new(target)?);
    // SAFETY: both strings end in NUL and outlive the call, which only reads them; with these flags the kernel looks at
    // neither a type nor data.
    let mounted = unsafe {
        libc::mount(from.as_ptr(), to.as_ptr(), std::ptr::null(), flags, std::ptr::null())
    };
    check(mounted.into()).with_context(|| format!("mount {source} {target}"))
}

/// Takes away what was mounted at `target` last, even while somebody has it open.
pub fn unmount(target: &str) -> Result<()> {
    let path = CString::new(target)?;
    // SAFETY: the string ends in NUL and outlives the call, which only reads it.
    let unmounted = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    check(unmounted.into()).with_context(|| format!("umount {target}"))
}

fn check(returned: libc::c_long) -> Result<()> {
    if returned < 0 {
        return Err(Error::last_os_error().into());
    }
    Ok(())
}
