//! Why a process file gave no answer.

use crate::kernel::ReadError;
use rustix::io::Errno;
use std::fmt;

/// Why a process file gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcError {
    /// There is no such process (any more).
    Gone,
    /// This daemon may not read or write it.
    Denied,
    /// The file lacks this field or it is malformed.
    Malformed(&'static str),
    /// Anything else.
    Other(Errno),
}

impl From<Errno> for ProcError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::SRCH => Self::Gone,
            Errno::ACCESS | Errno::PERM => Self::Denied,
            other => Self::Other(other),
        }
    }
}

impl From<ReadError> for ProcError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Os(errno) => errno.into(),
            ReadError::Parse(error) => Self::Malformed(error.field),
        }
    }
}

impl fmt::Display for ProcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "no such process"),
            Self::Denied => write!(f, "permission denied"),
            Self::Malformed(field) => write!(f, "no {field} in it"),
            Self::Other(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for ProcError {}
