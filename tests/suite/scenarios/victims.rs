//! Victims that are not easily killed, or not easily found.

use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::BASE;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "threads",
        title: "a victim with 64 threads",
        compared: true,
        swap: Swap::Off,
        script: threads,
        ..BASE
    },
    Scenario {
        name: "zombie-leader",
        title: "a victim whose leader has exited while its threads live",
        swap: Swap::Off,
        script: zombie_leader,
        ..BASE
    },
    Scenario {
        name: "unkillable",
        title: "a victim that does not exit",
        core: true,
        swap: Swap::Off,
        script: unkillable,
        ..BASE
    },
    Scenario {
        name: "starved",
        title: "a victim that gets no CPU",
        core: true,
        compared: true,
        swap: Swap::Off,
        script: starved,
        ..BASE
    },
    Scenario {
        name: "pid-reuse",
        title: "another process has a dead app's id",
        swap: Swap::Off,
        script: pid_reuse,
        ..BASE
    },
];

/// Longer than any victim took that had a CPU, on the slowest device tried.
const EXIT_LIMIT_MS: u64 = 1000;

/// A stage whose first victim is `special`. Returns its process.
fn with_special(run: &mut Run<'_>, mut special: Value) -> Result<u32> {
    run.household(30)?;
    let size = run.available_mib / 12;
    special["name"] = "special".into();
    special["adj"] = 950.into();
    special["mib"] = (2 * size).into();
    let pid = run.spawn(special)?;
    for adj in [900, 800, 700] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    Ok(pid)
}

/// It got one SIGKILL of the daemon, before anybody else.
fn was_first(run: &mut Run<'_>, pid: u32) -> Option<u64> {
    let signals = run.signals(pid);
    run.check("it got one SIGKILL", signals.len() == 1, format!("{} signals", signals.len()));
    signals.first().map(|(us, _)| *us)
}

fn was_quick(run: &mut Run<'_>, pid: u32) {
    let signal = was_first(run, pid);
    let latency =
        run.died(pid).zip(signal).map(|(died, signal)| died.saturating_sub(signal) / 1000);
    let quick = latency.is_some_and(|latency| latency < EXIT_LIMIT_MS);
    run.check("it was gone within a second", quick, format!("{latency:?} ms"));
}

fn threads(run: &mut Run<'_>) -> Result<()> {
    let pid = with_special(run, json!({"threads": 64}))?;
    run.press(run.available_mib, 60, 1)?;
    was_quick(run, pid);
    Ok(())
}

fn zombie_leader(run: &mut Run<'_>) -> Result<()> {
    let pid = with_special(run, json!({"role": "zombie"}))?;
    run.press(run.available_mib, 60, 1)?;
    was_quick(run, pid);
    Ok(())
}

fn unkillable(run: &mut Run<'_>) -> Result<()> {
    let pid = with_special(run, json!({}))?;
    run.remote.order(json!({"do": "hold", "name": "special"}))?;
    run.press(run.available_mib, 60, 1)?;
    let first = was_first(run, pid);
    run.check("it did not exit", run.died(pid).is_none(), "");
    let deaths = run.deaths();
    run.check(
        "the next one made room",
        deaths.first().is_some_and(|dead| dead == "app-900"),
        format!("{deaths:?}"),
    );
    run.check("the daemon waited for it first", first.is_some(), "");
    run.remote.order(json!({"do": "release", "name": "special"}))?;
    std::thread::sleep(Duration::from_secs(1));
    run.check("released, it exits", run.died(pid).is_some(), "");
    Ok(())
}

fn starved(run: &mut Run<'_>) -> Result<()> {
    let pid = with_special(run, json!({"role": "idle"}))?;
    let cpus: u32 = run.device.shell("nproc")?.trim().parse()?;
    for number in 0..cpus {
        run.spawn(json!({"name": format!("spinner-{number}"), "mib": 0, "role": "spin"}))?;
    }
    run.press(run.available_mib, 60, 1)?;
    was_quick(run, pid);
    Ok(())
}

fn pid_reuse(run: &mut Run<'_>) -> Result<()> {
    run.household(30)?;
    let size = run.available_mib / 12;
    let dead = run.app("short-lived", 950, size)?;
    run.remote.order(json!({"do": "end", "names": ["short-lived"]}))?;
    let mark = run.mark;
    run.remote.wait("its end", mark, Duration::from_secs(20), |event| {
        (event["event"] == "death" && event["pid"] == dead).then_some(())
    })?;
    // Nobody has registered this one.
    let innocent = json!({"do": "reuse", "pid": dead, "name": "innocent", "mib": size, "adj": 0, "register": false});
    let reused = run.remote.order(innocent)?["pid"].as_u64();
    run.check(
        "the id was reused",
        reused == Some(u64::from(dead)),
        format!("{dead} and {reused:?}"),
    );
    for adj in [900, 800, 700] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    run.press(run.available_mib + 4 * size, 60, 2)?;
    let signals = run.signals(dead);
    run.check("the innocent process was left alone", signals.is_empty(), format!("{signals:?}"));
    let deaths = run.deaths();
    run.check(
        "the registered ones died",
        deaths.iter().all(|name| name.starts_with("app-")),
        format!("{deaths:?}"),
    );
    Ok(())
}
