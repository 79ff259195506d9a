//! From the actor's events to a story, and what every story must show.

mod cost;
mod order;
mod record;

pub use record::claimed;
pub use record::is_recorded;

use crate::remote::is;
use crate::run::Look;
use crate::story::App;
use crate::story::Check;
use crate::story::Figures;
use crate::story::Frames;
use crate::story::Kill;
use crate::story::Sample;
use crate::story::Story;
use serde_json::Value;
use std::collections::BTreeSet;

/// The default of kill_timeout_ms, 100: after it, the next victim may be chosen. As in AOSP, the daemon takes seconds and
/// the rest apart and rounds the rest towards 0, which can be one ms too many; another is for the two clocks.
pub const KILL_TIMEOUT_MS: f64 = 98.0;

/// What surrounds the events.
pub struct Evidence<'a> {
    pub events: &'a [Value],
    /// All that the actor has told: also before the scenario, and while the stage was cleared.
    pub all: &'a [Value],
    /// The daemon's log lines of this scenario.
    pub log: &'a [String],
    /// The actor's process, whose own kills do not count.
    pub actor: u32,
    pub before: Option<Look>,
    pub after: Option<Look>,
    /// The daemon's event records of this scenario.
    pub records: &'a [String],
    /// The kernel's counter of OOM kills.
    pub oom_kills: (u64, u64),
    /// Refusals: of SELinux in the kernel's log, of the kernel in the daemon's.
    pub refusals: &'a [String],
    /// The script had the daemon die.
    pub restarts_daemon: bool,
    /// The daemon right after the script had it start anew.
    pub restarted: Option<Look>,
    /// It could not be looked at after the scenario, but nothing says that it is gone.
    pub unseen: bool,
    /// The same process after the run's first scenario.
    pub first: Option<Look>,
    /// The device has a system_server of its own, whose apps register with the daemon, too.
    pub framework: bool,
}

/// Fills the story from what was seen.
pub fn tell(story: &mut Story, evidence: &Evidence<'_>) {
    let events = evidence.events;
    let start = events.iter().filter_map(|event| event["us"].as_u64()).min().unwrap_or(0);
    let at = |us: u64| millis(us.saturating_sub(start));
    let guards = guards(evidence.all);
    for event in events {
        let us = event["us"].as_u64().unwrap_or(start);
        let (ms, pid) = (at(us), number(event, "pid"));
        let pid = u32::try_from(pid).unwrap_or(0);
        story.length_ms = story.length_ms.max(ms);
        let text = |key: &str| event[key].as_str().unwrap_or("").to_owned();
        match event["event"].as_str().unwrap_or("") {
            "sample" => story.samples.push(sample(ms, event)),
            "app" => story.apps.push(App {
                pid,
                name: text("name"),
                kb: number(event, "kb"),
                born_ms: ms,
                ..App::default()
            }),
            "rank" => {
                let adj = i32::try_from(event["adj"].as_i64().unwrap_or(0)).unwrap_or(0);
                if let Some(app) = living(story, pid) {
                    app.adj.push((ms, adj));
                }
            }
            "death" => {
                let end = event["end"].as_i64().and_then(|end| i32::try_from(end).ok());
                if let Some(app) = living(story, pid) {
                    app.died_ms = Some(ms);
                    app.signal = end;
                }
                if let Some(kill) = story.kills.iter_mut().rfind(|kill| kill.pid == pid) {
                    kill.exit_ms = Some(ms);
                }
            }
            "told" => {
                if let Some(kill) = story.kills.iter_mut().rfind(|kill| kill.pid == pid) {
                    kill.told_ms = kill.told_ms.or(Some(ms));
                }
            }
            kind @ ("sigkill" | "sigterm")
                if event["kernel"] == false && event["by_tid"] != evidence.actor =>
            {
                let guard = guards.contains(&number(event, "by_tid"));
                // Of SIGTERMs only a guard's are kills, and a SIGKILL that follows one is no other.
                let asked = story.kills.iter().any(|kill| kill.pid == pid && kill.asked);
                if asked || (kind == "sigterm" && !guard) {
                    continue;
                }
                let by = if guard { story.daemon.clone() } else { text("by") };
                let line = kill_line(evidence.log, pid);
                let (name, adj, outsider) = match story.apps.iter().rfind(|app| app.pid == pid) {
                    Some(app) => (app.name.clone(), adj_at(app, ms), false),
                    // What others do to others, such as a system_server that cleans up, is their concern.
                    None if guard => {
                        let (name, adj) = line.and_then(order::named).unzip();
                        (name.unwrap_or_else(|| format!("process {pid}")), adj, true)
                    }
                    None => continue,
                };
                let kill = Kill {
                    ms,
                    pid,
                    name,
                    adj,
                    by,
                    reason: reason(evidence.log, pid),
                    asked: kind == "sigterm",
                    outsider,
                    ..Kill::default()
                };
                story.kills.push(kill);
            }
            "oom" => story.oom_kills.push((ms, pid)),
            "frames" => {
                let late = story.frames.take().map(|frames| frames.late).unwrap_or_default();
                story.frames = Some(Frames {
                    count: number(event, "count"),
                    over_16_ms: number(event, "over_16_ms"),
                    over_100_ms: number(event, "over_100_ms"),
                    over_1000_ms: number(event, "over_1000_ms"),
                    longest_ms: millis(number(event, "longest_us")),
                    late,
                });
            }
            "late" => {
                let frames = story.frames.get_or_insert_with(Frames::default);
                frames.late.push((ms, millis(number(event, "took_us"))));
            }
            _ => {}
        }
    }
    // Events come from several threads, each in its own order.
    story.kills.sort_by(|one, other| one.ms.total_cmp(&other.ms));
    for kill in &mut story.kills {
        if kill.outsider {
            // The actor is not its parent.
            let us = order::exit_us(events, &[kill.pid], kill.ms, start);
            kill.exit_ms = us.map(at);
        }
        let app = story.apps.iter().rfind(|app| app.pid == kill.pid);
        kill.exit_ms = kill.exit_ms.or(app.and_then(|app| app.died_ms));
        if kill.told_ms.is_none() {
            let told = events.iter().find(|event| is(event, "told") && event["pid"] == kill.pid);
            kill.told_ms = told.and_then(|event| event["us"].as_u64()).map(at);
        }
    }
    let freed: Vec<Option<u64>> =
        story.kills.iter().map(|kill| freed_kb(story, evidence, kill)).collect();
    story.kills.iter_mut().zip(freed).for_each(|(kill, freed)| kill.freed_kb = freed);
    story.log = evidence.log.to_vec();
    story.figures = figures(story, evidence);
}

/// What holds in every scenario, whoever watches over memory.
pub fn judge(story: &mut Story, evidence: &Evidence<'_>) {
    let cut_short = last_before_the_daemons_end(story, evidence);
    let mut checks = vec![
        record::is_whole(evidence.events),
        record::explains_every_death(evidence.events),
        record::has_every_kill(evidence),
        order::most_expendable_first(story),
        order::one_at_a_time(story, evidence.events),
        every_victim_died(story),
        no_oom_kill(story, evidence.oom_kills),
        order::protected_alive(story),
        order::outsiders_were_expendable(story),
        every_kill_is_explained(story, cut_short),
        sizes_are_right(story, evidence, cut_short),
        subscribers_heard(story, cut_short),
        none_refused(evidence.refusals),
        watchdog_slept(evidence.log),
    ];
    if !evidence.restarts_daemon {
        checks.extend(record::has_as_many_kills(evidence));
    }
    if !evidence.unseen && (evidence.restarted.is_some() || !evidence.restarts_daemon) {
        checks.extend(cost::daemon_as_before(evidence));
    }
    story.checks.append(&mut checks);
}

fn millis(us: u64) -> f64 {
    std::time::Duration::from_micros(us).as_secs_f64() * 1000.0
}

fn number(event: &Value, key: &str) -> u64 {
    event[key].as_u64().unwrap_or(0)
}

fn sample(ms: f64, event: &Value) -> Sample {
    Sample {
        ms,
        free_kb: number(event, "free_kb"),
        file_kb: number(event, "file_kb"),
        available_kb: number(event, "available_kb"),
        swap_total_kb: number(event, "swap_total_kb"),
        swap_free_kb: number(event, "swap_free_kb"),
        some_us: event["some_us"].as_u64(),
        full_us: event["full_us"].as_u64(),
    }
}

/// The threads of all daemons that were looked at: a script may start several, one after the other.
fn guards(all: &[Value]) -> BTreeSet<u64> {
    let looks = all.iter().filter(|event| is(event, "done"));
    let tids = looks.filter_map(|look| look["tids"].as_array()).flatten();
    tids.filter_map(Value::as_u64).collect()
}

fn living(story: &mut Story, pid: u32) -> Option<&mut App> {
    story.apps.iter_mut().rfind(|app| app.pid == pid && app.died_ms.is_none())
}

fn adj_at(app: &App, ms: f64) -> Option<i32> {
    app.adj.iter().rfind(|(since, _)| *since <= ms).map(|(_, adj)| *adj)
}

/// The daemon's own words: `Kill 'NAME' (PID), uid ...; reason: TEXT`.
fn kill_line(log: &[String], pid: u32) -> Option<&str> {
    let sign = format!("({pid}), uid ");
    let line = log.iter().rfind(|line| line.contains("Kill '") && line.contains(&sign));
    line.map(String::as_str)
}

fn reason(log: &[String], pid: u32) -> Option<String> {
    Some(kill_line(log, pid)?.split_once("; reason: ")?.1.trim().to_owned())
}

fn figures(story: &Story, evidence: &Evidence<'_>) -> Figures {
    let spent = |pick: fn(&Sample) -> Option<u64>| {
        let first = story.samples.first().and_then(pick).unwrap_or(0);
        millis(story.samples.last().and_then(pick).unwrap_or(0).saturating_sub(first))
    };
    let cost = |pick: fn(&Look) -> u64| match (&evidence.before, &evidence.after) {
        (Some(before), Some(after)) if before.pid == after.pid => {
            pick(after).saturating_sub(pick(before))
        }
        _ => 0,
    };
    let kills = u64::try_from(story.kills.len()).unwrap_or(0);
    let freed: u64 = story.kills.iter().filter_map(|kill| kill.freed_kb).sum();
    Figures {
        some_ms: spent(|sample| sample.some_us),
        full_ms: spent(|sample| sample.full_us),
        kills,
        freed_kb_per_kill: freed.checked_div(kills).unwrap_or(0),
        oom_kills: evidence.oom_kills.1.saturating_sub(evidence.oom_kills.0),
        daemon_cpu_ms: cost(|look| look.cpu_ms),
        daemon_wakeups: cost(|look| look.wakeups),
    }
}

/// What a kill freed: what the daemon's record says; without one, by how much free memory and swap grew.
fn freed_kb(story: &Story, evidence: &Evidence<'_>, kill: &Kill) -> Option<u64> {
    // The kernel frees an app's memory in its last moments, and a sample comes each 100 ms.
    const AFTER_MS: f64 = 300.0;
    if let (_, Some([rss, swap])) = told_kb(evidence, kill.pid) {
        return Some(rss + swap);
    }
    let free = |sample: &Sample| sample.free_kb + sample.swap_free_kb;
    let end = kill.exit_ms? + AFTER_MS;
    let before = story.samples.iter().rfind(|sample| sample.ms <= kill.ms).map(free)?;
    let during = story.samples.iter().filter(|sample| sample.ms > kill.ms && sample.ms <= end);
    Some(during.map(free).max()?.saturating_sub(before))
}

fn check(name: &'static str, ok: bool, detail: String) -> Check {
    Check { name, ok, detail }
}

fn every_victim_died(story: &Story) -> Check {
    let died_of_it = |kill: &Kill| {
        let app = story.apps.iter().rfind(|app| app.pid == kill.pid);
        app.is_some_and(|app| app.signal == Some(9))
    };
    let alive: Vec<&str> = story
        .kills
        .iter()
        .filter(|kill| !kill.outsider && !died_of_it(kill))
        .map(|kill| kill.name.as_str())
        .collect();
    check("every victim died of SIGKILL", alive.is_empty(), alive.join(", "))
}

fn no_oom_kill(story: &Story, (before, after): (u64, u64)) -> Check {
    // Out of memory while a victim is on its way out, the kernel marks that one, so that it may use the reserves, and
    // kills nobody: that is no kill of its own, and it is not counted.
    let signalled =
        |ms: f64, pid: u32| story.kills.iter().any(|kill| kill.pid == pid && kill.ms <= ms);
    let chosen: Vec<u32> = story
        .oom_kills
        .iter()
        .filter(|(ms, pid)| !signalled(*ms, *pid))
        .map(|(_, pid)| *pid)
        .collect();
    let helped = story.oom_kills.len() - chosen.len();
    let detail =
        format!("oom_kill {before} to {after}, chose {chosen:?}, helped {helped} victims out");
    check("the kernel's OOM killer stayed out", before == after && chosen.is_empty(), detail)
}

/// The victim that a daemon had signalled last before it got a SIGKILL itself: it may have had no time to tell.
fn last_before_the_daemons_end(story: &Story, evidence: &Evidence<'_>) -> Option<u32> {
    let before = evidence.before.filter(|_| evidence.restarts_daemon)?;
    let start = evidence.events.iter().filter_map(|event| event["us"].as_u64()).min()?;
    let end =
        evidence.events.iter().find(|event| is(event, "sigkill") && event["pid"] == before.pid)?;
    let end_ms = millis(end["us"].as_u64()?.saturating_sub(start));
    story.kills.iter().rfind(|kill| kill.ms <= end_ms).map(|kill| kill.pid)
}

/// Whether a reason has a number beside its threshold. A pressure event is a stall of a window.
fn quotes_numbers(reason: &str) -> bool {
    let compares = [" < ", " > ", "ms of "].iter().any(|sign| reason.contains(sign));
    compares && reason.contains(|letter: char| letter.is_ascii_digit())
}

fn every_kill_is_explained(story: &Story, but: Option<u32>) -> Check {
    let unexplained: Vec<&str> = story
        .kills
        .iter()
        .filter(|kill| Some(kill.pid) != but)
        .filter(|kill| !kill.reason.as_deref().is_some_and(quotes_numbers))
        .map(|kill| kill.name.as_str())
        .collect();
    check("every kill is logged with its numbers", unexplained.is_empty(), unexplained.join(", "))
}

/// What a line or a record of a kill says of the victim's memory: kB resident and swapped.
fn told_kb(evidence: &Evidence<'_>, pid: u32) -> (Option<[u64; 2]>, Option<[u64; 2]>) {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let line = kill_line(evidence.log, pid).and_then(|line| {
        let (rss, rest) = line.split_once(" to free ")?.1.split_once("kB rss, ")?;
        Some([number(rss)?, number(rest.split_once("kB swap")?.0)?])
    });
    // The sizes are the fifth and the thirtieth.
    let record = evidence.records.iter().rev().find_map(|line| {
        let values = record::values(line)?;
        let is_it = values.len() == 38 && number(values[0]) == Some(u64::from(pid));
        is_it.then(|| Some([number(values[4])?, number(values[29])?]))?
    });
    (line, record)
}

/// Each kill line says what the app had made, and has an event record that says the same: not so where pages are of
/// another size than the daemon thinks.
fn sizes_are_right(story: &Story, evidence: &Evidence<'_>, but: Option<u32>) -> Check {
    // What an app's own program and stacks add.
    const OWN_KB: u64 = 6144;
    // A thread keeps up to 64 changes to itself before it adds them to the sum (TASK_RSS_EVENTS_THRESH; per-CPU
    // counters of as much in newer kernels), of resident pages and of swapped ones apart.
    let behind_kb = 2 * 64 * story.device.page_kb;
    let mut wrong = Vec::new();
    // What others are made of is not known.
    for kill in story.kills.iter().filter(|kill| !kill.outsider && Some(kill.pid) != but) {
        let app = story.apps.iter().rfind(|app| app.pid == kill.pid);
        let made = app.map_or(0, |app| app.kb);
        match told_kb(evidence, kill.pid) {
            (Some(line), Some(record)) if line == record => {
                let told = line[0] + line[1];
                // A leader that has exited shows no memory.
                let hidden = told == 0 && story.scenario == "zombie-leader";
                if !hidden && (told + behind_kb < made || told > made + OWN_KB) {
                    wrong.push(format!("{}: {told} kB for {made} kB", kill.name));
                }
            }
            other => wrong.push(format!("{}: line and record are {other:?}", kill.name)),
        }
    }
    check(
        "its sizes are those of the app, in line and event record",
        wrong.is_empty(),
        wrong.join(", "),
    )
}

fn subscribers_heard(story: &Story, but: Option<u32>) -> Check {
    let untold: Vec<&str> = story
        .kills
        .iter()
        .filter(|kill| Some(kill.pid) != but)
        .filter(|kill| kill.told_ms.is_none())
        .map(|kill| kill.name.as_str())
        .collect();
    check("a subscriber was told of every kill", untold.is_empty(), untold.join(", "))
}

fn none_refused(refusals: &[String]) -> Check {
    check("nothing was refused", refusals.is_empty(), refusals.join("; "))
}

/// Its kills are those of a daemon that stands still.
fn watchdog_slept(log: &[String]) -> Check {
    let stuck =
        |line: &&String| line.contains("watchdog timed out") || line.contains(" is stuck, ");
    let stuck: Vec<&str> = log.iter().filter(stuck).map(String::as_str).collect();
    check("the daemon never stood still", stuck.is_empty(), stuck.join("; "))
}

#[cfg(test)]
mod tests;
