//! A process that holds another one back from its end.

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
