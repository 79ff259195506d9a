//! A process held back from its end.

use std::os::unix::process::CommandExt;
use std::process::Child;
use std::process::Command;

/// Traces a process, which stops on its way out, killed or not, for as long as this lives.
pub struct Tracer(Child);

impl Tracer {
    /// None where processes may not be traced.
    pub fn hold(pid: i32) -> Option<Self> {
        let mut command = Command::new("sleep");
        command.arg("600");
        let seize = move || {
            let none = std::ptr::null_mut::<libc::c_void>();
            // SAFETY: the call touches no memory of ours, and is one that may be made between fork
            // and exec.
            let done =
                unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, none, libc::PTRACE_O_TRACEEXIT) };
            if done == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        };
        // SAFETY: see there; what it allocates in an error is the kernel's number only.
        unsafe { command.pre_exec(seize) };
        command.spawn().ok().map(Self)
    }

    /// Lets the process go.
    pub fn release(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.release();
    }
}

/// C libraries differ in the type of the requests.
macro_rules! ptrace {
    ($request:expr, $pid:expr, $data:expr) => {{
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: these requests take numbers and touch no memory of ours.
        unsafe { libc::ptrace($request, $pid, none, $data) }
    }};
}

/// A child that has begun to exit and is stopped right before its end, for as long as this lives.
/// How it ends is settled.
pub struct Brink(i32);

impl Brink {
    /// Has `end` make a child end itself. The calling thread is the tracer, and the only one that
    /// can let it go. None where processes may not be traced.
    pub fn lead(pid: i32, end: impl FnOnce()) -> Option<Self> {
        if ptrace!(libc::PTRACE_SEIZE, pid, libc::PTRACE_O_TRACEEXIT) != 0 {
            return None;
        }
        end();
        loop {
            let mut status = 0;
            // SAFETY: `status` is writable and outlives the call.
            let stopped = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
            assert!(stopped == pid && libc::WIFSTOPPED(status), "{status:#x}");
            if status >> 16 == libc::PTRACE_EVENT_EXIT {
                return Some(Self(pid));
            }
            // A signal has stopped it on its way to it.
            assert_eq!(ptrace!(libc::PTRACE_CONT, pid, libc::WSTOPSIG(status)), 0);
        }
    }
}

impl Drop for Brink {
    fn drop(&mut self) {
        // Refused if it has gone on in spite of it.
        ptrace!(libc::PTRACE_DETACH, self.0, 0);
    }
}
