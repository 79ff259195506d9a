//! What a scenario must have shown. Each check prints one JSON line.

use crate::scenario::App;
use crate::scenario::Outcome;
use crate::trace::Event;
use anyhow::bail;
use anyhow::Result;

/// Checks everything; an error if one thing was not as it must be.
pub fn judge(outcome: &Outcome) -> Result<()> {
    let kills: Vec<u32> = sigkills(outcome);
    let checks = [
        ("the hog reached its size", outcome.hog_done, String::new()),
        enough_kills(outcome, &kills),
        falling_order(outcome, &kills),
        one_at_a_time(outcome, &kills),
        every_victim_died_of_it(outcome, &kills),
        no_oom_kill(outcome),
        protected_alive(outcome),
        every_kill_has_a_reason(outcome, &kills),
        subscribers_heard(outcome, &kills),
        daemon_alive(outcome),
    ];
    let mut failed = 0;
    for (name, ok, detail) in checks {
        failed += usize::from(!ok);
        println!("{{\"check\":\"{name}\",\"ok\":{ok},\"detail\":\"{detail}\"}}");
    }
    if failed > 0 {
        bail!("{}: {failed} checks failed", outcome.plan.name);
    }
    Ok(())
}

type Check = (&'static str, bool, String);

fn app(outcome: &Outcome, pid: u32) -> Option<&App> {
    outcome.apps.iter().find(|app| app.child.id() == pid)
}

/// Whom the daemon killed, by the kernel's record. One process may get the signal once only.
fn sigkills(outcome: &Outcome) -> Vec<u32> {
    outcome
        .trace
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Kill(pid) if app(outcome, *pid).is_some() => Some(*pid),
            _ => None,
        })
        .collect()
}

fn enough_kills(outcome: &Outcome, kills: &[u32]) -> Check {
    let detail = format!("{} of at least {}", kills.len(), outcome.plan.kills);
    ("there were enough kills", kills.len() >= outcome.plan.kills, detail)
}

fn falling_order(outcome: &Outcome, kills: &[u32]) -> Check {
    let order: Vec<i32> = kills.iter().filter_map(|pid| Some(app(outcome, *pid)?.adj)).collect();
    // Every importance is held by one app: an equal pair would be one app killed twice.
    let falling = order.windows(2).all(|pair| pair[0] > pair[1]);
    // Nor may a more expendable app have been passed over.
    let registered = outcome.apps.iter().map(|app| app.adj);
    let skipped = registered.zip(&order).any(|(expected, killed)| expected != *killed);
    ("victims fall in oom_score_adj", falling && !skipped, format!("{order:?}"))
}

fn one_at_a_time(outcome: &Outcome, kills: &[u32]) -> Check {
    let at =
        |wanted: Event| outcome.trace.iter().find(|(_, event)| *event == wanted).map(|(at, _)| *at);
    let mut gaps = Vec::new();
    let mut ok = true;
    for pair in kills.windows(2) {
        match (at(Event::Exit(pair[0])), at(Event::Kill(pair[1]))) {
            (Some(exit), Some(kill)) if exit <= kill => gaps.push(kill - exit),
            _ => ok = false,
        }
    }
    ("each victim was gone before the next SIGKILL", ok, format!("microseconds between: {gaps:?}"))
}

fn every_victim_died_of_it(outcome: &Outcome, kills: &[u32]) -> Check {
    let killed = |pid: &u32| app(outcome, *pid).is_some_and(|app| app.death == Some(9));
    ("every victim died of SIGKILL", kills.iter().all(killed), String::new())
}

fn no_oom_kill(outcome: &Outcome) -> Check {
    let (before, after) = outcome.oom_kills;
    // Out of memory while a victim is on its way out, the kernel marks that one, so that it may use
    // the reserves, and kills nobody: that is no kill of its own, and it is not counted.
    let mut signalled = Vec::new();
    let (mut helped, mut chosen) = (0, 0);
    for (_, event) in &outcome.trace {
        match event {
            Event::Kill(pid) => signalled.push(*pid),
            Event::OomKill(pid) if signalled.contains(pid) => helped += 1,
            Event::OomKill(_) => chosen += 1,
            Event::Exit(_) => {}
        }
    }
    let detail = format!("oom_kill {before} to {after}, chosen {chosen}, helped out {helped}");
    ("the kernel's OOM killer stayed out", before == after && chosen == 0, detail)
}

fn protected_alive(outcome: &Outcome) -> Check {
    let dead: Vec<i32> = outcome
        .apps
        .iter()
        .filter(|app| app.adj <= 0 && app.death.is_some())
        .map(|app| app.adj)
        .collect();
    ("oom_score_adj 0 and below is alive", dead.is_empty(), format!("dead: {dead:?}"))
}

fn every_kill_has_a_reason(outcome: &Outcome, kills: &[u32]) -> Check {
    let lines: Vec<&str> = outcome.log.lines().filter(|line| line.contains("Kill '")).collect();
    let explained = |pid: &u32| {
        lines.iter().any(|line| {
            line.contains(&format!("({pid}), uid "))
                && line.contains("kB rss, ")
                && line
                    .split_once("; reason: ")
                    .is_some_and(|(_, reason)| !reason.trim().is_empty())
        })
    };
    let ok = kills.iter().all(explained);
    ("every kill is logged with its reason", ok, format!("{} kills logged", lines.len()))
}

fn subscribers_heard(outcome: &Outcome, kills: &[u32]) -> Check {
    let detail = format!("{:?}", outcome.kill_events);
    ("a subscriber was told of every kill", outcome.kill_events == kills, detail)
}

fn daemon_alive(outcome: &Outcome) -> Check {
    let alive = std::path::Path::new(&format!("/proc/{}", outcome.plan.daemon)).exists();
    ("the daemon is the process it was", alive, format!("pid {}", outcome.plan.daemon))
}
