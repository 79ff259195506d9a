//! A look: what the decision was asked, what it saw and what it said.

use super::few::Few;
use super::record::Process;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::kernel::Sample;
use crate::policy::Admission;
use crate::policy::PollPlan;
use crate::policy::Trigger;
use crate::policy::Verdict;

/// One look at memory, whether it led to a kill or not. With the [`super::Checkpoint`] before it,
/// this is all that the decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What made the daemon look.
    pub trigger: Trigger,
    /// When the event came out of the kernel.
    pub woken: MonoTime,
    /// The time that the decision was given.
    pub now: MonoTime,
    /// When the victim was signalled that is still waited for.
    pub pending: Option<MonoTime>,
    /// Whether memory was looked at.
    pub admission: Admission,
    /// What was seen. None if it was not looked at, or the kernel's files could not be read.
    pub seen: Option<Seen>,
    /// What was done.
    pub act: Act,
    /// Who was chosen before, and why that came to nothing.
    pub tried: Few<Tried, 8>,
    /// Whether a death was waited for at the end.
    pub waiting: bool,
    /// What was asked of the loop at the end.
    pub plan: PollPlan,
}

coded_struct!(Look { trigger, woken, now, pending, admission, seen, act, tried, waiting, plan });

/// The facts and the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The facts.
    pub sample: Sample,
    /// The verdict.
    pub verdict: Verdict,
}

coded_struct!(Seen { sample, verdict });

/// What a look led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// No kill was due.
    #[default]
    Nothing,
    /// This process was killed; see the [`super::Kill`] with this ticket.
    Killed {
        /// Its id.
        pid: i32,
        /// The number of the kill.
        ticket: u32,
    },
    /// This process would have been killed: a dry run.
    Spared {
        /// Its id.
        pid: i32,
    },
    /// A kill was due, and there was nobody to kill.
    Nobody,
}

coded_enum!(Act, "act" {
    0 => Nothing,
    1 => Killed { pid, ticket },
    2 => Spared { pid },
    3 => Nobody,
});

/// A candidate that was not killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Who.
    pub process: Process,
    /// Why not.
    pub obstacle: Obstacle,
}

coded_struct!(Tried { process, obstacle });

/// Why a candidate was not killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It had exited already.
    Gone,
    /// It was signalled before and has not exited yet.
    Dying,
    /// The system refused, with this errno.
    Refused(i32),
}

coded_enum!(Obstacle, "obstacle" { 0 => Gone, 1 => Dying, 2 => Refused(errno) });
