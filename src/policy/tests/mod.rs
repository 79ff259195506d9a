#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod poller;
mod reasons;
mod windows;
mod words;
mod worked_examples;

use super::*;
use crate::clock::MonoTime;
use crate::config::Tunables;
use crate::kernel::Sample;
use crate::kernel::Stall;
use crate::kernel::Vmstat;
use crate::kernel::Watermarks;
use crate::units::PageSize;
use crate::units::Pages;

/// A policy with a machine to look at: 3000 pages above high, 9999 of file cache, no swap.
#[derive(Clone)]
struct Machine {
    policy: Policy,
    sample: Sample,
    t: Tunables,
    waiting: bool,
    frees: bool,
}

impl Machine {
    /// Looked at once, at 10 s.
    fn new(t: Tunables) -> Self {
        let marks = Watermarks {
            min: Pages(1000),
            low: Pages(2000),
            high: Pages(3000),
            total_reserve: Pages(3000),
        };
        let vmstat = Vmstat {
            nr_inactive_file: 5000,
            nr_active_file: 4999,
            pgscan_kswapd: 1,
            ..Vmstat::default()
        };
        let mut sample = Sample { vmstat, watermarks: Some(marks), ..Sample::default() };
        sample.meminfo.free = Pages(6000);
        let policy = Policy::new(PageSize::SMALL);
        let mut machine = Self { policy, sample, t, waiting: false, frees: true };
        assert_eq!(machine.look(10_000, Trigger::Poll).cause, None);
        machine
    }

    /// A look at `millis`, with kswapd at work since the last one and the kill if one is due.
    fn look(&mut self, millis: u64, trigger: Trigger) -> Verdict {
        let now = MonoTime::from_millis(millis);
        self.sample.now = now;
        self.sample.vmstat.pgscan_kswapd += 1;
        let admission = self.policy.admit(trigger, now, None, &self.t);
        assert!(matches!(admission, Admission::Evaluate { .. }), "{admission:?}");
        let verdict = self.policy.evaluate(trigger, &self.sample, &self.t);
        if let (Some(cause), true) = (verdict.cause, self.frees) {
            self.policy.note_kill(&cause, &self.t);
        }
        verdict
    }

    /// The kernel prints higher watermarks than before, and nothing is left to reclaim.
    fn boost(&mut self, pages: i64) {
        self.sample.vmstat.nr_active_file = 0;
        self.sample.vmstat.nr_inactive_file = 2999;
        let marks = self.sample.watermarks.as_mut().unwrap();
        for mark in [&mut marks.min, &mut marks.low, &mut marks.high] {
            *mark += Pages(pages);
        }
    }

    /// The reason and floor of a look, and the text of the kill line.
    fn kill(&mut self, millis: u64, trigger: Trigger) -> (KillReason, i32, String) {
        let verdict = self.look(millis, trigger);
        let (cause, signals) = (verdict.cause.unwrap(), verdict.signals.unwrap());
        let page = PageSize::SMALL;
        let (sample, tunables) = (&self.sample, &self.t);
        let why = Why { cause: &cause, signals: &signals, tunables, sample, page }.to_string();
        (cause.reason, cause.min_adj.get(), why)
    }

    fn plan(&self, trigger: Trigger) -> (PollRequest, Option<i64>) {
        let plan = self.policy.poll_plan(trigger, self.waiting);
        (plan.request, plan.interval_ms)
    }
}
