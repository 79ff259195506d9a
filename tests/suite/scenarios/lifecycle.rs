//! The daemon starts, restarts, changes its mind, and is asked to wait, while memory runs out.

use crate::remote::is;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::pressed::stalled_us;
use crate::scenarios::small_apps;
use crate::scenarios::tunables::keeping;
use crate::scenarios::tunables::property;
use crate::scenarios::tunables::with;
use crate::scenarios::BASE;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "restart",
        title: "the daemon is killed under load; init restarts it, clients reconnect",
        // Without a daemon for seconds the kernel's OOM killer may come: with pages of 16 KiB and boosted
        // watermarks it did.
        core: false,
        restarts_daemon: true,
        script: restart,
        ..BASE
    },
    Scenario {
        name: "reinit",
        title: "tunables change while it kills",
        core: true,
        swap: Swap::Off,
        script: reinit,
        ..BASE
    },
    Scenario {
        name: "delay-monitors",
        title: "pressure is not watched before the boot is over",
        // Elsewhere the end of boot, when it is set a second time, starts all that a framework does then.
        needs: Some((
            "test -z \"$(getprop ro.build.fingerprint)\"",
            "a device without a framework of its own",
        )),
        restarts_daemon: true,
        script: delay_monitors,
        ..BASE
    },
    Scenario {
        name: "log-lines",
        title: "kill and reap are logged within 200 ms",
        core: true,
        swap: Swap::Off,
        script: log_lines,
        ..BASE
    },
];

const ADJS: [i32; 6] = [950, 900, 800, 700, 500, 200];

fn six_apps(run: &mut Run<'_>) -> Result<u64> {
    let size = run.available_mib / 14;
    for adj in ADJS {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    Ok(size)
}

/// Waits until the daemon has said one of these in this scenario.
fn said(run: &Run<'_>, any_of: &[&str]) -> Result<bool> {
    for _ in 0..20 {
        if run.own_log()?.iter().any(|line| any_of.iter().any(|words| line.contains(words))) {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(false)
}

fn restart(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let size = six_apps(run)?;
    let old = run.pid;
    let before = run.mark;
    let mut back = None;
    // init waits 5 s before it starts a service again; what is taken until then has to fit into the
    // room that the first kills have made.
    run.press_meanwhile(run.available_mib + 6 * size, 10, 4, |run| {
        run.remote.wait("a first kill", before, Duration::from_secs(60), |event| {
            is(event, "told").then_some(())
        })?;
        let mark = run.remote.mark();
        run.device.shell(&format!("kill -9 {old}"))?;
        run.note("the daemon is killed");
        let limit = Duration::from_secs(30);
        let connected = |event: &Value| is(event, "connected").then(|| event["us"].as_u64());
        back = run.remote.wait("the reconnection", mark, limit, connected)?;
        run.note("system_server is back");
        run.is_new()?;
        // Priorities reappear as apps change state.
        let dead = run.deaths();
        let left = ADJS.map(|adj| (format!("app-{adj}"), adj));
        let left: Vec<_> = left.iter().filter(|(name, _)| !dead.contains(name)).collect();
        for (name, adj) in left {
            let _ = run.remote.order(json!({"do": "rank", "apps": [[name, adj]]}));
        }
        run.remote
            .order(json!({"do": "rank", "apps": [["foreground", 0], ["system_server", -900]]}))?;
        Ok(())
    })?;
    run.check("init has restarted the daemon", run.pid != old, format!("{old}, then {}", run.pid));
    let kills = back.map(|back| run.victims_since(back)).unwrap_or_default();
    run.check("it kills again", !kills.is_empty(), format!("{kills:?}"));
    Ok(())
}

fn reinit(run: &mut Run<'_>) -> Result<()> {
    keeping(run, &["debug", "psi_partial_stall_ms"], reloaded)
}

fn reloaded(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let size = six_apps(run)?;
    let mark = run.remote.mark();
    run.press_meanwhile(run.available_mib + 6 * size, 15, 5, |run| {
        run.remote.wait("a first kill", mark, Duration::from_secs(60), |event| {
            is(event, "told").then_some(())
        })?;
        run.device.set_property(&property("debug"), "true")?;
        // init's trigger has the daemon read its properties again, each time, and a new threshold has it
        // arm its monitors anew.
        let stall = property("psi_partial_stall_ms");
        for round in 0..200 {
            run.device.set_property(&stall, if round % 2 == 0 { "80" } else { "70" })?;
            if run.remote.since(mark).iter().any(|event| is(event, "grown")) {
                break;
            }
        }
        run.device.set_property(&stall, "70")
    })?;
    run.check("memory was made", run.deaths().len() >= 5, format!("{:?}", run.deaths()));
    let log = run.own_log()?;
    let armed = |line: &String| line.contains("monitors armed");
    let (first, last) = (log.iter().position(armed), log.iter().rposition(armed));
    let during = first.zip(last).and_then(|(first, last)| log.get(first..last));
    let kills = during.unwrap_or_default().iter().filter(|line| line.contains("Kill '")).count();
    run.check("it killed between two reloads", kills > 0, format!("{kills} kills"));
    let lines_of_debug = said(run, &["Process got killed in"])?;
    run.check("the new tunables are in force", lines_of_debug, "");
    Ok(())
}

fn delay_monitors(run: &mut Run<'_>) -> Result<()> {
    // It is read at the daemon's start.
    with(run, &[("delay_monitors_until_boot", "true")], |run| {
        run.device.set_property("sys.boot_completed", "0")?;
        let done = run.restart_daemon().and_then(|()| delayed(run));
        run.device.set_property("sys.boot_completed", "1")?;
        done
    })
}

/// Microseconds of a stall that a daemon would have been woken up for, on any device.
const STALL_US: u64 = 200_000;

fn delayed(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let size = six_apps(run)?;
    // What counts as available ends at the low watermark: a little more is pressure, and no disaster.
    let first = run.available_mib.saturating_sub(6 * size + 40 + 16) + 6;
    let mark = run.remote.mark();
    run.press(first, 25, 0)?;
    let stalled = stalled_us(run, mark);
    run.check("there was pressure during the boot", stalled > STALL_US, format!("{stalled} us"));
    let early = run.deaths();
    run.check("nobody was killed during the boot", early.is_empty(), format!("{early:?}"));
    run.device.set_property("sys.boot_completed", "1")?;
    run.remote.order(json!({"do": "start_monitoring"}))?;
    run.note("the boot is over");
    run.press(run.available_mib, 25, 1)?;
    let late = run.deaths();
    run.check("afterwards the daemon kills", !late.is_empty(), format!("{late:?}"));
    Ok(())
}

/// Seconds from the line of a kill to that of the reap, at most, in AOSP's device tests.
const LINES_APART: f64 = 0.2;

/// The seconds of `Process PID was reaped in Nms` where the kernel's reap alone has taken longer than that: a host that
/// takes the CPU away, in the middle of a system call, is not the daemon's. What it adds itself keeps the limit.
fn hosts_share(line: &str) -> Option<f64> {
    let (_, ms) = line.split_once(" was reaped in ")?;
    let ms: f64 = ms.trim().strip_suffix("ms")?.parse().ok()?;
    Some(ms / 1000.0).filter(|seconds| *seconds > LINES_APART)
}

fn log_lines(run: &mut Run<'_>) -> Result<()> {
    with(run, &[("debug", "true")], logged)
}

fn logged(run: &mut Run<'_>) -> Result<()> {
    run.household(30)?;
    let size = run.available_mib / 8;
    let pid = run.app("app-1000", 1000, size)?;
    run.app("app-900", 900, size)?;
    small_apps(run, &[800, 700, 500, 300])?;
    run.press(run.available_mib, 50, 1)?;
    // The second if it has exited before, or gets no CPU to let go of its memory.
    let reaps =
        [format!("Process {pid} was reaped in "), format!("process_mrelease {pid} failed: ")];
    let reaps = reaps.each_ref().map(String::as_str);
    said(run, &reaps)?;
    // The times of the daemon's own: those of a host that asks for the log are another thing.
    let text = run.device.shell("logcat -d -v epoch -s lowmemorykiller")?;
    let line =
        |words: &[&str]| text.lines().rfind(|line| words.iter().any(|words| line.contains(words)));
    let time = |line: &str| line.split_whitespace().next()?.parse::<f64>().ok();
    let kill = line(&[&format!("Kill 'app-1000' ({pid})")]);
    let sizes = kill.is_some_and(|line| {
        line.contains(" to free ") && line.contains("kB rss, ") && line.contains("kB swap")
    });
    run.check("the kill line is there, with its sizes", sizes, kill.unwrap_or_default());
    let reaped = line(&reaps);
    run.check("the reap line is there", reaped.is_some(), reaped.unwrap_or_default());
    let took = kill.and_then(time).zip(reaped.and_then(time)).map(|(kill, reap)| reap - kill);
    let limit = LINES_APART + reaped.and_then(hosts_share).unwrap_or(0.0);
    let quick = took.is_some_and(|took| (0.0..=limit).contains(&took));
    let detail = format!("{took:?} s, {limit} s at most");
    run.check("the reap line comes within 200 ms", quick, detail);
    let events = run.remote.since(run.mark);
    let told = events.iter().position(|event| is(event, "told") && event["pid"] == pid);
    let stat = events.iter().position(|event| is(event, "stat") && event["adj"] == 1000);
    let first = stat.is_some() && stat < told;
    run.check("statistics come before the notice", first, format!("{stat:?}, {told:?}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reap_that_takes_longer_than_the_limit_extends_it() {
        let line = |words: &str| format!("1764212000.123 70 71 D lowmemorykiller: {words}");
        let share = |words: &str| hosts_share(&line(words));
        assert_eq!(share("Process 130 was reaped in 200ms"), None);
        assert_eq!(share("Process 130 was reaped in 250ms"), Some(0.25));
        assert_eq!(share("process_mrelease 130 failed: No such process"), None);
    }
}
