//! A look: what the decision was asked, what it saw and what it said.

use super::few::Few;
use super::record::Process;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::codec::CodecError;
use crate::codec::Coded;
use crate::codec::Reader;
use crate::codec::Writer;
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

impl Coded for Look {
    fn put(&self, out: &mut Writer<'_>) {
        let Self { trigger, woken, now, pending, admission, seen, act, tried, waiting, plan } =
            self;
        trigger.put(out);
        woken.put(out);
        now.put(out);
        pending.put(out);
        admission.put(out);
        seen.put(out);
        act.put(out);
        tried.put(out);
        waiting.put(out);
        plan.put(out);
        // The sample had no place for it at first.
        seen.as_ref().and_then(|seen| seen.sample.boost).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut look = Self {
            trigger: Coded::take(from)?,
            woken: Coded::take(from)?,
            now: Coded::take(from)?,
            pending: Coded::take(from)?,
            admission: Coded::take(from)?,
            seen: Coded::take(from)?,
            act: Coded::take(from)?,
            tried: Coded::take(from)?,
            waiting: Coded::take(from)?,
            plan: Coded::take(from)?,
        };
        // That of an older daemon ends here.
        if let (Some(seen), false) = (&mut look.seen, from.rest().is_empty()) {
            seen.sample.boost = Coded::take(from)?;
        }
        Ok(look)
    }
}

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
