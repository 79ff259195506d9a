//! The reasons to kill, in order: the first rule whose conditions all hold decides.

use super::Cause;
use super::Condition;
use super::Facts;
use super::KillReason;
use super::Signals;
use super::Wmark;
use crate::config::Tunables;
use crate::oom_score_adj::OomScoreAdj;

/// A reason to kill, with everything that belongs to it.
#[derive(Debug)]
pub struct Rule {
    /// What the kill is reported as.
    pub reason: KillReason,
    /// What must hold, all of it.
    pub conditions: &'static [Condition],
    /// Down to which adj it kills.
    floor: Floor,
    /// What else follows if it decides.
    then: Then,
}

/// The lowest adj that a rule may kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Floor {
    /// 0.
    Foreground,
    /// 201.
    AbovePerceptible,
    /// 201 while thrashing is under `thrashing_limit_critical`, else 0.
    ByThrashing,
    /// As `ByThrashing`, but 0 below the min watermark too.
    ByThrashingAndMin,
    /// `pressure_after_kill_min_score`.
    AfterKill,
    /// `lowmem_min_oom_score`.
    LowMem,
}

/// What a rule changes beyond the kill itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    /// From now on a small file cache is a reason too.
    WatchFilecache,
    /// That, and a successful kill lowers the thrashing limit.
    WatchFilecacheAndCutLimit,
}

use Condition as C;
use Then::Nothing;

/// All rules, in order.
#[rustfmt::skip]
pub static RULES: [Rule; 10] = [
    // A kill did not help: memory is still below min.
    rule(KillReason::PressureAfterKill, &[C::AfterKill, C::BelowMin], Floor::AfterKill, Nothing),
    // All tasks stand still: the device is about to seem dead.
    rule(KillReason::NotResponding, &[C::CriticalEvent], Floor::Foreground, Nothing),
    // Little swap to move memory to, and the file cache pays for it.
    rule(KillReason::LowSwapAndThrashing, &[C::SwapLow, C::ThrashingOverSetLimit],
        Floor::ByThrashingAndMin, Then::WatchFilecache),
    // Little swap and little memory.
    rule(KillReason::LowMemAndSwap, &[C::SwapLow, C::BelowLow], Floor::ByThrashingAndMin, Nothing),
    // Swap is free, but what is not in it yet cannot go there.
    rule(KillReason::LowMemAndSwapUtil, &[C::BelowLow, C::SwapUsed], Floor::Foreground, Nothing),
    // Little memory, and file pages come back as fast as they are dropped.
    rule(KillReason::LowMemAndThrashing, &[C::BelowLow, C::ThrashingOverLimit],
        Floor::ByThrashing, Then::WatchFilecacheAndCutLimit),
    // The same with tasks reclaiming for themselves, whatever the watermarks.
    rule(KillReason::DirectReclaimAndThrashing, &[C::DirectReclaim, C::ThrashingOverLimit],
        Floor::ByThrashing, Then::WatchFilecacheAndCutLimit),
    // One task finds nothing to reclaim, and hangs.
    rule(KillReason::DirectReclaimStuck, &[C::DirectReclaim, C::DirectReclaimLong],
        Floor::Foreground, Nothing),
    // Thrashing has ended because hardly any file cache is left to thrash.
    rule(KillReason::LowFilecacheAfterThrashing, &[C::FilecacheWatched, C::FilecacheSmall],
        Floor::AbovePerceptible, Nothing),
    // Little memory, and nothing worse: only what hardly matters goes.
    rule(KillReason::LowMem, &[C::BelowLow, C::LowMemKillsOn], Floor::LowMem, Nothing),
];

const fn rule(
    reason: KillReason,
    conditions: &'static [Condition],
    floor: Floor,
    then: Then,
) -> Rule {
    Rule { reason, conditions, floor, then }
}

impl Rule {
    /// The first condition that does not hold; None if the rule applies.
    #[must_use]
    pub fn first_failing(&self, facts: &Facts) -> Option<Condition> {
        self.conditions.iter().copied().find(|condition| !condition.holds(facts))
    }

    /// The rule that a kill with this reason came from, if it came from one.
    #[must_use]
    pub fn of(reason: KillReason) -> Option<&'static Self> {
        RULES.iter().find(|rule| rule.reason == reason)
    }

    /// The lowest adj that it would kill at, were it to decide. None if its floor is above any adj,
    /// so that nobody may be killed.
    #[must_use]
    pub fn min_adj(&self, facts: &Facts) -> Option<OomScoreAdj> {
        self.cause(facts).map(|cause| cause.min_adj)
    }

    /// Whether it demands a breached watermark.
    #[must_use]
    pub fn is_about_watermarks(&self) -> bool {
        self.conditions.iter().any(|condition| condition.is_watermark())
    }

    /// Whether a small file cache becomes a reason once this rule has decided.
    pub(super) fn watches_filecache(&self) -> bool {
        self.then != Nothing
    }

    /// The kill it asks for. None if its floor is above any adj, so that nobody may be killed.
    pub(super) fn cause(&self, facts: &Facts) -> Option<Cause> {
        // With nothing left to reclaim the kernel's OOM killer is next, which spares nobody.
        let floor = if facts.signals.critical_stall || facts.signals.exhausted {
            0
        } else {
            self.floor.adj(facts.signals, facts.tunables).max(0)
        };
        let min_adj = OomScoreAdj::new(i32::try_from(floor).ok()?)?;
        let cut_thrashing_limit = self.then == Then::WatchFilecacheAndCutLimit;
        Some(Cause { reason: self.reason, min_adj, cut_thrashing_limit })
    }
}

impl Floor {
    fn adj(self, s: &Signals, t: &Tunables) -> i64 {
        let foreground = i64::from(OomScoreAdj::FOREGROUND.get());
        let above_perceptible = i64::from(OomScoreAdj::ABOVE_PERCEPTIBLE.get());
        let mild = s.thrashing < t.thrashing_limit_critical;
        match self {
            Self::Foreground => foreground,
            Self::AbovePerceptible => above_perceptible,
            Self::ByThrashing if mild => above_perceptible,
            Self::ByThrashingAndMin if mild && s.wmark > Wmark::Min => above_perceptible,
            Self::ByThrashing | Self::ByThrashingAndMin => foreground,
            Self::AfterKill => t.pressure_after_kill_min_score,
            Self::LowMem => t.lowmem_min_oom_score,
        }
    }
}
