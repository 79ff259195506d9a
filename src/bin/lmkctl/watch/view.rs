//! What `lmkctl watch` shows: lines of text, made of what is known.

use crate::events::Levels;
use crate::explain;
use crate::history::History;
use crate::history::Story;
use crate::status;
use crate::text::Span;
use crate::why_not;
use crate::words;
use lmkd::clock::MonoTime;
use lmkd::kernel::Sample;
use lmkd::policy::Signals;
use lmkd::recorder::Spread;
use lmkd::recorder::Status;
use lmkd::recorder::Step;
use lmkd::units::Pages;
use std::time::Duration;

/// The keys, at the foot of the screen.
const KEYS: &str = "^ q quit  space hold  o overview  e explain  w why not  j k scroll  + - pace";
/// Columns of a bar.
const BAR: usize = 38;

/// What is on the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Page {
    /// Pressure, memory, candidates, kills.
    #[default]
    Overview,
    /// The last kill.
    Explain,
    /// What keeps each rule from killing.
    WhyNot,
}

/// What the operator chose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// What is on the screen.
    pub page: Page,
    /// Lines of it that are above the screen.
    pub scrolled: usize,
    /// Whether time stands still on it.
    pub held: bool,
}

/// The lines of a page, so many; the last are the keys. Less is scrolled than was asked for if that
/// is the end.
pub fn lines(
    choice: &mut Choice,
    history: &History,
    levels: &Levels,
    now: MonoTime,
    rows: usize,
) -> Vec<String> {
    let room = rows.saturating_sub(2);
    let body = match choice.page {
        Page::Overview => overview(history, levels, room),
        Page::Explain => explanation(history),
        Page::WhyNot => why_nots(history),
    };
    choice.scrolled = choice.scrolled.min(body.len().saturating_sub(room));
    let mut lines = vec![head(history, now, choice.held)];
    lines.extend(body.into_iter().skip(choice.scrolled).take(room));
    lines.resize(rows.saturating_sub(1), String::new());
    lines.push(KEYS.to_owned());
    lines
}

fn head(history: &History, now: MonoTime, held: bool) -> String {
    let header = &history.header;
    let up = Duration::from_nanos(now.as_nanos().saturating_sub(header.started.as_nanos()));
    let seconds = up.as_secs();
    let up = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let held = if held { "  HELD" } else { "" };
    let dry = if header.dry_run { "  dry run" } else { "" };
    let time = history.clock.wall(now).to_string();
    let time = time.get(11..19).unwrap_or("");
    format!("^ lmkd {}  pid {}  up {up}{dry}   {time} UTC{held}", header.version, header.pid)
}

fn overview(history: &History, levels: &Levels, room: usize) -> Vec<String> {
    let level = levels.level().map_or("none", words::level);
    let source = words::pressure(history.sources.pressure);
    let reclaims = words::reclaims(history.sources.reclaim);
    let mut lines = vec![format!("pressure  {level:<9} told by {source}, reclaim by {reclaims}")];
    let signals = history.looked.as_ref().and_then(|looked| looked.signals());
    let sample = history.looked.as_ref().and_then(|looked| looked.look.seen.as_ref());
    if let (Some(signals), Some(seen)) = (signals, sample) {
        lines.extend(memory(history, signals, &seen.sample));
    }
    let Some(status) = &history.status else { return lines };
    lines.push(String::new());
    // Candidates and kills share what is left.
    let left = room.saturating_sub(lines.len()).saturating_sub(6);
    let kills = (left / 2).clamp(1, history.kills.len().max(1));
    lines.extend(candidates(status, left.saturating_sub(kills)));
    lines.push(String::new());
    lines.extend(kill_lines(history, status, kills));
    lines
}

fn memory(history: &History, signals: &Signals, sample: &Sample) -> Vec<String> {
    let mib = |pages: Pages| pages.to_kib(history.page()).get() / 1024;
    let meminfo = &sample.meminfo;
    let (total, free) = (meminfo.total, signals.free);
    let marks = &signals.watermarks;
    let used = total - free;
    let stall = sample.stall.map_or(0, |stall| stall.full_avg10_centi);
    let reclaim = words::by(signals.reclaim);
    let swap_used = meminfo.swap_total - meminfo.swap_free;
    vec![
        format!("memory    {}  {} of {} MiB free", bar(used, total), mib(free), mib(total)),
        format!(
            "          watermarks {}, {}, {} MiB, below {}; file cache {} MiB",
            mib(marks.min),
            mib(marks.low),
            mib(marks.high),
            words::watermark(signals.wmark),
            mib(signals.file_cache)
        ),
        format!(
            "swap      {}  {} of {} MiB free",
            bar(swap_used, meminfo.swap_total),
            mib(meminfo.swap_free),
            mib(meminfo.swap_total)
        ),
        format!(
            "thrashing {}% of {}%; reclaim by {reclaim}; all stalled {}.{:02}% of 10 s",
            signals.thrashing,
            signals.thrashing_limit,
            stall / 100,
            stall % 100
        ),
    ]
}

/// How much of the whole is taken.
fn bar(part: Pages, whole: Pages) -> String {
    let columns = i64::try_from(BAR).unwrap_or(0);
    let filled = part.get().max(0).saturating_mul(columns).checked_div(whole.get()).unwrap_or(0);
    let filled = usize::try_from(filled).unwrap_or(0).min(BAR);
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR - filled))
}

fn candidates(status: &Status, room: usize) -> Vec<String> {
    let mut lines =
        vec![format!("  adj     pid   resident  next victims ({} registered)", status.registered)];
    if status.next.is_empty() {
        lines.push("  nobody".to_owned());
    }
    lines.extend(status.next.iter().take(room).map(|next| {
        let process = &next.process;
        let (adj, pid, rss) = (process.adj.get(), process.pid, next.rss.get());
        format!("{adj:>5} {pid:>7} {rss:>7} kB  {}", next.name)
    }));
    lines
}

fn kill_lines(history: &History, status: &Status, room: usize) -> Vec<String> {
    let reasons: Vec<String> = status::by_reason(status)
        .map(|(reason, count)| format!("{} {count}", reason.name()))
        .collect();
    let mut lines = vec![
        format!("kills {}  {}", status.kills, reasons.join(", ")),
        format!(
            "p50, p99: event to signal {}; signal to exit {}",
            pair(&status.to_signal),
            pair(&status.to_exit)
        ),
    ];
    lines.extend(history.kills.iter().rev().take(room).map(|story| kill_line(story, history)));
    lines
}

fn pair(spread: &Spread) -> String {
    match spread.count {
        0 => "-, -".to_owned(),
        _ => {
            let [p50, p99] =
                [spread.p50, spread.p99].map(|micros| Span(Duration::from_micros(micros)));
            format!("{p50}, {p99}")
        }
    }
}

fn kill_line(story: &Story, history: &History) -> String {
    let kill = &story.kill;
    let time = history.clock.wall(kill.moments.signalled).to_string();
    let time = time.get(11..19).unwrap_or("");
    let end = match story.fates.last() {
        None => "dying".to_owned(),
        Some((_, fate)) => match (fate.step, fate.moments.exited) {
            (Step::TimedOut { .. }, _) | (_, None) => "timed out".to_owned(),
            (_, Some(exited)) => {
                let micros = exited.micros_since(fate.moments.signalled);
                format!("exit {}", Span(Duration::from_micros(micros)))
            }
        },
    };
    let reason = kill.cause.reason.name();
    format!("{time} {:>4} {:>6} {reason} {end}  {}", kill.adj.get(), kill.pid, kill.name)
}

fn explanation(history: &History) -> Vec<String> {
    let Some(story) = history.kills.last() else {
        return vec!["No kill since this began to watch, nor in the recorder.".to_owned()];
    };
    let mut text = Vec::new();
    // Writing to memory cannot fail.
    let _ = explain::explain(story, history, &mut text);
    String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
}

fn why_nots(history: &History) -> Vec<String> {
    let facts = history.looked.as_ref().and_then(|looked| looked.facts(history.page()));
    let Some(facts) = facts else { return vec!["Memory has not been looked at.".to_owned()] };
    let mut lines = vec!["What keeps each rule from killing now:".to_owned(), String::new()];
    lines.extend(why_not::rules(facts));
    lines
}
