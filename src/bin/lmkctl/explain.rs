//! `lmkctl explain`: why a process was killed, number by number, and how the kill went.

use crate::flag;
use crate::history::History;
use crate::history::Looked;
use crate::history::Story;
use crate::input;
use crate::json;
use crate::text::Span;
use crate::words;
use anyhow::bail;
use clap::builder::NonEmptyStringValueParser;
use clap::Arg;
use clap::ArgMatches;
use clap::Command;
use lmkd::clock::MonoTime;
use lmkd::policy::Facts;
use lmkd::policy::KillReason;
use lmkd::policy::Rule;
use lmkd::policy::Trigger;
use lmkd::policy::Why;
use lmkd::policy::RULES;
use lmkd::recorder::Process;
use lmkd::recorder::Step;
use lmkd::units::Pages;
use std::io;
use std::io::Write;
use std::time::Duration;

/// The end of the help.
const MORE: &str = "\
Exit status: 0 explained; 1 there is no such kill, or no daemon and no file to ask; 2 the command
line is not understood.

Examples:
  lmkctl explain                            the last kill
  lmkctl explain 4711                       the last kill of a process with that id
  lmkctl explain com.example.camera         the last kill of a process with that in its name
  lmkctl explain --all --from lmkd.rec      every kill of a recording
  lmkctl explain --json                     the same as one JSON object per kill";

/// The command line.
pub fn command() -> Command {
    Command::new("explain")
        .about("Explain a kill: the rule, each number, the rules before it, victims, time line")
        .after_help(MORE)
        .args([
            Arg::new("which")
                .value_name("PID|NAME|last")
                .default_value("last")
                // Nothing is a part of every name.
                .value_parser(NonEmptyStringValueParser::new())
                .help("The victim's process id or a part of its name"),
            flag("all").help("All kills that fit, not only the last"),
            flag("json").help("One JSON object per kill"),
            input::from(),
        ])
        .args(input::sockets())
}

/// Explains; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let history = input::history(arguments)?;
    let which = arguments.get_one::<String>("which").map_or("last", String::as_str);
    let fits = |story: &&Story| which == "last" || is_meant(story, which);
    let mut found: Vec<&Story> = history.kills.iter().filter(fits).collect();
    if found.is_empty() {
        bail!("{}", absent(&history, which));
    }
    if !arguments.get_flag("all") {
        found.drain(..found.len().saturating_sub(1));
    }
    for (index, story) in found.iter().enumerate() {
        if arguments.get_flag("json") {
            writeln!(out, "{}", json::story(story, &history))?;
        } else {
            if index > 0 {
                writeln!(out)?;
            }
            explain(story, &history, out)?;
        }
    }
    Ok(0)
}

fn is_meant(story: &Story, which: &str) -> bool {
    match which.parse::<i32>() {
        Ok(pid) => story.kill.pid == pid,
        Err(_) => story.kill.name.to_string().contains(which),
    }
}

fn absent(history: &History, which: &str) -> String {
    let what = match which {
        "last" => "no kill".to_owned(),
        pid if pid.parse::<i32>().is_ok() => format!("no kill of a process {pid}"),
        name => format!("no kill of a process with '{name}' in its name"),
    };
    let kills = history.kills.len();
    match history.span {
        None => format!("{what}: the recording holds no records"),
        Some((first, last)) => {
            let [from, to] = [first, last].map(|at| history.clock.wall(at));
            format!("{what} from {from} to {to}, {kills} kills in all")
        }
    }
}

/// Prints one kill.
pub fn explain(story: &Story, history: &History, out: &mut dyn Write) -> io::Result<()> {
    let kill = &story.kill;
    let when = history.clock.wall(kill.moments.signalled);
    writeln!(out, "{when}  killed '{}' ({}), uid {}", kill.name, kill.pid, kill.uid)?;
    writeln!(
        out,
        "  oom_score_adj {}, {} kB resident, {} kB in swap, {} threads",
        kill.adj, kill.rss, kill.swap, kill.threads
    )?;
    writeln!(out)?;
    match &story.looked {
        Some(looked) => because(story, looked, history, out)?,
        None if kill.cause.reason == KillReason::Watchdog => {
            writeln!(out, "Because a handler of the daemon was stuck. Nothing was decided.")?;
        }
        None => writeln!(
            out,
            "Because of {} ({}); the look that decided it is not in the recording.",
            kill.cause.reason.name(),
            kill.cause.reason.number()
        )?,
    }
    victims(story, history, out)?;
    time_line(story, out)
}

fn because(
    story: &Story,
    looked: &Looked,
    history: &History,
    out: &mut dyn Write,
) -> io::Result<()> {
    let cause = &story.kill.cause;
    let reason = cause.reason;
    writeln!(
        out,
        "Because of {} ({}), which kills down to oom_score_adj {}:",
        reason.name(),
        reason.number(),
        cause.min_adj
    )?;
    let (Some(facts), Some(seen)) = (looked.facts(history.page()), &looked.look.seen) else {
        return writeln!(out, "  what was seen is not in the recording");
    };
    match Rule::of(reason) {
        Some(rule) => {
            for condition in rule.conditions {
                writeln!(out, "  {}", condition.said(facts, true))?;
            }
        }
        None => {
            let (signals, tunables, page) = (facts.signals, facts.tunables, facts.page);
            let why = Why { cause, signals, tunables, sample: &seen.sample, page };
            writeln!(out, "  {why}")?;
            let table = looked.minfree.iter().filter(|_| reason == KillReason::Minfree);
            let levels = table.flat_map(|table| table.levels());
            for (pages, adj) in levels.filter(|(_, adj)| *adj == cause.min_adj) {
                let (pages, kib) = (pages.get(), pages.to_kib(page));
                writeln!(out, "  the level of oom_score_adj {adj} is {pages} pages = {kib} kB")?;
            }
        }
    }
    notes(looked, facts, out)?;
    writeln!(out, "Looked because: {}.", words::Cause(looked.look.trigger))?;
    memory(looked, facts, out)?;
    if let Some(rule) = Rule::of(reason) {
        rules_before(rule, looked, facts, out)?;
    }
    Ok(())
}

/// What the conditions do not say: where free swap is less than is empty, and what lowers the adj
/// down to which it kills.
fn notes(looked: &Looked, facts: Facts<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Facts { signals, tunables, page } = facts;
    let kib = |pages: Pages| pages.to_kib(page);
    let sample = looked.look.seen.as_ref().map(|seen| &seen.sample);
    let empty = sample.map_or(signals.free_swap, |sample| sample.meminfo.swap_free);
    if signals.swap_is_low && signals.free_swap < empty {
        writeln!(
            out,
            "  {} kB of swap are empty, but memory to fill more than {} kB is not to be had",
            kib(empty),
            kib(signals.free_swap)
        )?;
    }
    if let (true, Some(sample)) = (signals.exhausted, sample) {
        writeln!(
            out,
            "  nothing left to reclaim: file cache {}kB + free swap {}kB < high watermark {}kB",
            kib(signals.file_cache),
            kib(sample.meminfo.swap_free),
            kib(signals.watermarks.high)
        )?;
    }
    let stall = sample.and_then(|sample| sample.stall);
    if let (true, Some(stall)) = (signals.critical_stall, stall) {
        let (whole, part) = (stall.full_avg10_centi / 100, stall.full_avg10_centi % 100);
        writeln!(
            out,
            "  every protection lifted: all tasks stalled {whole}.{part:02}% of 10s > {}%",
            tunables.stall_limit_critical
        )?;
    }
    Ok(())
}

/// What memory was like, whichever numbers the rule asked for.
fn memory(looked: &Looked, facts: Facts<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Facts { signals, page, .. } = facts;
    let kib = |pages: Pages| pages.to_kib(page);
    let Some(sample) = looked.look.seen.as_ref().map(|seen| &seen.sample) else { return Ok(()) };
    let (free, total) = (kib(signals.free), kib(sample.meminfo.total));
    writeln!(
        out,
        "Memory then: {free} of {total} kB free, file cache {} kB, swap {} of {} kB free,",
        kib(signals.file_cache),
        kib(sample.meminfo.swap_free),
        kib(sample.meminfo.swap_total)
    )?;
    write!(out, "  thrashing {}%, reclaim by {}", signals.thrashing, words::by(signals.reclaim))?;
    match sample.stall.map(|stall| stall.full_avg10_centi) {
        Some(stall) => {
            writeln!(out, ", all tasks stalled {}.{:02}% of 10 s", stall / 100, stall % 100)
        }
        None => writeln!(out),
    }
}

fn rules_before(
    rule: &Rule,
    looked: &Looked,
    facts: Facts<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let before: Vec<&Rule> =
        RULES.iter().take_while(|earlier| earlier.reason != rule.reason).collect();
    if before.is_empty() {
        return writeln!(out, "It is the first rule.");
    }
    writeln!(out, "The rules before it did not apply:")?;
    for earlier in before {
        writeln!(out, "  {:<29} {}", earlier.reason.name(), failing(earlier, looked, facts))?;
    }
    Ok(())
}

/// Why a rule did not decide.
pub fn failing(rule: &Rule, looked: &Looked, facts: Facts<'_>) -> String {
    match rule.first_failing(&facts) {
        Some(condition) => condition.said(facts, false).to_string(),
        // Only the rules about watermarks are asked then.
        None if matches!(looked.look.trigger, Trigger::KswapdWake | Trigger::Poll) => {
            "it holds, but reclaim alone, without a pressure event, does not ask it".to_owned()
        }
        None => "it holds".to_owned(),
    }
}

fn victims(story: &Story, history: &History, out: &mut dyn Write) -> io::Result<()> {
    let kill = &story.kill;
    writeln!(out, "Victims considered:")?;
    let tried = story.looked.iter().flat_map(|looked| looked.look.tried.iter());
    for tried in tried {
        let Process { pid, adj, .. } = tried.process;
        writeln!(out, "  {pid} at {adj}: passed over, {}", words::Why(tried.obstacle))?;
    }
    writeln!(out, "  {} at {}: chosen", kill.pid, kill.adj)?;
    for next in kill.next.iter() {
        writeln!(out, "  {} at {}: would have been next", next.pid, next.adj)?;
    }
    if history.header.adopt {
        writeln!(out, "  and processes that nobody registered, which no recording names")?;
    }
    Ok(())
}

fn time_line(story: &Story, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Time line:")?;
    let last = story.fates.last().map_or(story.kill.moments, |(_, fate)| fate.moments);
    let mut moments: Vec<(MonoTime, String)> = match story.kill.cause.reason {
        KillReason::Watchdog => vec![(last.woken, "the watchdog's patience ended".to_owned())],
        _ => vec![
            (last.woken, "the event came out of the kernel".to_owned()),
            (last.decided, "decided".to_owned()),
        ],
    };
    moments.push((last.raised, "the victim's leader raised".to_owned()));
    moments.push((last.signalled, "SIGKILL sent".to_owned()));
    let released = "its memory is back (process_mrelease)";
    moments.extend(last.released.map(|at| (at, released.to_owned())));
    for (at, fate) in &story.fates {
        let at = match fate.step {
            Step::Exited => fate.moments.exited,
            Step::Proven | Step::Otherwise(_) => fate.moments.proven,
            Step::TimedOut { .. } | Step::Untold => None,
        }
        .unwrap_or(*at);
        moments.push((at, words::Meaning(fate.step).to_string()));
    }
    moments.sort_by_key(|(at, _)| *at);
    for (at, what) in moments {
        let span = Span(Duration::from_micros(at.micros_since(last.woken)));
        writeln!(out, "  {:>9}  {what}", span.to_string())?;
    }
    match story.fates.is_empty() {
        true => writeln!(out, "  its end is not in the recording"),
        false => Ok(()),
    }
}
