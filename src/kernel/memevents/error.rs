//! Why there are no memory events.

use rustix::io::Errno;
use std::fmt;

/// Why the source of events could not be opened. Its text is half a line: cause, then remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The boot loader of BPF programs has not put them in their place yet, or never will.
    NotLoadedYet,
    /// The process may not do what it takes.
    NotPermitted {
        /// What it tried.
        doing: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The kernel lacks something.
    NotSupported {
        /// What it lacks.
        missing: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
    /// Something else.
    Failed {
        /// What it tried.
        doing: &'static str,
        /// What the kernel answered.
        errno: Errno,
    },
}

impl OpenError {
    /// How often trying again may help: a loader may come at any time, and what the kernel has run out
    /// of is there again soon or never.
    #[must_use]
    pub const fn retries(&self) -> u32 {
        match self {
            Self::NotLoadedYet => u32::MAX,
            Self::Failed { .. } => 10,
            Self::NotPermitted { .. } | Self::NotSupported { .. } => 0,
        }
    }

    pub(super) fn new(doing: &'static str, missing: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::NotPermitted { doing, errno },
            Errno::NOSYS | Errno::INVAL | Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP => {
                Self::NotSupported { missing, errno }
            }
            _ => Self::Failed { doing, errno },
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoadedYet => f.write_str(
                "AOSP's bpfMemEvents programs are not loaded; they come with the boot of Android 15 \
                 and later, so this is tried again",
            ),
            Self::NotPermitted { doing, errno } => write!(
                f,
                "{doing} is not permitted ({errno}); grant CAP_BPF and CAP_PERFMON, and before \
                 Linux 5.11 a larger RLIMIT_MEMLOCK"
            ),
            Self::NotSupported { missing, errno } => {
                write!(f, "the kernel lacks {missing} ({errno}); use one that has it")
            }
            Self::Failed { doing, errno } => {
                write!(f, "{doing} failed ({errno}); this is tried again for half an hour")
            }
        }
    }
}

impl std::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_names_cause_and_remedy() {
        let of = |errno| OpenError::new("making a BPF ring buffer", "BPF ring buffers", errno);
        let said = of(Errno::PERM).to_string();
        assert!(said.contains("making a BPF ring buffer is not permitted"), "{said}");
        assert!(said.contains("grant CAP_BPF and CAP_PERFMON"), "{said}");
        assert!(of(Errno::NOSYS).to_string().contains("the kernel lacks BPF ring buffers"));
        assert!(of(Errno::NOMEM).to_string().contains("tried again"));
    }

    #[test]
    fn what_has_run_out_is_tried_again_and_what_the_kernel_lacks_is_not() {
        let retries = |errno| OpenError::new("making a ring", "rings", errno).retries();
        for errno in [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN] {
            assert!((1..100).contains(&retries(errno)), "{errno}");
        }
        for errno in [Errno::PERM, Errno::ACCESS, Errno::NOSYS, Errno::INVAL, Errno::NOENT] {
            assert_eq!(retries(errno), 0, "{errno}");
        }
        assert_eq!(OpenError::NotLoadedYet.retries(), u32::MAX);
    }
}
