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

/// The keys, at the foot of the screen; the pace follows.
const KEYS: &str = "^ q quit  space hold  o overview  e explain  w why not  j k scroll  + -";
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
    /// How often the state is asked for, ms.
    pub every_ms: u64,
}

/// The lines of a page, as many as there are rows; the last are the keys. Sentences go on in the next
/// line where the columns end. Less is scrolled than was asked for if that is the end.
pub fn lines(
    choice: &mut Choice,
    history: &History,
    levels: &Levels,
    now: MonoTime,
    (columns, rows): (usize, usize),
) -> Vec<String> {
    let room = rows.saturating_sub(2);
    let body = match choice.page {
        Page::Overview => overview(history, levels, (columns, room)),
        Page::Explain => folded(explanation(history), columns),
        Page::WhyNot => folded(why_nots(history), columns),
    };
    choice.scrolled = choice.scrolled.min(body.len().saturating_sub(room));
    let mut lines = vec![head(history, now, choice.held)];
    lines.extend(body.into_iter().skip(choice.scrolled).take(room));
    lines.resize(rows.saturating_sub(1), String::new());
    lines.push(format!("{KEYS} {} ms", choice.every_ms));
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

/// Lines that are too long, broken between words; what follows is indented.
fn folded(lines: Vec<String>, columns: usize) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines {
        let own = line.chars().take_while(|letter| *letter == ' ').count();
        let indent = " ".repeat(own + 4);
        let mut rest = line;
        while rest.chars().count() > columns {
            let end = rest.char_indices().nth(columns).map_or(rest.len(), |(end, _)| end);
            let (line, after) = rest.split_at(end);
            // A space that only indents is no place to break at.
            let words = line.trim_start();
            let space = match after.starts_with(' ') {
                true => Some(end).filter(|_| !words.is_empty()),
                false => words.rfind(' ').map(|space| space + line.len() - words.len()),
            };
            let Some(space) = space else { break };
            let next = format!("{indent}{}", rest.split_off(space).trim_start());
            all.push(std::mem::replace(&mut rest, next));
        }
        all.push(rest);
    }
    all
}

fn overview(history: &History, levels: &Levels, (columns, room): (usize, usize)) -> Vec<String> {
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
    lines.extend(kill_lines(history, status, (columns, kills)));
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

fn kill_lines(history: &History, status: &Status, (columns, room): (usize, usize)) -> Vec<String> {
    let reasons: Vec<String> = status::by_reason(status)
        .map(|(reason, count)| format!("{} {count}", reason.name()))
        .collect();
    let mut lines =
        folded(vec![format!("kills {}  {}", status.kills, reasons.join(", "))], columns);
    // Two lines are to spare.
    let room = room.saturating_sub(lines.len().saturating_sub(3)).max(1);
    lines.push(format!(
        "p50, p99: event to signal {}; signal to exit {}",
        pair(&status.to_signal),
        pair(&status.to_exit)
    ));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests;
    use lmkd::policy::KillReason;
    use lmkd::policy::RULES;
    use lmkd::recorder::few::Text;
    use lmkd::recorder::Next;
    use lmkd::recorder::Process;
    use lmkd::units::Kib;

    const SIZE: (usize, usize) = (80, 24);

    fn screen(page: Page, history: &History) -> Vec<String> {
        let mut choice = Choice { page, every_ms: 60_000, ..Choice::default() };
        lines(&mut choice, history, &Levels::default(), MonoTime::from_millis(3000), SIZE)
    }

    /// Kills for every reason, sixteen candidates, names and numbers as long as they come.
    fn crowded() -> History {
        let mut history = tests::with_state().history();
        let status = history.status.as_mut().unwrap();
        let next = status.next.iter().next().unwrap().process;
        let longest = Text::new(&[b'x'; 64]);
        let crowd = (0..16).map(|n| Next {
            process: Process { pid: 4_194_000 + n, ..next },
            rss: Kib(9_999_999),
            name: longest,
        });
        status.next = crowd.collect();
        let reasons = RULES.iter().map(|rule| rule.reason);
        let reasons = reasons.chain([KillReason::Vendor(0), KillReason::Minfree]);
        status.by_reason = reasons.clone().map(|reason| (reason, 1000)).collect();
        let slow = Spread { count: 1000, p50: 123_450, p90: 0, p99: 923_450, max: 0 };
        (status.to_signal, status.to_exit) = (slow, slow);
        let first = history.kills[0].clone();
        for (n, reason) in (1..).zip(reasons) {
            let mut story = first.clone();
            story.kill.pid = 4_194_000 + n;
            story.kill.cause.reason = reason;
            story.kill.name = Text::new(&[b'x'; 127]);
            history.kills.push(story);
        }
        history
    }

    #[test]
    fn every_page_fits_a_terminal_of_80_columns_and_24_lines() {
        for (name, history) in [("one kill", tests::with_state().history()), ("many", crowded())] {
            for page in [Page::Overview, Page::Explain, Page::WhyNot] {
                let shown = screen(page, &history);
                assert_eq!(shown.len(), 24, "{name}, {page:?}");
                // Only the end of a process's name may be cut off.
                for line in shown.iter().filter(|line| !line.contains("xxx")) {
                    let width = line.trim_start_matches('^').chars().count();
                    assert!(width <= 80, "{name}, {page:?}: {width} columns: {line}");
                }
            }
        }
    }

    #[test]
    fn the_newest_kills_and_the_next_victims_stand_on_the_overview_however_many_there_are() {
        let shown = screen(Page::Overview, &crowded()).join("\n");
        let newest = 4_194_000 + i32::try_from(RULES.len()).unwrap() + 2;
        for what in [format!("{newest} MINFREE"), format!("{} VENDOR", newest - 1)] {
            assert!(shown.contains(&what), "no {what} in\n{shown}");
        }
        assert!(shown.contains("next victims (7 registered)\n  800 4194000"), "{shown}");
        assert!(shown.contains("LOW_MEM 1000") && shown.contains("MINFREE 1000"), "{shown}");
    }

    #[test]
    fn sentences_go_on_in_the_next_line_and_nothing_of_them_is_lost() {
        let history = tests::with_state().history();
        let shown = screen(Page::WhyNot, &history);
        let text = shown.join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        let sentence =
            "NOT_RESPONDING not a critical pressure event (all tasks stalled 700ms of 1000ms)";
        assert!(text.contains(sentence), "{text}");
        let long = "  aaa bbb ".to_owned() + &"c".repeat(12);
        assert_eq!(
            folded(vec![long.clone()], 12),
            ["  aaa bbb", &format!("      {}", "c".repeat(12))]
        );
        let narrow = ["  aaa", &format!("      bbb {}", "c".repeat(12))];
        assert_eq!(folded(vec![long.clone()], 5), narrow);
        assert_eq!(folded(vec![long.clone()], 0), [long]);
        assert_eq!(folded(vec!["äöü äöü".to_owned()], 4), ["äöü", "    äöü"]);
    }

    #[test]
    fn scrolling_ends_where_the_page_ends() {
        let history = tests::with_state().history();
        let mut choice = Choice { page: Page::Explain, scrolled: 1000, ..Choice::default() };
        let now = MonoTime::from_millis(3000);
        let shown = lines(&mut choice, &history, &Levels::default(), now, SIZE);
        assert!(shown[22].contains("proven: the kernel says"), "{shown:?}");
        assert!(choice.scrolled < 40, "so that one key leads back up");
        choice.scrolled -= 1;
        let above = lines(&mut choice, &history, &Levels::default(), now, SIZE);
        assert_eq!(above[2..23], shown[1..22]);
        assert_eq!(above[0], shown[0]);
    }

    #[test]
    fn a_terminal_of_no_size_does_not_matter() {
        for size in [(0, 0), (1, 1), (3, 2), (10, 3), (200, 100)] {
            for page in [Page::Overview, Page::Explain, Page::WhyNot] {
                let mut choice = Choice { page, ..Choice::default() };
                let now = MonoTime::from_millis(3000);
                let shown = lines(&mut choice, &crowded(), &Levels::default(), now, size);
                assert!(shown.len() <= size.1.max(2), "{size:?}: {shown:?}");
            }
        }
    }
}
