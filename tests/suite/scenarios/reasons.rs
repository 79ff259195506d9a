//! Each reason to kill, brought about for real and told by its number in the daemon's event records.

use crate::remote::is;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::end;
use crate::scenarios::tunables::with;
use crate::scenarios::BASE;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "reason-after-kill",
        title: "a kill that does not help: reason 0",
        swap: Swap::Off,
        script: after_kill,
        ..BASE
    },
    Scenario {
        name: "reason-stall",
        title: "all tasks stand still: reason 1",
        script: stall,
        ..BASE
    },
    Scenario { name: "reason-swap", title: "the swap fills up: reason 3", script: swap, ..BASE },
    Scenario {
        name: "reason-thrashing",
        title: "file pages come back as fast as they go: reason 4 or 5",
        swap: Swap::Off,
        script: thrashing,
        ..BASE
    },
    Scenario {
        name: "anonymous-only",
        title: "neither swap nor file cache: nothing stalls, reason 8",
        core: true,
        swap: Swap::Off,
        script: anonymous_only,
        ..BASE
    },
];

/// Without the reasons that may come before thrashing: low memory alone, and a stall.
pub const ONLY_THRASHING: &[(&str, &str)] =
    &[("psi_complete_stall_ms", "0"), ("lowmem_min_oom_score", "1001")];

/// The numbers of this scenario's reasons.
fn reasons(run: &Run<'_>) -> Result<Vec<i64>> {
    Ok(records(run)?.into_iter().map(|(_, reason)| reason).collect())
}

/// What the kill line of a reason says, digits as #.
fn words(reason: i64) -> &'static [&'static str] {
    match reason {
        0 => &["right after a kill", "free memory #kB < min watermark #kB"],
        1 => &["all tasks stalled #ms of #ms"],
        3 => &["free memory #kB < low watermark #kB", "free swap #kB < #kB"],
        4 => &["free memory #kB < low watermark #kB", "thrashing #% > #%"],
        5 => &["in direct reclaim", "thrashing #% > #%"],
        8 => &["free memory #kB < low watermark #kB"],
        _ => &[],
    }
}

/// Each kill line has the numbers of the reason that its record has.
fn lines_fit(run: &mut Run<'_>) -> Result<()> {
    let log = run.own_log()?;
    let mut wrong = Vec::new();
    for (pid, reason) in records(run)? {
        let sign = format!("({pid}), uid ");
        let line = log.iter().rfind(|line| line.contains("Kill '") && line.contains(&sign));
        let line = without_numbers(line.map_or("", String::as_str));
        if !words(reason).iter().all(|words| line.contains(words)) {
            wrong.push(format!("{reason}: {line}"));
        }
    }
    run.check("each kill line has its reason's numbers", wrong.is_empty(), wrong.join("; "));
    Ok(())
}

/// Each number as one #.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for letter in line.chars() {
        match letter {
            '0'..='9' if text.ends_with('#') => {}
            '0'..='9' => text.push('#'),
            _ => text.push(letter),
        }
    }
    text
}

/// Process and reason of each kill of this scenario: the first and the sixth value of a record,
/// `killinfo: [PID,UID,...]`.
fn records(run: &Run<'_>) -> Result<Vec<(i64, i64)>> {
    let events = run.remote.since(run.mark);
    let ours: Vec<i64> = events
        .iter()
        .filter(|event| is(event, "app"))
        .filter_map(|event| event["pid"].as_i64())
        .collect();
    let mut reasons = Vec::new();
    for line in run.own_records()? {
        let Some((_, list)) = line.split_once("killinfo") else { continue };
        let list = list.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
        let (list, _) = list.with_context(|| format!("no list in {line:?}"))?;
        let values: Vec<&str> = list.split(',').collect();
        let pid: i64 = values[0].parse().context("pid")?;
        // The device may have others to kill.
        if ours.contains(&pid) {
            anyhow::ensure!(values.len() == 38, "{} values in {line:?}", values.len());
            reasons.push((pid, values[5].parse().context("reason")?));
        }
    }
    Ok(reasons)
}

fn seen(run: &mut Run<'_>, any_of: &[i64]) -> Result<()> {
    let reasons = reasons(run)?;
    let seen = reasons.iter().any(|reason| any_of.contains(reason));
    run.check("the reason was seen", seen, format!("{reasons:?}, wanted {any_of:?}"));
    lines_fit(run)
}

/// Six apps, each a fourteenth of the memory.
fn six_apps(run: &mut Run<'_>) -> Result<u64> {
    let size = run.available_mib / 14;
    for adj in [900, 800, 700, 500, 400, 250] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    Ok(size)
}

/// kB that the kernel keeps free in that scenario: min and low watermarks so far apart that there is time between.
const RESERVE_KB: u64 = 80 << 10;

/// The first to go is small and does not exit; while it is waited for, free memory falls below the min watermark and
/// stays there: of what is left there is nothing to reclaim, and the hog stops.
fn after_kill(run: &mut Run<'_>) -> Result<()> {
    let reserve = "/proc/sys/vm/min_free_kbytes";
    let old = run.device.shell(&format!("cat {reserve}"))?;
    run.device.shell(&format!("echo {RESERVE_KB} >{reserve}"))?;
    let done = with(run, &[("kill_timeout_ms", "1500")], not_helped);
    run.device.shell(&format!("echo {} >{reserve}", old.trim()))?;
    done
}

fn not_helped(run: &mut Run<'_>) -> Result<()> {
    run.connect()?;
    // Only a task in a real-time class gets memory below the min watermark, a quarter of it, without reclaiming some.
    let hog = run.spawn(json!({"name": "hog", "mib": 0, "role": "grow", "sched": "fifo"}))?;
    let next = run.app("app-900", 900, 40)?;
    run.app("app-800", 800, 40)?;
    let special = run.app("special", 950, 1)?;
    run.hold("special", special)?;
    run.device.shell("echo 3 >/proc/sys/vm/drop_caches")?;
    // What counts as available ends at the high watermark, half of the reserve above the min watermark.
    let mark = run.remote.mark();
    let available = run.remote.wait("a sample", mark, Duration::from_secs(20), |event| {
        is(event, "sample").then(|| event["available_kb"].as_u64().unwrap_or(0) / 1024)
    })?;
    run.press(available + RESERVE_KB / 1024 * 5 / 8, 60, 0)?;
    // The first is waited for longer than a device has to be quiet for.
    run.remote.wait("the kill after it", run.mark, Duration::from_secs(20), |event| {
        ((is(event, "told") || is(event, "death")) && event["pid"] == next).then_some(())
    })?;
    run.settle()?;
    let victims = run.victims();
    run.check("the held one was first", victims.first().is_some_and(|name| name == "special"), "");
    run.release("special", special)?;
    // What the victims have left is on lists of the CPUs that freed it, and memory below the min watermark: for a shell
    // of adbd's, which is a fork, the kernel's OOM killer would have to make room.
    end(run, "hog", hog)?;
    seen(run, &[0])
}

fn stall(run: &mut Run<'_>) -> Result<()> {
    // The other reasons would make room before all tasks stand still.
    let tunables = [
        ("psi_complete_stall_ms", "70"),
        ("lowmem_min_oom_score", "1001"),
        ("swap_free_low_percentage", "0"),
        ("thrashing_limit", "100000"),
    ];
    with(run, &tunables, |run| {
        run.household(run.available_mib / 4)?;
        let size = six_apps(run)?;
        run.press(run.available_mib + 6 * size, 100, 3)?;
        seen(run, &[1])
    })
}

/// Without the reasons that may come before swap is low: a stall, and low memory alone.
fn swap(run: &mut Run<'_>) -> Result<()> {
    let others = [("psi_complete_stall_ms", "0"), ("lowmem_min_oom_score", "1001")];
    with(run, &others, |run| {
        run.household(40)?;
        let size = six_apps(run)?;
        run.press(run.available_mib + 8 * size, 25, 3)?;
        seen(run, &[3])
    })
}

fn thrashing(run: &mut Run<'_>) -> Result<()> {
    with(run, ONLY_THRASHING, |run| {
        run.household(run.available_mib * 4 / 10)?;
        let size = six_apps(run)?;
        run.press(run.available_mib + 6 * size, 25, 3)?;
        let reasons = reasons(run)?;
        let first = reasons.first().is_some_and(|reason| [4, 5].contains(reason));
        run.check("the first kill is for thrashing", first, format!("{reasons:?}"));
        run.check("low memory alone is no reason", !reasons.contains(&8), format!("{reasons:?}"));
        lines_fit(run)
    })
}

fn anonymous_only(run: &mut Run<'_>) -> Result<()> {
    run.household(0)?;
    let size = six_apps(run)?;
    run.device.shell("echo 3 >/proc/sys/vm/drop_caches")?;
    let wanted = (run.available_mib + 4 * size).saturating_sub(6 * size + 16);
    let grown = run.press(wanted, 25, 0)?;
    run.check("the hog reached its size", grown == wanted, format!("{grown} of {wanted} MiB"));
    let deaths = run.deaths();
    run.check("memory was made", deaths.len() >= 3, format!("{deaths:?}"));
    seen(run, &[8])
}
