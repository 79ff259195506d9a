//! `lmkctl replay`: the decision run again over a recording, with its settings or with others.

mod compare;
mod page;

use crate::flag;
use crate::report::open;
use crate::report::recording_argument;
use crate::report::save;
use crate::timeline::count;
use crate::timeline::memory_in_words;
use crate::timeline::values;
use crate::timeline::Timeline;
use clap::value_parser;
use clap::Arg;
use clap::ArgAction;
use clap::ArgMatches;
use clap::Command;
use compare::Coming;
use compare::Comparison;
use compare::Outcome;
use lmkd::config::Kind;
use lmkd::config::Tunable;
use lmkd::config::Tunables;
use lmkd::recorder::Replayed;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// The decision came out otherwise than it was recorded.
const DIFFERS: u8 = 3;
/// No look could be decided again.
const NOTHING: u8 = 4;
/// Differing looks beyond this are only counted.
const SHOWN: usize = 20;

/// What no replay can know.
pub const UNKNOWABLE: [&str; 4] = [
    "The replay makes each recorded decision again, with the facts that were recorded at that moment. \
     After a kill that is left out the recording still shows memory as that kill had left it, so a \
     later need for one may be missed; after a kill that comes it shows memory without what that \
     kill would have freed, so more looks may ask for one than would have. Such looks are counted \
     as one kill, and the decision does not remember it: limits that a kill lowers stay as they were.",
    "It looks only where the daemon looked. Settings that wake the daemon (psi_partial_stall_ms, \
     psi_complete_stall_ms, psi_window_size_ms, use_psi) change what is decided at a look, not when \
     the kernel would have told of pressure. Looks that were skipped because a victim had not exited \
     stay skipped, also where that kill is left out.",
    "Who would be killed is the next in line of those registered then. At or below oom_score_adj 200 \
     the daemon takes the heaviest, and sizes are not in a recording.",
    "What processes would have done with memory that a kill had not taken from them, nobody knows.",
];

/// The end of the help.
const MORE: &str = "\
With the recorded settings every decision has to come out as it was recorded, bit for bit: signals,
reason, the lowest adj, and when to look again. With others (--set) each recorded kill stays, goes or
moves (another moment, reason or lowest adj), and new ones come; each with memory and stall at that
moment. A kill that goes and one that comes within 10 s after it are one that moves.

What a replay cannot know: after a kill that is left out the recording still shows memory as that kill
left it, and after one that comes, memory without what it would have freed. It looks only where the
daemon looked. Looks that were skipped for a victim stay skipped, and a kill that comes
lowers no limit. Victims of new kills are the next in line; at or below adj 200 the daemon takes the
heaviest, and sizes are not recorded.

Exit status: 0 done; 3 decisions differ although the settings are the recorded ones; 4 no look could
be replayed; 1 the recording cannot be read; 2 the command line is not understood.

Examples:
  lmkctl replay kills.rec
  lmkctl replay kills.rec --set thrashing_limit=30 --set swap_free_low_percentage=20 --html both.html";

/// The command line.
pub fn command() -> Command {
    Command::new("replay")
        .about("Make the decisions of a recording again, with its settings or with others")
        .after_help(MORE)
        .args([
            recording_argument(),
            Arg::new("set")
                .long("set")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .value_parser(setting)
                .help("Replace a setting; may be repeated (names as in lmkd --help-tunables)"),
            flag("compare").help("List the kills that stay, too"),
            Arg::new("html")
                .long("html")
                .value_name("OUT")
                .value_parser(value_parser!(PathBuf))
                .help("Draw recording and replay side by side as a page; - is the standard output, with the text on standard error"),
        ])
}

/// A setting to replay with.
#[derive(Clone)]
struct Setting {
    tunable: &'static Tunable,
    value: i64,
}

fn setting(text: &str) -> Result<Setting, String> {
    let (name, value) = text.split_once('=').ok_or("it is not NAME=VALUE")?;
    let name = name.rsplit('.').next().unwrap_or(name);
    let tunable = Tunable::named(name).ok_or_else(|| format!("no tunable is called {name}"))?;
    let value = match tunable.kind {
        Kind::Bool(_) | Kind::Choice(_) => match value {
            "true" | "1" => 1,
            "false" | "0" => 0,
            _ => return Err(format!("{name} is true or false")),
        },
        Kind::Int { min, max, .. } => {
            let value: i64 = value.parse().map_err(|_| format!("{name} is a number"))?;
            if !(min..=max).contains(&value) {
                return Err(format!("{name} lies between {min} and {max}"));
            }
            value
        }
        Kind::NoEffect => return Err(format!("{name} has no effect")),
    };
    Ok(Setting { tunable, value })
}

impl Setting {
    fn apply(&self, tunables: &mut Tunables) {
        match self.tunable.kind {
            Kind::Bool(field) => *field(tunables) = self.value != 0,
            Kind::Int { field, .. } => *field(tunables) = self.value,
            Kind::Choice(field) => *field(tunables) = Some(self.value != 0),
            Kind::NoEffect => {}
        }
    }
}

/// Replays.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let html = arguments.get_one::<PathBuf>("html");
    let mut stderr = io::stderr();
    let text: &mut dyn Write = match html {
        // A page with text before it would be none.
        Some(html) if html == Path::new("-") => &mut stderr,
        _ => &mut *out,
    };
    let (file, recording) = open(arguments)?;
    let timeline = Timeline::new(&recording);
    let settings: Vec<Setting> = arguments.get_many("set").into_iter().flatten().cloned().collect();
    let change = |tunables: &mut Tunables| settings.iter().for_each(|one| one.apply(tunables));
    let comparison = Comparison::new(&recording, &timeline, &change);
    for (name, value) in timeline.facts(&file.display().to_string()) {
        writeln!(text, "{:<10} {value}", name + ":")?;
    }
    writeln!(text)?;
    let status = if comparison.compared() == 0 {
        writeln!(text, "NOTHING was replayed: {}.", nothing(&comparison))?;
        NOTHING
    } else if comparison.faithful {
        faithful(&comparison, text)?
    } else {
        other(&comparison, arguments.get_flag("compare"), text)?;
        0
    };
    if let Some(html) = html {
        save(&page::page(&file, &comparison), html, out)?;
    }
    Ok(status)
}

/// Why no look was replayed.
fn nothing(comparison: &Comparison<'_>) -> String {
    match comparison.replayed.len() {
        0 => "the recording holds no looks".to_owned(),
        looks => format!("none of {looks} looks has settings and a checkpoint before it"),
    }
}

/// What came of a replay with the recorded settings.
fn faithful(comparison: &Comparison<'_>, out: &mut dyn Write) -> anyhow::Result<u8> {
    let (looks, kills) = (comparison.compared(), comparison.kills_compared());
    let before = comparison.replayed.len().saturating_sub(looks);
    write!(out, "{looks} looks and {} compared", count(kills))?;
    if before > 0 {
        write!(out, " ({before} looks have no checkpoint before them and are left out)")?;
    }
    writeln!(out)?;
    if comparison.differing.is_empty() && comparison.strayed == 0 {
        writeln!(out, "All came out as recorded, bit for bit.")?;
        return Ok(0);
    }
    for look in comparison.differing.iter().take(SHOWN) {
        let (Some(moment), Some(Some(said))) =
            (comparison.timeline.looks.get(*look), comparison.replayed.get(*look))
        else {
            continue;
        };
        let seen = moment.look.seen.as_ref().map(|seen| seen.verdict);
        let Replayed { admission, verdict, plan } = said;
        writeln!(out, "look {look} at {:.6} s differs:", moment.at)?;
        writeln!(out, "  recorded {:?} {seen:?} {:?}", moment.look.admission, moment.look.plan)?;
        writeln!(out, "  replayed {admission:?} {verdict:?} {plan:?}")?;
    }
    writeln!(
        out,
        "{} looks DIFFER from the recording, and at {} checkpoints the decision remembered something else.",
        comparison.differing.len(),
        comparison.strayed
    )?;
    Ok(DIFFERS)
}

/// What came of a replay with other settings.
fn other(comparison: &Comparison<'_>, all: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    for (name, from, to) in changed(comparison) {
        writeln!(out, "{name}: {from} -> {to}")?;
    }
    writeln!(out)?;
    for outcome in &comparison.outcomes {
        if all || !matches!(outcome, Outcome::Stays { .. }) {
            let (name, recorded, replayed) = sides(comparison, outcome);
            match outcome {
                Outcome::Comes(_) => writeln!(out, "{name:<6} {replayed}")?,
                Outcome::Moves { .. } => writeln!(out, "{name:<6} {recorded}\n    to {replayed}")?,
                _ => writeln!(out, "{name:<6} {recorded}")?,
            }
        }
    }
    writeln!(out, "{}", summary(comparison))?;
    writeln!(out)?;
    for text in UNKNOWABLE {
        writeln!(out, "{text}")?;
    }
    Ok(())
}

/// The settings that differ: name, recorded and replayed value.
pub fn changed(comparison: &Comparison<'_>) -> Vec<(&'static str, String, String)> {
    let last = comparison.settings.iter().rev().flatten().next();
    let (Some(now), Some(then)) = (last, comparison.timeline.settings) else { return Vec::new() };
    let both = values(then).into_iter().zip(values(now));
    let both = both.filter(|(then, now)| then.1 != now.1);
    both.map(|((name, then), (_, now))| (name, then, now)).collect()
}

/// How many stay, go, move and come.
pub fn summary(comparison: &Comparison<'_>) -> String {
    let (mut stay, mut go, mut come, mut shift) = (0_usize, 0_usize, 0_usize, 0_usize);
    for outcome in &comparison.outcomes {
        let counter = match outcome {
            Outcome::Stays { .. } => &mut stay,
            Outcome::Goes { .. } => &mut go,
            Outcome::Comes(_) => &mut come,
            Outcome::Moves { .. } => &mut shift,
        };
        *counter = counter.saturating_add(1);
    }
    let recorded = stay.saturating_add(go).saturating_add(shift);
    format!("Of {} recorded, {stay} stay, {go} go, {shift} move; {come} come.", count(recorded))
}

/// What becomes of one kill, and its two sides, with memory and stall at those moments.
pub fn sides(comparison: &Comparison<'_>, outcome: &Outcome) -> (&'static str, String, String) {
    let recorded = |look: usize| recorded(comparison, look);
    match outcome {
        Outcome::Stays { look } => ("stays", recorded(*look), "the same".to_owned()),
        Outcome::Goes { look } => ("goes", recorded(*look), "none".to_owned()),
        Outcome::Comes(to) => ("comes", "none".to_owned(), replayed(comparison, to)),
        Outcome::Moves { look, to } => ("moves", recorded(*look), replayed(comparison, to)),
    }
}

fn moment_in_words(comparison: &Comparison<'_>, look: usize) -> (String, String) {
    let timeline = comparison.timeline;
    timeline.looks.get(look).map_or_else(Default::default, |moment| {
        (format!("{:.3} s", moment.at), memory_in_words(moment.look, timeline.page()))
    })
}

fn recorded(comparison: &Comparison<'_>, look: usize) -> String {
    let timeline = comparison.timeline;
    let (at, memory) = moment_in_words(comparison, look);
    let victim = timeline.kills.iter().find(|victim| victim.look == Some(look));
    let who = match victim.and_then(|victim| victim.kill) {
        Some(kill) => format!("'{}' ({}), adj {}", kill.name, kill.pid, kill.adj),
        None => victim.map_or_else(String::new, |victim| format!("({})", victim.pid)),
    };
    let seen = timeline.looks.get(look).and_then(|moment| moment.look.seen.as_ref());
    let cause = seen.and_then(|seen| seen.verdict.cause);
    let cause = cause.map_or_else(String::new, |cause| {
        format!("{} down to {}", cause.reason.name(), cause.min_adj)
    });
    format!("{at}: {who}: {cause}; {memory}")
}

fn replayed(comparison: &Comparison<'_>, to: &Coming) -> String {
    let (at, memory) = moment_in_words(comparison, to.look);
    let mut text = format!("{at}: {}: ", victim_in_words(comparison, to));
    text.push_str(&format!("{} down to {}; {memory}", to.cause.reason.name(), to.cause.min_adj));
    if to.again > 0 {
        text.push_str(&format!("; {} more looks asked again", to.again));
    }
    text
}

/// Who would be killed.
pub fn victim_in_words(comparison: &Comparison<'_>, to: &Coming) -> String {
    let Some(victim) = to.victim else { return "nobody was registered".to_owned() };
    let named = comparison.timeline.kills.iter().filter_map(|victim| victim.kill);
    let mut named = named.filter(|kill| kill.pid == victim.pid);
    let name = named
        .next_back()
        .map_or_else(|| format!("user {}", victim.uid), |kill| format!("'{}'", kill.name));
    format!("{name} ({}), adj {}", victim.pid, victim.adj)
}

#[cfg(test)]
mod tests;
