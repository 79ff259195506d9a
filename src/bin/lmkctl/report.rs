//! `lmkctl report`: a recording as a page to look at.

use crate::timeline::episodes;
use crate::timeline::millis;
use crate::timeline::overview;
use crate::timeline::settings_table;
use crate::timeline::Timeline;
use anyhow::Context;
use clap::value_parser;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use lmkd::kill::ledger::Moments;
use lmkd::pages::Histogram;
use lmkd::pages::Page;
use lmkd::pages::Section;
use lmkd::recorder::Recording;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// The end of the help.
const MORE: &str = "\
The page is one file that needs no network and no script. It shows memory, watermarks, swap, pressure
and thrashing over time beside their thresholds, each process as a bar coloured by its oom_score_adj,
every kill with its reason and how long each step took, and the settings. What a torn recording lacks
or the ring had lost stands at its head.

Exit status: 0 drawn; 1 the recording cannot be read or the page not written; 2 the command line is
not understood.

Examples:
  lmkctl record kills.rec && lmkctl report kills.rec -o report.html";

/// The command line.
pub fn command() -> Command {
    Command::new("report").about("Draw a recording as a page to look at").after_help(MORE).args([
        recording_argument(),
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("OUT")
            .default_value("report.html")
            .value_parser(value_parser!(PathBuf))
            .help("Write the page to this file; - is the standard output"),
    ])
}

/// The recording that is read.
pub fn recording_argument() -> Arg {
    Arg::new("recording")
        .required(true)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("A recording, of lmkctl record or of lmkd --record")
}

/// Reads the recording that the arguments name.
pub fn open(arguments: &ArgMatches) -> anyhow::Result<(PathBuf, Recording)> {
    let file = arguments.get_one::<PathBuf>("recording").context("no recording is named")?;
    let recording =
        Recording::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.clone(), recording))
}

/// Writes a page to a file, or to `out` for `-`.
pub fn save(page: &Page, file: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let html = page.html()?;
    if file == Path::new("-") {
        return Ok(out.write_all(html.as_bytes())?);
    }
    fs::write(file, html).with_context(|| format!("cannot write {}", file.display()))
}

/// Draws the page.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (file, recording) = open(arguments)?;
    let output = arguments.get_one::<PathBuf>("output").context("no output is named")?;
    save(&page(&file, &recording), output, out)?;
    Ok(0)
}

fn page(file: &Path, recording: &Recording) -> Page {
    let timeline = Timeline::new(recording);
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let (all, left_out) = episodes(&timeline);
    let mut sections = vec![overview(&timeline, &all, left_out)];
    sections.push(Section::Histograms("How long a kill takes".to_owned(), latencies(&timeline)));
    let stories = all.iter().enumerate().map(|(n, episode)| episode.story(n, &timeline));
    sections.extend(stories.map(|story| Section::Story(Box::new(story))));
    if let Some(tunables) = timeline.settings {
        let text = vec!["Set off: what is not the default.".to_owned()];
        sections.push(Section::Table(text, settings_table(tunables, None)));
    }
    Page { title: format!("lmkd: what {name} tells"), facts: timeline.facts(&name), sections }
}

/// The steps of all kills.
fn latencies(timeline: &Timeline<'_>) -> Vec<Histogram> {
    let all: Vec<Moments> = timeline.kills.iter().filter_map(|victim| victim.moments).collect();
    let step = |title: &str, value: &dyn Fn(&Moments) -> Option<u64>| Histogram {
        title: title.to_owned(),
        values: all.iter().filter_map(value).map(millis).collect(),
    };
    vec![
        step("event to decision", &|m| Some(m.decided.micros_since(m.woken))),
        step("event to signal", &|m| Some(m.signalled.micros_since(m.woken))),
        step("signal to memory back", &|m| Some(m.released?.micros_since(m.signalled))),
        step("signal to exit", &|m| Some(m.exited?.micros_since(m.signalled))),
    ]
}
