//! A kill's reason as a sentence: the condition, and each number beside its threshold.

use std::fmt;

use super::Cause;
use super::Facts;
use super::KillReason;
use super::MinfreeTable;
use super::Rule;
use super::Signals;
use crate::config::Tunables;
use crate::kernel::Sample;
use crate::units::PageSize;

/// The free text of a kill line. Prints without allocating.
#[derive(Clone, Copy, Debug)]
pub struct Why<'a> {
    /// The kill.
    pub cause: &'a Cause,
    /// The signals that led to it.
    pub signals: &'a Signals,
    /// The thresholds they were compared with.
    pub tunables: &'a Tunables,
    /// The sample they were derived from.
    pub sample: &'a Sample,
    /// The kernel's page size.
    pub page: PageSize,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, signals, tunables, sample, page } = *self;
        let facts = Facts { signals, tunables, page };
        match (cause.reason, Rule::of(cause.reason)) {
            (KillReason::Vendor(reason), _) => write!(f, "the vendor's kernel asks ({reason})")?,
            (KillReason::Minfree, _) | (_, None) => {
                let free = MinfreeTable::other_free(&sample.meminfo, &signals.watermarks);
                let file = MinfreeTable::other_file(&sample.meminfo);
                let (free, file) = (free.to_kib(page), file.to_kib(page));
                write!(f, "free memory {free}kB and file cache {file}kB are below ")?;
                write!(f, "a minfree level")?;
            }
            (_, Some(rule)) => {
                for (i, condition) in rule.conditions.iter().enumerate() {
                    let and = if i == 0 { "" } else { ", " };
                    write!(f, "{and}{}", condition.said(facts, true))?;
                }
            }
        }
        if signals.exhausted {
            let file = signals.file_cache.to_kib(page);
            let swap = sample.meminfo.swap_free.to_kib(page);
            write!(f, ", nothing left to reclaim (file cache {file}kB + free swap {swap}kB < ")?;
            write!(f, "high watermark {}kB)", signals.watermarks.high.to_kib(page))?;
        }
        if let (true, Some(stall)) = (signals.critical_stall, sample.stall) {
            let (whole, part) = (stall.full_avg10_centi / 100, stall.full_avg10_centi % 100);
            write!(f, ", all tasks stalled {whole}.{part:02}% of 10s > ")?;
            write!(f, "{}%", tunables.stall_limit_critical)?;
        }
        Ok(())
    }
}
