//! Victims that are not easily killed, or not easily found.

use crate::judge::KILL_TIMEOUT_MS;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::end;
use crate::scenarios::small_apps;
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

/// A starved victim that nobody helps takes longer, even on a device that does nothing else; one that has a CPU does
/// not, even on a device that is an emulator on a busy machine.
const EXIT_LIMIT_MS: u64 = 3000;

/// A stage whose first victim is `special`. Returns its process, and that of the next victim, app-900.
fn with_special(run: &mut Run<'_>, mut special: Value) -> Result<(u32, u32)> {
    run.household(30)?;
    let size = run.available_mib / 12;
    special["name"] = "special".into();
    special["adj"] = 950.into();
    special["mib"] = (2 * size).into();
    let pid = run.spawn(special)?;
    let next = run.app("app-900", 900, size)?;
    for adj in [800, 700] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    Ok((pid, next))
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
    run.check("it was gone within 3 s", quick, format!("{latency:?} ms"));
}

fn threads(run: &mut Run<'_>) -> Result<()> {
    let (pid, _) = with_special(run, json!({"threads": 64}))?;
    run.press(run.available_mib, 60, 1)?;
    was_quick(run, pid);
    Ok(())
}

fn zombie_leader(run: &mut Run<'_>) -> Result<()> {
    let (pid, _) = with_special(run, json!({"role": "zombie"}))?;
    run.press(run.available_mib, 60, 1)?;
    was_quick(run, pid);
    Ok(())
}

fn unkillable(run: &mut Run<'_>) -> Result<()> {
    let (pid, next) = with_special(run, json!({}))?;
    run.hold("special", pid)?;
    run.press(run.available_mib, 60, 1)?;
    let first = was_first(run, pid);
    let second = run.signals(next).first().map(|(us, _)| *us);
    run.check("it did not exit", run.died(pid).is_none(), "");
    let victims = run.victims();
    let made_room =
        victims.get(1).is_some_and(|name| name == "app-900") && run.died(next).is_some();
    run.check("the next one made room", made_room, format!("{victims:?}"));
    let waited = first.zip(second).map(|(first, second)| second.saturating_sub(first));
    let waited = waited.map(|us| Duration::from_micros(us).as_secs_f64() * 1000.0);
    let ok = waited.is_some_and(|waited| waited >= KILL_TIMEOUT_MS);
    run.check("the daemon waited for the first", ok, format!("{waited:?} ms"));
    let exits = run.release("special", pid);
    run.check("released, it exits", exits.is_ok(), format!("{exits:?}"));
    Ok(())
}

fn starved(run: &mut Run<'_>) -> Result<()> {
    let (pid, _) = with_special(run, json!({"sched": "idle"}))?;
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
    let mut ids = Vec::new();
    // Another process of the device may be given the id first.
    while ids.len() < 5 && ids.last().is_none_or(|(dead, reused)| dead != reused) {
        if !ids.is_empty() {
            end(run, "innocent", ids[ids.len() - 1].1)?;
        }
        let dead = run.app("short-lived", 950, size)?;
        end(run, "short-lived", dead)?;
        // Nobody has registered this one.
        let innocent = json!({"do": "reuse", "pid": dead, "name": "innocent", "mib": size, "adj": 0, "register": false});
        let reused = run.remote.order(innocent)?["pid"].as_u64().unwrap_or(0);
        ids.push((dead, u32::try_from(reused)?));
    }
    let Some((dead, reused)) = ids.last().copied() else { return Ok(()) };
    run.check("the id was reused", dead == reused, format!("{ids:?}"));
    for adj in [900, 800, 700] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    small_apps(run, &[500, 300])?;
    run.press(run.available_mib + 4 * size, 60, 2)?;
    let signals = run.signals(dead);
    run.check("the innocent process was left alone", signals.is_empty(), format!("{signals:?}"));
    let deaths = run.deaths();
    run.check(
        "the registered ones died",
        deaths.len() >= 2 && deaths.iter().all(|name| name.starts_with("app-")),
        format!("{deaths:?}"),
    );
    Ok(())
}
