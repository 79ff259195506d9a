//! A kill, and what became of it.

use super::few::Few;
use super::few::Text;
use super::record::Process;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::kill::ledger::Moments;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::Exit;
use crate::policy::Cause;
use crate::units::Kib;

/// A victim, as it was before its SIGKILL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The number of the kill in this run of the daemon.
    pub ticket: u32,
    /// The `seq` of the look that decided it; 0 for the watchdog's kills, which nothing decided.
    pub look: u64,
    /// Its id.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its rank.
    pub adj: OomScoreAdj,
    /// The first argument of its command line.
    pub name: Text<127>,
    /// Resident memory.
    pub rss: Kib,
    /// Swapped-out memory.
    pub swap: Kib,
    /// How many threads it had; 0 if not known.
    pub threads: u32,
    /// Why, and down to which rank.
    pub cause: Cause,
    /// The moments up to the signal.
    pub moments: Moments,
    /// Who else was registered and would have been next, the first first, sizes not considered.
    pub next: Few<Process, 8>,
}

coded_struct!(Kill { ticket, look, pid, uid, adj, name, rss, swap, threads, cause, moments, next });

/// A later moment of a kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The number of the kill.
    pub ticket: u32,
    /// The victim's id.
    pub pid: i32,
    /// What is known now.
    pub step: Step,
    /// All moments up to now.
    pub moments: Moments,
}

coded_struct!(Fate { ticket, pid, step, moments });

/// What is known of a victim's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It has not exited within kill_timeout_ms; the next may be chosen.
    TimedOut {
        /// Whether its memory is back all the same.
        memory_back: bool,
    },
    /// It has exited.
    Exited,
    /// The kernel says that SIGKILL ended it.
    Proven,
    /// The kernel says that it had ended otherwise before.
    Otherwise(Exit),
    /// It was reaped, and the kernel does not tell how it ended.
    Untold,
}

coded_enum!(Step, "step of a kill" {
    0 => TimedOut { memory_back },
    1 => Exited,
    2 => Proven,
    3 => Otherwise(exit),
    4 => Untold,
});
coded_enum!(Exit, "exit" { 0 => Signal(signal), 1 => Status(status) });
coded_struct!(Moments { woken, decided, raised, signalled, released, exited, proven });
