//! Daemons side by side.

use crate::story::Story;
use std::fmt::Write;

/// A table in Markdown: one row a scenario and daemon.
pub fn table(stories: &[Story]) -> String {
    let mut text = String::from(
        "| scenario | daemon | some, ms | full, ms | kills | kB freed per kill | frames over 16 / 100 / 1000 ms | \
         kernel OOM kills | daemon's CPU, ms | wake-ups |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut order: Vec<&Story> = stories.iter().collect();
    // Scenarios stay in the order of the first daemon.
    order.sort_by_key(|story| stories.iter().position(|first| first.scenario == story.scenario));
    for story in order {
        let figures = &story.figures;
        let frames = story.frames.as_ref().map_or_else(String::new, |frames| {
            format!(
                "{} / {} / {} of {}",
                frames.over_16_ms, frames.over_100_ms, frames.over_1000_ms, frames.count
            )
        });
        let watched =
            |value: u64| if story.daemon == "none" { "-".to_owned() } else { value.to_string() };
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {:.0} | {} | {} | {frames} | {} | {} | {} |",
            story.scenario,
            story.daemon,
            figures.some_ms,
            figures.full_ms,
            watched(figures.kills),
            watched(figures.freed_kb_per_kill),
            figures.oom_kills,
            watched(figures.daemon_cpu_ms),
            watched(figures.daemon_wakeups),
        );
    }
    text
}
