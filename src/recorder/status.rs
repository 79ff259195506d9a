//! The state of the daemon at one moment.

use super::few::Few;
use super::few::Text;
use super::look::Seen;
use super::record::Process;
use super::record::Sources;
use crate::clock::MonoTime;
use crate::codec::coded_struct;
use crate::kill::ledger::Histogram;
use crate::policy::KillReason;
use crate::policy::MinfreeTable;
use crate::units::Kib;

/// What `lmkctl status` shows. The settings in force stand in the [`super::Settings`] before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What tells of pressure.
    pub sources: Sources,
    /// Memory now, and what a timed look would have said. Its signals are never None; nothing is
    /// killed for it, and the decision does not remember it. None if memory could not be read.
    pub seen: Option<Seen>,
    /// Whether timed looks are under way.
    pub polling: bool,
    /// The victim that is waited for.
    pub waiting_for: Option<i32>,
    /// How many processes are registered.
    pub registered: u32,
    /// Connections to the lmkd socket.
    pub clients: u32,
    /// Who would be next, in kill order down to oom_score_adj 0. The scribe finds them: empty, as
    /// the daemon's own memory and descriptors are, where the loop writes this.
    pub next: Few<Next, 16>,
    /// All kills of this run.
    pub kills: u32,
    /// The same by reason; a vendor's reasons are one, with number 0.
    pub by_reason: Few<(KillReason, u32), 16>,
    /// Kills whose exit was seen.
    pub exits: u32,
    /// Kills that the kernel said SIGKILL ended.
    pub proven: u32,
    /// Waits that ended with kill_timeout_ms.
    pub timeouts: u32,
    /// Memory of victims that were given up on and still hold it.
    pub owed: Kib,
    /// From the event to the signal.
    pub to_signal: Spread,
    /// From the signal to the memory given back by process_mrelease.
    pub to_release: Spread,
    /// From the signal to the exit.
    pub to_exit: Spread,
    /// How often reclaim events were lost.
    pub lost_events: u64,
    /// Resident memory of the daemon.
    pub rss: Kib,
    /// Its open descriptors; None before Linux 6.2.
    pub descriptors: Option<u32>,
    /// Whether this kernel tells exit statuses (Linux 6.15).
    pub tells_exit: bool,
    /// The ring of records.
    pub ring: RingState,
    /// When the next look is due. None of a daemon that did not tell it yet.
    pub outlook: Option<Outlook>,
    /// What `to_signal` is made of. None of a daemon that did not tell it yet.
    pub steps: Option<Steps>,
}

coded_struct!(Status {
    sources,
    seen,
    polling,
    waiting_for,
    registered,
    clients,
    next,
    kills,
    by_reason,
    exits,
    proven,
    timeouts,
    owed,
    to_signal,
    to_release,
    to_exit,
    lost_events,
    rss,
    descriptors,
    tells_exit,
    ring,
} at_end { outlook, steps });

/// What the next look depends on, beside memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Milliseconds to it, 0 if it is due; None if only an event brings it.
    pub next_look_ms: Option<i64>,
    /// Whether that one asks the rules about watermarks alone, as it follows a wake-up of kswapd.
    pub watermarks_alone: bool,
    /// The latest pressure event; None if there was none yet.
    pub last_pressure: Option<MonoTime>,
    /// The minfree levels that a client sent last.
    pub minfree: MinfreeTable,
}

coded_struct!(Outlook { next_look_ms, watermarks_alone, last_pressure, minfree });

/// The steps of a kill before its signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// From the event to the verdict.
    pub to_decision: Spread,
    /// From the verdict to the victim's leader raised.
    pub to_raise: Spread,
}

coded_struct!(Steps { to_decision, to_raise });

/// A candidate, with what an operator wants to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Who.
    pub process: Process,
    /// Resident memory.
    pub rss: Kib,
    /// The first argument of its command line.
    pub name: Text<40>,
}

coded_struct!(Next { process, rss, name });

/// Durations in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many.
    pub count: u64,
    /// Half of them are not longer.
    pub p50: u64,
    /// Nine in ten are not longer.
    pub p90: u64,
    /// 99 in 100 are not longer.
    pub p99: u64,
    /// None is longer.
    pub max: u64,
}

coded_struct!(Spread { count, p50, p90, p99, max });

impl From<&Histogram> for Spread {
    fn from(histogram: &Histogram) -> Self {
        let percentile = |percent| histogram.percentile(percent).unwrap_or(0);
        Self {
            count: histogram.count(),
            p50: percentile(50),
            p90: percentile(90),
            p99: percentile(99),
            max: histogram.max(),
        }
    }
}

/// The ring of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingState {
    /// Its size in bytes.
    pub size: u64,
    /// Bytes written since the start of the daemon.
    pub written: u64,
    /// Records written since the start of the daemon.
    pub records: u64,
    /// When the oldest record still in it was made.
    pub oldest: MonoTime,
}

coded_struct!(RingState { size, written, records, oldest });
