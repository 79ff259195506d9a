//! Memory runs out, in the ways that it does on devices.

use crate::run::Guard;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::pressed::hogs_speed;
use crate::scenarios::pressed::stalled_us;
use crate::scenarios::reasons::ONLY_THRASHING;
use crate::scenarios::tunables::with;
use crate::scenarios::BASE;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "falling-order",
        title: "victims fall in oom_score_adj, one at a time",
        core: true,
        compared: true,
        swap: Swap::Off,
        script: falling_order,
        ..BASE
    },
    Scenario {
        name: "slow-growth",
        title: "25 MiB/s without swap",
        core: true,
        compared: true,
        swap: Swap::Off,
        script: slow_growth,
        ..BASE
    },
    Scenario {
        name: "slow-growth-zram",
        title: "25 MiB/s with zram",
        core: true,
        compared: true,
        script: slow_growth_zram,
        ..BASE
    },
    Scenario {
        name: "spike",
        title: "as fast as the device can, 400 MiB/s at most, as from a camera",
        core: true,
        compared: true,
        script: spike,
        ..BASE
    },
    Scenario {
        name: "thrashing",
        title: "the file cache no longer holds what is in use",
        core: true,
        compared: true,
        swap: Swap::Off,
        script: thrashing,
        ..BASE
    },
    Scenario {
        name: "launch-storm",
        title: "20 apps started one after the other",
        compared: true,
        script: launch_storm,
        ..BASE
    },
    Scenario {
        name: "many-small",
        title: "2,000 small processes",
        // Page tables, stacks and the kernel's own share of each.
        needs: Some((
            "read -r name kb unit </proc/meminfo; test $kb -gt 1000000",
            "1 GB of memory",
        )),
        script: many_small,
        ..BASE
    },
    Scenario {
        name: "nothing-to-kill",
        title: "pressure with nobody to kill: no busy loop",
        script: nothing_to_kill,
        ..BASE
    },
];

/// The importances of a usual stage, in an order that is not theirs.
const IMPORTANCES: [i32; 8] = [500, 900, 200, 800, 100, 950, 700, 905];

/// Eight apps of a sixteenth of the memory each. Returns that size.
fn eight_apps(run: &mut Run<'_>) -> Result<u64> {
    let size = (run.available_mib / 16).max(4);
    for adj in IMPORTANCES {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    Ok(size)
}

/// Takes more than there is by so many apps' memory; the hog gets it all. Returns at how many MiB a second.
fn outgrow(run: &mut Run<'_>, cache_mib: u64, apps: u64, speed: u64) -> Result<u64> {
    run.household(cache_mib)?;
    let size = eight_apps(run)?;
    let wanted = (run.available_mib + size * apps).saturating_sub(8 * size + cache_mib + 16);
    let mark = run.remote.mark();
    let grown = run.press(wanted, speed, 0)?;
    run.check("the hog reached its size", grown == wanted, format!("{grown} of {wanted} MiB"));
    Ok(hogs_speed(run, mark, grown))
}

fn at_least(run: &mut Run<'_>, kills: usize) {
    let deaths = run.deaths();
    run.check("memory was made", deaths.len() >= kills, format!("{} deaths", deaths.len()));
}

fn falling_order(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let size = eight_apps(run)?;
    // The user goes home and comes back: the order is not that of registration, nor that of the first ranks.
    let ranks = json!([
        ["app-500", 920],
        ["app-905", 250],
        ["app-100", 990],
        ["app-950", 700],
        ["app-700", 0]
    ]);
    run.remote.order(json!({"do": "rank", "apps": ranks}))?;
    run.press(run.available_mib + 8 * size, 40, 5)?;
    let order = run.victims();
    let expected = ["app-100", "app-500", "app-900", "app-800"];
    let first: Vec<&str> = order.iter().take(4).map(String::as_str).collect();
    run.check(
        "the first four died in the order of their last ranks",
        first == expected,
        format!("{order:?}"),
    );
    Ok(())
}

fn slow_growth(run: &mut Run<'_>) -> Result<()> {
    outgrow(run, 40, 3, 25)?;
    // What counts as available is an estimate of the kernel's, about one app too low here.
    at_least(run, 2);
    Ok(())
}

/// Some apps shrink in the swap and some do not, in the classes that apps are in.
fn slow_growth_zram(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let size = eight_apps(run)?;
    for (number, sched) in ["nice", "idle", "fifo"].into_iter().enumerate() {
        let (name, adj) = (format!("sparse-{sched}"), 910 + 10 * number);
        run.spawn(json!({"name": name, "adj": adj, "mib": 12, "kind": "sparse", "sched": sched}))?;
    }
    let wanted = (run.available_mib + size * 3).saturating_sub(8 * size + 3 * 12 + 40 + 16);
    let grown = run.press(wanted, 25, 0)?;
    run.check("the hog reached its size", grown == wanted, format!("{grown} of {wanted} MiB"));
    at_least(run, 1);
    Ok(())
}

fn spike(run: &mut Run<'_>) -> Result<()> {
    let speed = outgrow(run, 40, 3, 400)?;
    // Pages are filled, and those of victims waited for: an emulated guest gets to 50 to 200, on a busy machine to less.
    run.note(format!("hog: got it at {speed} MiB/s"));
    at_least(run, 1);
    Ok(())
}

fn thrashing(run: &mut Run<'_>) -> Result<()> {
    // From the beginning: with watermarks that a scenario before this one has had boosted, the apps' own start is low
    // memory already.
    with(run, ONLY_THRASHING, |run| {
        run.household(run.available_mib * 4 / 10)?;
        let size = eight_apps(run)?;
        let before = refaults(run)?;
        // By how much the cache shrinks is the kernel's choice: the hog goes on until somebody had to go.
        run.press(run.available_mib + 6 * size, 25, 1)?;
        at_least(run, 1);
        let refaults = refaults(run)?.saturating_sub(before);
        run.check("file pages came back after they had gone", refaults > 0, format!("{refaults}"));
        if run.guard == Guard::Lmkd {
            let log = run.own_log()?;
            let kill = log.iter().find(|line| line.contains("Kill '"));
            let because = kill.is_some_and(|line| line.contains("thrashing "));
            run.check("thrashing was why", because, format!("{kill:?}"));
        }
        Ok(())
    })
}

/// File pages that were read again soon after they had been reclaimed.
fn refaults(run: &Run<'_>) -> Result<u64> {
    let line = run.device.shell("grep '^workingset_refault_file ' /proc/vmstat")?;
    let number = line.trim().rsplit(' ').next().and_then(|number| number.parse().ok());
    number.context("workingset_refault_file")
}

/// Each new app takes the foreground; its predecessor falls to "previous", the one before that to "cached".
fn launch_storm(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let size = (run.available_mib / 12).max(4);
    let (mut previous, mut cached) = (None::<String>, None::<String>);
    for number in 0..20 {
        let name = format!("launch-{number}");
        if let Some(old) = cached.take() {
            rank(run, &old, 900 + number)?;
        }
        if let Some(old) = previous.take() {
            rank(run, &old, 700)?;
            cached = Some(old);
        }
        run.app(&name, 0, size)?;
        run.note(format!("start of {name}"));
        previous = Some(name);
    }
    std::thread::sleep(Duration::from_secs(1));
    let deaths = run.deaths();
    run.check("room was made for 20 apps", deaths.len() >= 6, format!("{} deaths", deaths.len()));
    Ok(())
}

/// A dead app keeps its rank.
fn rank(run: &mut Run<'_>, name: &str, adj: i32) -> Result<()> {
    let ranked = run.remote.order(json!({"do": "rank", "apps": [[name, adj]]}));
    match ranked {
        Err(_) if run.deaths().iter().any(|dead| dead == name) => Ok(()),
        other => other.map(drop),
    }
}

fn many_small(run: &mut Run<'_>) -> Result<()> {
    run.household(40)?;
    let mut waiting = Vec::new();
    for number in 0..2000 {
        let app = json!({"do": "spawn", "name": format!("small-{number}"), "adj": 900 + number % 100, "mib": 0});
        waiting.push(run.remote.send(app)?);
    }
    for id in waiting {
        run.remote.answer(id)?;
    }
    let before = run.look()?;
    run.check("2,000 are registered", before.fds > 2000, format!("{} descriptors", before.fds));
    let mib = run.available_mib;
    run.press(mib, 50, 40)?;
    at_least(run, 40);
    Ok(())
}

/// Microseconds of a stall for which the daemon is woken up.
const STALL_US: u64 = 200_000;

fn nothing_to_kill(run: &mut Run<'_>) -> Result<()> {
    run.household(run.available_mib * 3 / 10)?;
    // For the time being, the user looks at something that may not be killed at all.
    run.remote.order(json!({"do": "rank", "apps": [["foreground", -700]]}))?;
    // Little enough for the swap to take it, too much for all to be in memory.
    let wanted = run.available_mib * 9 / 10;
    run.press(wanted, 50, 0)?;
    let mark = run.remote.mark();
    let before = run.look()?;
    run.note("looks at the daemon's costs for 5 s");
    std::thread::sleep(Duration::from_secs(5));
    let after = run.look()?;
    // Else the daemon had nothing to do.
    let stalled = stalled_us(run, mark);
    run.check(
        "tasks stood still for memory meanwhile",
        stalled > STALL_US,
        format!("{stalled} us"),
    );
    let cpu = after.cpu_percent_since(&before);
    run.check("the daemon did not spin", cpu < 30, format!("{cpu}% of a CPU"));
    // Its shortest polling period is 10 ms, it is told of reclaim ten times a second at most, and reclaim may keep
    // each of these looks waiting once.
    let wakeups = after.wakeups_a_second_since(&before);
    let woken = after.wakeups.saturating_sub(before.wakeups);
    run.check("it was woken up", woken >= 5, format!("{woken} times"));
    run.check(
        "it woke up to poll at most",
        wakeups <= 2 * (100 + 10),
        format!("{wakeups} times a second"),
    );
    run.check("nobody died", run.deaths().is_empty(), format!("{:?}", run.deaths()));
    Ok(())
}
