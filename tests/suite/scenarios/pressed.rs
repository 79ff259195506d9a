//! How hard a scenario has pressed.

use crate::remote::is;
use crate::run::Run;

/// For how many microseconds of the samples from `mark` on at least one task stood still for want of memory.
pub fn stalled_us(run: &Run<'_>, mark: usize) -> u64 {
    let events = run.remote.since(mark);
    let samples = events.iter().filter(|event| is(event, "sample"));
    let mut totals = samples.filter_map(|sample| sample["some_us"].as_u64());
    let first = totals.next().unwrap_or(0);
    totals.next_back().unwrap_or(first).saturating_sub(first)
}

/// MiB a second that the hog took, which was told to grow at `mark`: its orders are answered at once.
pub fn hogs_speed(run: &Run<'_>, mark: usize, mib: u64) -> u64 {
    let events = run.remote.since(mark);
    let time = |kind| events.iter().find(|event| is(event, kind))?["us"].as_u64();
    let took = time("done").zip(time("grown")).map_or(0, |(start, end)| end.saturating_sub(start));
    mib.saturating_mul(1_000_000).checked_div(took).unwrap_or(0)
}
