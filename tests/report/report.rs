//! `report -o OUT.html RESULT.json...`: one page of what the suite measured, a row and a picture per scenario.
#![allow(clippy::unwrap_used)]

mod result;

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lmkd::pages::Histogram;
use lmkd::pages::Page;
use lmkd::pages::Row;
use lmkd::pages::Section;
use lmkd::pages::Table;
use result::Outcome;
use std::env;
use std::fs;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [option, out, files @ ..] = args.as_slice() else {
        bail!("usage: report -o OUT RESULT...")
    };
    if option != "-o" || files.is_empty() {
        bail!("usage: report -o OUT RESULT...");
    }
    let mut outcomes = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let text = fs::read_to_string(file).with_context(|| file.clone())?;
        let value = serde_json::from_str(&text).with_context(|| file.clone())?;
        outcomes.push(Outcome::new(&value, n).with_context(|| file.clone())?);
    }
    let page = page(outcomes).html()?;
    fs::write(out, page).with_context(|| out.clone())
}

fn page(outcomes: Vec<Outcome>) -> Page {
    let failed = outcomes.iter().filter(|outcome| !outcome.ok).count();
    let mut kernels: Vec<String> = outcomes.iter().map(|outcome| outcome.device.clone()).collect();
    kernels.sort_unstable();
    kernels.dedup();
    let facts = [
        ("scenarios", outcomes.len().to_string()),
        ("failed", failed.to_string()),
        ("devices", kernels.join("; ")),
    ];
    let columns = [
        "scenario",
        "daemon",
        "result",
        "kills",
        "OOM kills",
        "stall, some",
        "stall, full",
        "freed per kill",
        "frames > 16 ms",
        "> 100 ms",
        "> 1 s",
        "daemon's CPU",
        "wake-ups",
    ];
    let summary = Table {
        caption: "Scenarios".to_owned(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: outcomes.iter().map(row).collect(),
    };
    let told = |pick: fn(&Outcome) -> &[f64]| outcomes.iter().flat_map(pick).copied().collect();
    let steps = [
        ("signal to the victim's exit", told(|outcome| &outcome.exits)),
        ("signal to a client's packet", told(|outcome| &outcome.packets)),
    ];
    let steps = steps.map(|(title, values)| Histogram { title: title.to_owned(), values });
    let mut sections = vec![
        Section::Table(Vec::new(), summary),
        Section::Histograms("How long a kill by lmkd takes".to_owned(), steps.to_vec()),
    ];
    sections.extend(outcomes.into_iter().map(|outcome| Section::Story(Box::new(outcome.story))));
    Page {
        title: "Low-memory scenarios".to_owned(),
        facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        sections,
    }
}

fn row(outcome: &Outcome) -> Row {
    let result = if outcome.ok { "pass" } else { "FAIL" };
    let mut cells = vec![outcome.scenario.clone(), outcome.daemon.clone(), result.to_owned()];
    let figures = [
        ("kills", ""),
        ("oom_kills", ""),
        ("some_ms", " ms"),
        ("full_ms", " ms"),
        ("freed_kb_per_kill", " kB"),
        ("frames_over_16_ms", ""),
        ("frames_over_100_ms", ""),
        ("frames_over_1000_ms", ""),
        ("daemon_cpu_ms", " ms"),
        ("daemon_wakeups", ""),
    ];
    cells.extend(figures.map(|(name, unit)| match outcome.figures[name].as_f64() {
        Some(value) => format!("{value:.0}{unit}"),
        None => "–".to_owned(),
    }));
    Row { cells, leads_to: Some(outcome.story.id.clone()), strong: !outcome.ok }
}
