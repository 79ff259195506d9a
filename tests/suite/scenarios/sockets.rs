//! Clients of the daemon, good and bad, while memory runs out.

use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::small_apps;
use crate::scenarios::BASE;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;
use std::time::Instant;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bad-clients",
        title: "clients that send nonsense, flood, and hang up half-way",
        core: true,
        swap: Swap::Off,
        script: bad_clients,
        ..BASE
    },
    Scenario {
        name: "slow-subscriber",
        title: "a subscriber that never reads, and 200 kills",
        script: slow_subscriber,
        ..BASE
    },
    Scenario {
        name: "batch",
        title: "registration three a packet",
        core: true,
        swap: Swap::Off,
        script: batch,
        ..BASE
    },
];

fn bad_clients(run: &mut Run<'_>) -> Result<()> {
    run.household(30)?;
    let size = run.available_mib / 10;
    for adj in [900, 800, 700] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    small_apps(run, &[500, 300])?;
    // Whom some of the nonsense is about.
    let init = || run.device.shell("cat /proc/1/oom_score_adj");
    let before = init()?;
    run.remote.order(json!({"do": "rabble", "crowd": 8}))?;
    run.note("the rabble comes");
    let asked = Instant::now();
    run.remote.order(json!({"do": "count"}))?;
    let waited = asked.elapsed();
    run.check("system_server is answered", waited < Duration::from_secs(3), format!("{waited:?}"));
    run.press(run.available_mib, 25, 2)?;
    run.check("memory was made", run.deaths().len() >= 2, format!("{:?}", run.deaths()));
    let hung_up = run.remote.since(run.mark).iter().any(|event| event["event"] == "disconnected");
    run.check("system_server stayed connected", !hung_up, "");
    let (before, after) = (before.trim(), init()?);
    let detail = format!("{before}, then {}", after.trim());
    run.check("init's oom_score_adj is what it was", before == after.trim(), detail);
    run.remote.order(json!({"do": "peace"}))?;
    Ok(())
}

fn slow_subscriber(run: &mut Run<'_>) -> Result<()> {
    run.household(30)?;
    run.remote.order(json!({"do": "deaf"}))?;
    let mut waiting = Vec::new();
    for number in 0..300 {
        let app = json!({"do": "spawn", "name": format!("small-{number}"), "adj": 900, "mib": 1});
        waiting.push(run.remote.send(app)?);
    }
    for id in waiting {
        run.remote.answer(id)?;
    }
    run.press(2 * run.available_mib, 20, 200)?;
    let deaths = run.deaths();
    run.check("200 were killed", deaths.len() >= 200, format!("{} deaths", deaths.len()));
    let asked = Instant::now();
    run.remote.order(json!({"do": "count"}))?;
    let waited = asked.elapsed();
    run.check("system_server is answered", waited < Duration::from_secs(3), format!("{waited:?}"));
    Ok(())
}

fn batch(run: &mut Run<'_>) -> Result<()> {
    run.household(30)?;
    let size = run.available_mib / 20;
    let mut apps = Vec::new();
    let mut pids = Vec::new();
    for number in 0..10 {
        let (name, adj) = (format!("app-{number}"), 990 - 37 * number);
        let shape = json!({"name": name, "mib": size});
        pids.push((run.spawn(shape)?, adj));
        apps.push(json!([name, adj]));
    }
    run.remote.order(json!({"do": "rank", "batch": true, "apps": apps}))?;
    // The answer comes after all of it has been done.
    run.remote.order(json!({"do": "count"}))?;
    let mut wrong = Vec::new();
    for (pid, adj) in pids {
        let set = run.device.shell(&format!("cat /proc/{pid}/oom_score_adj"))?;
        if set.trim() != adj.to_string() {
            wrong.push(format!("{pid}: {} for {adj}", set.trim()));
        }
    }
    run.check("oom_score_adj is as asked", wrong.is_empty(), wrong.join(", "));
    run.press(run.available_mib, 50, 2)?;
    let victims = run.victims();
    let first = victims.iter().take(2).map(String::as_str).collect::<Vec<_>>();
    run.check("the first were killed first", first == ["app-0", "app-1"], format!("{victims:?}"));
    Ok(())
}
