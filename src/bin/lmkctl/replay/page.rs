//! Recording and replay side by side.

use super::changed;
use super::compare::Coming;
use super::compare::Comparison;
use super::compare::Outcome;
use super::sides;
use super::summary;
use super::victim_in_words;
use super::UNKNOWABLE;
use crate::timeline::episodes;
use crate::timeline::memory_in_words;
use crate::timeline::overview;
use crate::timeline::settings_table;
use crate::timeline::Episode;
use lmkd::config::Tunables;
use lmkd::pages::Kill;
use lmkd::pages::KillMark;
use lmkd::pages::Page;
use lmkd::pages::Row;
use lmkd::pages::Section;
use lmkd::pages::Story;
use lmkd::pages::Table;
use lmkd::policy::Why;
use std::path::Path;

/// The page.
pub fn page(file: &Path, comparison: &Comparison<'_>) -> Page {
    let timeline = comparison.timeline;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut text = vec![summary(comparison)];
    if comparison.faithful {
        text.push("The settings are the recorded ones.".to_owned());
    }
    for (name, from, to) in changed(comparison) {
        text.push(format!("{name}: {from} recorded, {to} replayed."));
    }
    let (all, left_out) = episodes(timeline);
    let mut sections = vec![
        Section::Table(text, changes(comparison)),
        Section::Text(
            "What a replay cannot know".to_owned(),
            UNKNOWABLE.map(str::to_owned).to_vec(),
        ),
        overview(timeline, &all, left_out),
    ];
    for (n, episode) in all.iter().enumerate() {
        sections.push(Section::Pair(Box::new(pair(n, episode, comparison))));
    }
    let last = comparison.settings.iter().rev().flatten().next();
    if let (Some(then), Some(now)) = (timeline.settings, last) {
        let text = vec!["Set off: what the replay changes.".to_owned()];
        let table = settings_table(then, Some(("replayed", now)));
        sections.push(Section::Table(text, table));
    }
    Page { title: format!("lmkd: {name} replayed"), facts: timeline.facts(&name), sections }
}

/// Every kill: what becomes of it, recorded and replayed, with memory and stall then.
fn changes(comparison: &Comparison<'_>) -> Table {
    let row = |outcome: &Outcome| {
        let (name, recorded, replayed) = sides(comparison, outcome);
        let strong = !matches!(outcome, Outcome::Stays { .. });
        let cells = vec![name.to_owned(), recorded, replayed];
        Row { cells, strong, leads_to: None }
    };
    Table {
        caption: "What changes".to_owned(),
        columns: ["kill", "recorded", "replayed"].map(str::to_owned).to_vec(),
        rows: comparison.outcomes.iter().map(row).collect(),
    }
}

/// An episode as it was, and as it would have been.
fn pair(n: usize, episode: &Episode, comparison: &Comparison<'_>) -> [Story; 2] {
    let mut recorded = episode.story(n, comparison.timeline);
    let range = recorded.title.clone();
    recorded.title = format!("Recorded, {range}");
    let marks = comparison.outcomes.iter().filter_map(|outcome| {
        let mark = match outcome {
            Outcome::Goes { .. } => KillMark::Goes,
            Outcome::Moves { .. } => KillMark::Moves,
            _ => return None,
        };
        Some((comparison.timeline.looks.get(outcome.looks().0?)?.at, outcome.looks().0?, mark))
    });
    for (_, look, mark) in marks {
        let victim = comparison.timeline.kills.iter().find(|victim| victim.look == Some(look));
        let Some(victim) = victim else { continue };
        let label = comparison.timeline.drawn(victim).label;
        if let Some(kill) = recorded.kills.iter_mut().find(|kill| kill.label == label) {
            kill.mark = mark;
        }
    }

    let (mut kills, mut ends) = (Vec::new(), Vec::new());
    let mut new: u32 = 0;
    for outcome in &comparison.outcomes {
        let (_, Some(look)) = outcome.looks() else { continue };
        if !episode.looks.contains(&look) {
            continue;
        }
        let Some((kill, pid)) = drawn(comparison, outcome, &mut new) else { continue };
        ends.push((pid.unwrap_or(0), kill.at));
        kills.push(kill);
    }
    let views = comparison.views(episode.looks.clone());
    let id = format!("replay-{n}");
    let mut replayed = episode.told(id, comparison.timeline, &views, kills, &ends);
    replayed.title = format!("Replayed, {}", replayed.title);
    [recorded, replayed]
}

/// A kill of the replay, and its victim's id.
fn drawn(
    comparison: &Comparison<'_>,
    outcome: &Outcome,
    new: &mut u32,
) -> Option<(Kill, Option<i32>)> {
    let timeline = comparison.timeline;
    let then = |look: usize| timeline.kills.iter().find(|victim| victim.look == Some(look));
    match outcome {
        Outcome::Goes { .. } => None,
        Outcome::Stays { look } => {
            let victim = then(*look)?;
            let mut kill = timeline.drawn(victim);
            // How long a death took is the recording's, not the replay's.
            kill.more.clear();
            Some((kill, Some(victim.pid)))
        }
        Outcome::Comes(to) => {
            *new = new.saturating_add(1);
            let kill = coming(comparison, to, format!("N{new}"), KillMark::Comes)?;
            Some((kill, to.victim.map(|victim| victim.pid)))
        }
        Outcome::Moves { look, to } => {
            let victim = then(*look)?;
            let label = timeline.drawn(victim).label;
            let kill = coming(comparison, to, label, KillMark::Moves)?;
            Some((kill, to.victim.map_or(Some(victim.pid), |victim| Some(victim.pid))))
        }
    }
}

fn coming(comparison: &Comparison<'_>, to: &Coming, label: String, mark: KillMark) -> Option<Kill> {
    let timeline = comparison.timeline;
    let moment = timeline.looks.get(to.look)?;
    let mut kill = Kill {
        at: moment.at,
        label,
        victim: victim_in_words(comparison, to),
        adj: to.victim.map(|victim| victim.adj.get()),
        rule: to.cause.reason.name().to_owned(),
        mark,
        ..Kill::default()
    };
    let tunables: Option<&Tunables> = comparison.settings.get(to.look)?.as_ref();
    let verdict = comparison.replayed.get(to.look)?.as_ref()?.verdict?;
    let seen = moment.look.seen.as_ref();
    if let (Some(tunables), Some(signals), Some(seen)) = (tunables, &verdict.signals, seen) {
        let page = timeline.page();
        let why = Why { cause: &to.cause, signals, tunables, sample: &seen.sample, page };
        kill.reason = why.to_string();
        kill.more.push(("memory then".to_owned(), memory_in_words(moment.look, page)));
    }
    if to.again > 0 {
        kill.more.push(("asked again".to_owned(), format!("by {} more looks", to.again)));
    }
    Some(kill)
}
