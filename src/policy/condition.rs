//! What a rule demands: each condition can be tested, and says its numbers in a log.

use std::fmt;

use super::Reclaim;
use super::Signals;
use super::Wmark;
use crate::config::Tunables;
use crate::units::PageSize;

/// What conditions look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The signals of this look.
    pub signals: &'a Signals,
    /// The thresholds.
    pub tunables: &'a Tunables,
    /// The kernel's page size.
    pub page: PageSize,
}

/// One condition of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The first look after a kill.
    AfterKill,
    /// A critical pressure event, not a timed look.
    CriticalEvent,
    /// Free memory is below the min watermark.
    BelowMin,
    /// Free memory is below the low watermark.
    BelowLow,
    /// Free swap is below `swap_free_low_percentage`.
    SwapLow,
    /// More of anonymous memory is in swap than `swap_util_max`.
    SwapUsed,
    /// Thrashing is over `thrashing_limit`, whatever kills have made of it since.
    ThrashingOverSetLimit,
    /// Thrashing is over the limit in force, which kills lower.
    ThrashingOverLimit,
    /// Tasks reclaim memory themselves.
    DirectReclaim,
    /// One of them has done so for longer than `direct_reclaim_threshold_ms`.
    DirectReclaimLong,
    /// A kill for thrashing was due since the file cache was last large enough.
    FilecacheWatched,
    /// The file cache is smaller than `filecache_min_kb`.
    FilecacheSmall,
    /// `lowmem_min_oom_score` does not turn kills for low memory off.
    LowMemKillsOn,
}

impl Condition {
    /// Whether it is met.
    #[must_use]
    pub fn holds(self, facts: &Facts) -> bool {
        let (s, t) = (facts.signals, facts.tunables);
        match self {
            Self::AfterKill => s.after_kill,
            Self::CriticalEvent => s.critical_event,
            Self::BelowMin => s.wmark < Wmark::Low,
            Self::BelowLow => s.wmark < Wmark::High,
            Self::SwapLow => s.swap_is_low,
            Self::SwapUsed => t.swap_util_max < 100 && s.swap_util > t.swap_util_max,
            Self::ThrashingOverSetLimit => s.thrashing > t.thrashing_limit,
            Self::ThrashingOverLimit => s.thrashing > s.thrashing_limit,
            Self::DirectReclaim => s.reclaim == Reclaim::Direct,
            Self::DirectReclaimLong => {
                let threshold = t.direct_reclaim_threshold_ms;
                threshold > 0 && s.direct_reclaim_ms > threshold
            }
            Self::FilecacheWatched => s.watch_filecache,
            Self::FilecacheSmall => s.file_cache.to_kib(facts.page).get() < t.filecache_min_kb,
            Self::LowMemKillsOn => t.lowmem_min_oom_score <= 1000,
        }
    }

    /// Whether it asks for a breached watermark.
    #[must_use]
    pub const fn is_watermark(self) -> bool {
        matches!(self, Self::BelowMin | Self::BelowLow)
    }

    /// Its text with the numbers of `facts`; it reads as a statement if `holds`, else as its
    /// opposite.
    #[must_use]
    pub const fn said<'a>(self, facts: Facts<'a>, holds: bool) -> Said<'a> {
        Said { condition: self, facts, holds }
    }
}

/// A condition with its numbers, to print. See [`Condition::said`].
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    condition: Condition,
    facts: Facts<'a>,
    holds: bool,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { signals: s, tunables: t, page } = self.facts;
        let kib = |pages: crate::units::Pages| pages.to_kib(page);
        let not = if self.holds { "" } else { "not " };
        let below = if self.holds { "<" } else { ">=" };
        let above = if self.holds { ">" } else { "<=" };
        match self.condition {
            Condition::AfterKill => write!(f, "{not}right after a kill"),
            Condition::CriticalEvent => {
                let stall = t.psi_complete_stall_ms;
                write!(f, "{not}a critical pressure event (all tasks stalled {stall}ms of ")?;
                write!(f, "{}ms)", t.psi_window_size_ms)
            }
            Condition::BelowMin => {
                let (free, min) = (kib(s.free), kib(s.watermarks.min));
                write!(f, "free memory {free}kB {below} min watermark {min}kB")
            }
            Condition::BelowLow => {
                let (free, low) = (kib(s.free), kib(s.watermarks.low));
                write!(f, "free memory {free}kB {below} low watermark {low}kB")
            }
            Condition::SwapLow => {
                let (free, low) = (kib(s.free_swap), kib(s.swap_low_threshold));
                write!(f, "free swap {free}kB {below} {low}kB")
            }
            Condition::SwapUsed => {
                write!(f, "swap utilisation {}% {above} {}%", s.swap_util, t.swap_util_max)
            }
            Condition::ThrashingOverSetLimit => {
                write!(f, "thrashing {}% {above} {}%", s.thrashing, t.thrashing_limit)
            }
            Condition::ThrashingOverLimit => {
                write!(f, "thrashing {}% {above} {}%", s.thrashing, s.thrashing_limit)
            }
            Condition::DirectReclaim => write!(f, "{not}in direct reclaim"),
            Condition::DirectReclaimLong => {
                let (ran, threshold) = (s.direct_reclaim_ms, t.direct_reclaim_threshold_ms);
                match threshold {
                    ..=0 => f.write_str("direct_reclaim_threshold_ms is 0"),
                    _ => write!(f, "direct reclaim for {ran}ms {above} {threshold}ms"),
                }
            }
            Condition::FilecacheWatched => write!(f, "{not}after thrashing"),
            Condition::FilecacheSmall => {
                write!(f, "file cache {}kB {below} {}kB", kib(s.file_cache), t.filecache_min_kb)
            }
            Condition::LowMemKillsOn => {
                write!(f, "lowmem_min_oom_score {} {}", t.lowmem_min_oom_score, {
                    if self.holds {
                        "<= 1000"
                    } else {
                        "> 1000"
                    }
                })
            }
        }
    }
}
