#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

use super::*;
use crate::clock::MonoTime;
use crate::config::Tunables;
use crate::kernel::Sample;
use crate::kernel::Watermarks;
use crate::units::PageSize;
use crate::units::Pages;

#[test]
fn reason_1_not_responding() {
    let mut policy = Policy::new(PageSize::SMALL);
    let t = Tunables::default();
    let trigger = Trigger::Event(Level::Critical);
    let now = MonoTime::from_millis(5000);
    assert_eq!(policy.admit(trigger, now, None, &t), Admission::Evaluate { watermarks: true });
    let mut sample = Sample { now, ..Sample::default() };
    sample.vmstat.pgscan_kswapd = 1;
    sample.meminfo.free = Pages(100);
    sample.watermarks = Some(Watermarks {
        min: Pages(10),
        low: Pages(20),
        high: Pages(30),
        total_reserve: Pages(30),
    });
    let verdict = policy.evaluate(trigger, &sample, &t);
    assert_eq!(verdict.cause.map(|cause| cause.reason), Some(KillReason::NotResponding));
}
