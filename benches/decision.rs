//! The time of one decision without I/O: admission, evaluation, polling plan.
#![allow(missing_docs, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::time::Instant;

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::kernel::Watermarks;
use lmkd::policy::Level;
use lmkd::policy::Policy;
use lmkd::policy::Trigger;
use lmkd::units::PageSize;
use lmkd::units::Pages;

const ROUNDS: u32 = 200_000;
const REPEATS: usize = 15;

fn main() {
    println!("{:<44} {:>10} {:>10}", "decision (target: under 2000 ns)", "median ns", "worst ns");
    row("poll, nothing new", 6000, Trigger::Poll, false);
    row("poll, all ten rules looked at, no kill", 6000, Trigger::Poll, true);
    row("medium event, kill for low memory", 1999, Trigger::Event(Level::Medium), true);
    row("critical event, kill", 999, Trigger::Event(Level::Critical), true);
    row("kswapd wake-up", 1999, Trigger::KswapdWake, true);
}

/// Times `ROUNDS` decisions `REPEATS` times over; prints the median and the worst mean.
fn row(name: &str, free: i64, trigger: Trigger, busy: bool) {
    let mut times: Vec<f64> = (0..REPEATS).map(|_| time(free, trigger, busy)).collect();
    times.sort_by(f64::total_cmp);
    let worst = times.last().copied().unwrap_or(0.0);
    let median = times.get(REPEATS / 2).copied().unwrap_or(0.0);
    println!("{name:<44} {median:>10.1} {worst:>10.1}");
}

fn time(free: i64, trigger: Trigger, busy: bool) -> f64 {
    let t = Tunables { swap_util_max: 50, filecache_min_kb: 4096, ..Tunables::default() };
    let mut policy = Policy::new(PageSize::SMALL);
    let mut sample = Sample::default();
    sample.meminfo.free = Pages(free);
    sample.meminfo.swap_total = Pages(10_000);
    sample.meminfo.swap_free = Pages(5000);
    sample.meminfo.inactive_file = Pages(10_000);
    sample.vmstat.nr_active_file = 10_000;
    sample.watermarks = Some(Watermarks {
        min: Pages(1000),
        low: Pages(2000),
        high: Pages(3000),
        total_reserve: Pages(3000),
    });
    let start = Instant::now();
    for round in 0..ROUNDS {
        sample.now = MonoTime::from_millis(u64::from(round).saturating_mul(100));
        if busy {
            sample.vmstat.pgscan_kswapd = i64::from(round).saturating_add(1);
        }
        let sample = black_box(&sample);
        policy.admit(trigger, sample.now, None, &t);
        let verdict = black_box(policy.evaluate(trigger, sample, &t));
        if let Some(cause) = verdict.cause {
            policy.note_kill(&cause, &t);
        }
        black_box(policy.poll_plan(trigger, false));
    }
    start.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}
