//! From admission to the text of the reason, a decision never touches the heap.
#![allow(missing_docs, clippy::unwrap_used)]

mod heap;

use heap::without_the_heap;
use std::fmt;
use std::fmt::Write;

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::kernel::Stall;
use lmkd::kernel::Watermarks;
use lmkd::policy::KillReason;
use lmkd::policy::Level;
use lmkd::policy::MinfreeTable;
use lmkd::policy::Policy;
use lmkd::policy::Trigger;
use lmkd::policy::Why;
use lmkd::units::PageSize;
use lmkd::units::Pages;

/// Counts what is written to it.
struct Length(usize);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = self.0.saturating_add(text.len());
        Ok(())
    }
}

#[test]
fn a_thousand_decisions_allocate_nothing() {
    let t = Tunables { swap_util_max: 50, filecache_min_kb: 4096, ..Tunables::default() };
    let page = PageSize::SMALL;
    let mut policy = Policy::new(page);
    let mut sample =
        Sample { stall: Some(Stall { full_avg10_centi: 10_001 }), ..Sample::default() };
    let marks = Watermarks {
        min: Pages(100),
        low: Pages(200),
        high: Pages(300),
        total_reserve: Pages(300),
    };
    sample.watermarks = Some(marks);
    sample.meminfo.swap_total = Pages(100_000);
    policy.set_minfree(MinfreeTable::from_pairs([(18_432, 0), (80_640, 950)]));
    let minfree = Tunables { use_minfree_levels: true, ..t.clone() };
    let triggers = [
        Trigger::Poll,
        Trigger::Event(Level::Critical),
        Trigger::Vendor { reason: 7, min_adj: 900 },
        Trigger::KswapdWake,
        Trigger::Poll,
    ];
    let (mut vendor, mut levels) = (0, 0);
    let (mut kills, mut text) = (0, Length(0));
    let rounds = (0_u8..=249).cycle().zip(triggers.iter().copied().cycle()).take(1000);
    let mut decide = |(round, trigger): (u8, Trigger)| {
        let now = sample.now.plus_millis(150);
        sample.now = now;
        sample.vmstat.refault += i64::from(round) * 10;
        sample.vmstat.nr_active_file = i64::from(round);
        sample.meminfo.free = Pages(i64::from(round) * 2);
        let t = if round % 3 == 0 { &minfree } else { &t };
        policy.admit(trigger, now, Some(MonoTime::ZERO), t);
        let verdict = policy.evaluate(trigger, &sample, t);
        if let (Some(cause), Some(signals)) = (verdict.cause, verdict.signals) {
            kills += 1;
            vendor += u32::from(matches!(cause.reason, KillReason::Vendor(7)));
            levels += u32::from(cause.reason == KillReason::Minfree);
            let (cause, signals, tunables, sample) = (&cause, &signals, t, &sample);
            write!(text, "{}", Why { cause, signals, tunables, sample, page }).unwrap();
            policy.note_kill(cause, t);
        }
        let _ = policy.poll_plan(trigger, round % 2 == 0);
    };
    without_the_heap(|| rounds.for_each(&mut decide));
    assert!(kills > 500 && text.0 > 10_000, "the decisions were not reached: {kills}");
    assert!(vendor >= 100 && levels >= 100, "{vendor} for a vendor, {levels} by levels");
}
