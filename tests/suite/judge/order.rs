//! Whom the daemon took, and when.

use super::adj_at;
use super::check;
use super::millis;
use super::KILL_TIMEOUT_MS;
use crate::remote::is;
use crate::story::App;
use crate::story::Check;
use crate::story::Kill;
use crate::story::Story;
use serde_json::Value;

/// An app that was ranked so shortly before a kill may not have been known to the daemon yet.
const RANK_GRACE_MS: f64 = 400.0;

/// No kill may pass over a registered app that is more expendable.
pub(super) fn most_expendable_first(story: &Story) -> Check {
    let mut passed_over = Vec::new();
    for kill in &story.kills {
        let Some(adj) = kill.adj else {
            passed_over.push(format!("{} was never registered", kill.name));
            continue;
        };
        let better = story.apps.iter().find(|app| {
            let known = adj_at(app, kill.ms - RANK_GRACE_MS).min(adj_at(app, kill.ms));
            let alive = app.died_ms.is_none_or(|died| died > kill.ms);
            let chosen =
                story.kills.iter().any(|other| other.pid == app.pid && other.ms <= kill.ms);
            alive && !chosen && known.is_some_and(|known| known > adj)
        });
        if let Some(better) = better {
            passed_over.push(format!("{} was spared for {}", better.name, kill.name));
        }
    }
    let order: Vec<i32> = story.kills.iter().filter_map(|kill| kill.adj).collect();
    let detail = format!("{order:?} {}", passed_over.join(", "));
    check("victims fall in oom_score_adj", passed_over.is_empty(), detail.trim().to_owned())
}

/// When the last of these threads exited, by the kernel's record, if all of them have and one after `ms`.
pub(super) fn exit_us(events: &[Value], tids: &[u32], ms: f64, start: u64) -> Option<u64> {
    let exit = |tid: &u32| {
        let exits = events.iter().filter(|event| is(event, "exit") && event["pid"] == *tid);
        let mut times = exits.filter_map(|event| event["us"].as_u64());
        // A leader may have exited long before, and an id may have been another's.
        let last = times.clone().next_back();
        times.find(|us| millis(us.saturating_sub(start)) >= ms).or(last)
    };
    let all: Option<Vec<u64>> = tids.iter().map(exit).collect();
    all?.into_iter().max().filter(|us| millis(us.saturating_sub(start)) >= ms)
}

/// The earliest proof that a process is gone: the exits of all its threads in the kernel's record, after the signal, or
/// its parent's word.
fn gone_ms(story: &Story, events: &[Value], kill: &Kill) -> Option<f64> {
    let start = events.iter().filter_map(|event| event["us"].as_u64()).min().unwrap_or(0);
    let threads = events.iter().rfind(|event| is(event, "threads") && event["pid"] == kill.pid);
    let tids = threads.and_then(|event| event["tids"].as_array()).into_iter().flatten();
    let mut tids: Vec<u32> = tids.filter_map(|tid| u32::try_from(tid.as_u64()?).ok()).collect();
    if tids.is_empty() {
        tids.push(kill.pid);
    }
    let exit = exit_us(events, &tids, kill.ms, start).map(|us| millis(us.saturating_sub(start)));
    let died = story.apps.iter().rfind(|app| app.pid == kill.pid).and_then(|app| app.died_ms);
    match (exit, died) {
        (Some(exit), Some(died)) => Some(exit.min(died)),
        (exit, died) => exit.or(died),
    }
}

pub(super) fn one_at_a_time(story: &Story, events: &[Value]) -> Check {
    let mut overlaps = Vec::new();
    for (place, second) in story.kills.iter().enumerate() {
        let before = story.kills.get(..place).unwrap_or_default();
        // Another app may have got the id in between.
        let same = |first: &&Kill| {
            let born = |app: &App| app.pid == second.pid && app.born_ms > first.ms;
            first.pid == second.pid
                && !story.apps.iter().any(|app| born(app) && app.born_ms <= second.ms)
        };
        if before.iter().any(|first| same(&first)) {
            overlaps.push(format!("{} got it twice", second.name));
            continue;
        }
        let Some(first) = before.last() else { continue };
        let gone = gone_ms(story, events, first).is_some_and(|gone| gone <= second.ms);
        let waited = second.ms - first.ms;
        if !gone && waited < KILL_TIMEOUT_MS {
            overlaps.push(format!("{} {waited:.1} ms after {}", second.name, first.name));
        }
    }
    check(
        "no second SIGKILL before an exit or the timeout",
        overlaps.is_empty(),
        overlaps.join(", "),
    )
}

pub(super) fn protected_alive(story: &Story) -> Check {
    let names = |app: &&App| {
        // The actor's own end of a scenario is no death, and whom the kernel chose is another check's concern.
        let killed = story.kills.iter().any(|kill| kill.pid == app.pid);
        let last = app.adj.last().map_or(-1000, |(_, adj)| *adj);
        killed && last <= 0
    };
    let dead: Vec<&str> = story.apps.iter().filter(names).map(|app| app.name.as_str()).collect();
    check("oom_score_adj 0 and below is alive", dead.is_empty(), dead.join(", "))
}

/// A line's name and oom_score_adj: `Kill 'NAME' (PID), uid UID, oom_score_adj ADJ to free ...`.
pub(super) fn named(line: &str) -> Option<(String, i32)> {
    let (name, _) = line.split_once("Kill '")?.1.rsplit_once("' (")?;
    let (_, adj) = line.rsplit_once(", oom_score_adj ")?;
    Some((name.to_owned(), adj.split(' ').next()?.parse().ok()?))
}

/// Whom the daemon killed besides the actor's apps: nobody that it did not name, and nobody that is protected.
pub(super) fn outsiders_were_expendable(story: &Story) -> Check {
    let outsiders = story.kills.iter().filter(|kill| kill.outsider);
    let wrong = outsiders.filter(|kill| kill.adj.is_none_or(|adj| adj <= 0));
    let names = |kill: &Kill| match kill.adj {
        Some(adj) => format!("{} ({adj})", kill.name),
        None => format!("{}, of which there is no line", kill.name),
    };
    let wrong: Vec<String> = wrong.map(names).collect();
    check("of others, only the expendable were killed", wrong.is_empty(), wrong.join(", "))
}
