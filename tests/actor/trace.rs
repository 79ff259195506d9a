//! The kernel's own record of kills and deaths: tracefs, with the kernel's times.

use anyhow::Result;
use std::fs;

const TRACEFS: &str = "/sys/kernel/tracing";

/// What the kernel recorded, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGKILL sent by a process (not by the kernel) to this pid.
    Kill(u32),
    /// This process has given its memory back.
    Exit(u32),
    /// The kernel's OOM killer chose this pid, or found it dying already.
    OomKill(u32),
}

/// Starts recording from empty.
pub fn start() -> Result<()> {
    let set = |file: &str, value: &str| fs::write(format!("{TRACEFS}/{file}"), value);
    set("tracing_on", "0")?;
    set("trace", "")?;
    set("events/signal/signal_generate/filter", "sig == 9")?;
    // The reclaim events are for whoever reads the trace: what the daemon could have heard, and when.
    for event in [
        "signal/signal_generate",
        "sched/sched_process_exit",
        "oom/mark_victim",
        "vmscan/mm_vmscan_kswapd_wake",
        "vmscan/mm_vmscan_kswapd_sleep",
    ] {
        set(&format!("events/{event}/enable"), "1")?;
    }
    set("tracing_on", "1")?;
    Ok(())
}

/// Everything recorded since [`start`], with its time in microseconds.
pub fn read() -> Result<Vec<(u64, Event)>> {
    let text = fs::read_to_string(format!("{TRACEFS}/trace"))?;
    Ok(text.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<(u64, Event)> {
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name));
    let pid = || field("pid=")?.parse::<u32>().ok();
    let event = if line.contains(" signal_generate: ") {
        // SI_USER is 0; the kernel's own signals carry SI_KERNEL.
        (field("code=")? == "0").then_some(Event::Kill(pid()?))?
    } else if line.contains(" sched_process_exit: ") {
        Event::Exit(pid()?)
    } else if line.contains(" mark_victim: ") {
        Event::OomKill(pid()?)
    } else {
        return None;
    };
    let (seconds, micros) = line
        .split_whitespace()
        .find_map(|word| word.strip_suffix(':').and_then(|word| word.split_once('.')))?;
    let seconds: u64 = seconds.parse().ok()?;
    Some((seconds * 1_000_000 + micros.parse::<u64>().ok()?, event))
}
