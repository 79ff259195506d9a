//! The words in which the decision is asked for and answered.

use super::KillReason;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::kernel::Watermarks;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Pages;

/// How strong a pressure event is. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// No stall to speak of.
    #[default]
    Low,
    /// Some tasks stalled for `psi_partial_stall_ms` of a window.
    Medium,
    /// All tasks stalled for `psi_complete_stall_ms` of a window.
    Critical,
}

/// What made the daemon look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The kernel's pressure interface fired.
    Event(Level),
    /// A timed look inside the window after an event.
    Poll,
    /// Memory is scarce although nothing stalls: kswapd was woken, a task reclaims memory itself,
    /// or a vigil's time has come. Watermark rules only.
    KswapdWake,
    /// The vendor's kernel asks for a kill.
    Vendor {
        /// Its reason, 0 to 999.
        reason: i32,
        /// Its lowest adj.
        min_adj: i32,
    },
}

impl Trigger {
    /// Whether it can lead to a kill: a vendor's numbers may be out of bounds.
    #[must_use]
    pub fn is_valid(self) -> bool {
        match self {
            Self::Vendor { reason, min_adj } => vendor_cause(reason, min_adj).is_some(),
            Self::Event(_) | Self::Poll | Self::KswapdWake => true,
        }
    }
}

/// The kill that the vendor's kernel asks for, if its numbers are within bounds.
pub(super) fn vendor_cause(reason: i32, min_adj: i32) -> Option<Cause> {
    let reason = u16::try_from(reason).ok().filter(|reason| *reason <= 999)?;
    let min_adj = OomScoreAdj::new(min_adj).filter(|adj| *adj >= OomScoreAdj::FOREGROUND)?;
    Some(Cause { reason: KillReason::Vendor(reason), min_adj, cut_thrashing_limit: false })
}

/// Whether a trigger is worth a [`crate::kernel::Sample`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Below the level of the event before it: nothing to do.
    Ignored,
    /// A kill is outstanding: nothing to read, only the polling plan is due.
    Skipped,
    /// Take a sample and evaluate it.
    Evaluate {
        /// Whether the sample must hold fresh watermarks.
        watermarks: bool,
    },
}

/// The lowest watermark that free memory has fallen below. Ordered: less is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wmark {
    /// Below min.
    Min,
    /// Below low.
    Low,
    /// Below high.
    High,
    /// Not below any.
    #[default]
    None,
}

/// Who reclaims memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reclaim {
    /// Nobody.
    #[default]
    None,
    /// The kernel's own thread, in the background.
    Kswapd,
    /// Tasks themselves, in place of what they wanted to do.
    Direct,
}

/// Everything the rules looked at, for the log and for `explain`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Free memory without CMA areas: what the watermarks are compared with.
    pub free: Pages,
    /// The watermarks in use.
    pub watermarks: Watermarks,
    /// Lowest breached watermark.
    pub wmark: Wmark,
    /// Who reclaims.
    pub reclaim: Reclaim,
    /// How long the oldest direct reclaim has run, ms.
    pub direct_reclaim_ms: i64,
    /// Estimated free swap.
    pub free_swap: Pages,
    /// Below this, swap is low.
    pub swap_low_threshold: Pages,
    /// Whether it is.
    pub swap_is_low: bool,
    /// Refaults of the window as a share of the file cache, percent.
    pub thrashing: i64,
    /// Highest thrashing since the last kill, this evaluation included.
    pub max_thrashing: i64,
    /// The limit in force: lowered by kills, restored by the next window.
    pub thrashing_limit: i64,
    /// Share of anonymous memory in swap, percent.
    pub swap_util: i64,
    /// File cache, active and inactive.
    pub file_cache: Pages,
    /// Whether stall_limit_critical is exceeded.
    pub critical_stall: bool,
    /// Whether a critical pressure event is the trigger.
    pub critical_event: bool,
    /// Whether this is the first look after a kill.
    pub after_kill: bool,
    /// Whether a kill for thrashing was due since the file cache was last large enough.
    pub watch_filecache: bool,
    /// Looked at for a kswapd wake-up: free memory is below low, and all file cache and free swap
    /// together would not lift it over high. No pressure event comes any more in this state, for
    /// nothing is left to stall on; the kernel's OOM killer is next.
    pub exhausted: bool,
}

/// A kill is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Why.
    pub reason: KillReason,
    /// No process below it may be the victim.
    pub min_adj: OomScoreAdj,
    /// Whether a successful kill lowers the thrashing limit.
    pub cut_thrashing_limit: bool,
}

/// The outcome of one evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// What was seen. None if nothing was reclaimed or refaulted since the last look.
    pub signals: Option<Signals>,
    /// Whether to kill, and why.
    pub cause: Option<Cause>,
}

/// What an evaluation asks of the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PollRequest {
    /// Go on as before.
    #[default]
    NoChange,
    /// Poll for one window from now.
    Start,
    /// Stop polling until the victim is gone.
    Pause,
}

/// A polling request with its interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollPlan {
    /// What to do.
    pub request: PollRequest,
    /// New interval in ms; None leaves it as it was.
    pub interval_ms: Option<i64>,
}

coded_enum!(Level, "pressure level" { 0 => Low, 1 => Medium, 2 => Critical });
coded_enum!(Trigger, "trigger" {
    0 => Event(level),
    1 => Poll,
    2 => KswapdWake,
    3 => Vendor { reason, min_adj },
});
coded_enum!(Wmark, "watermark" { 0 => Min, 1 => Low, 2 => High, 3 => None });
coded_enum!(Reclaim, "kind of reclaim" { 0 => None, 1 => Kswapd, 2 => Direct });
coded_struct!(Signals {
    free,
    watermarks,
    wmark,
    reclaim,
    direct_reclaim_ms,
    free_swap,
    swap_low_threshold,
    swap_is_low,
    thrashing,
    max_thrashing,
    thrashing_limit,
    swap_util,
    file_cache,
    critical_stall,
    critical_event,
    after_kill,
    watch_filecache,
    exhausted,
});
coded_struct!(Cause { reason, min_adj, cut_thrashing_limit });
coded_struct!(Verdict { signals, cause });
coded_enum!(PollRequest, "request to poll" { 0 => NoChange, 1 => Start, 2 => Pause });
coded_struct!(PollPlan { request, interval_ms });
coded_enum!(Admission, "admission" {
    0 => Ignored,
    1 => Skipped,
    2 => Evaluate { watermarks },
});
