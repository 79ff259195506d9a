//! `lmkctl why-not`: what keeps each rule from killing at this moment.

mod levels;
mod rules;

use crate::flag;
use crate::history::History;
use crate::history::Looked;
use crate::input;
use crate::json;
use crate::text::Span;
use crate::words;
use anyhow::bail;
use clap::ArgMatches;
use clap::Command;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::policy::Facts;
use lmkd::policy::MinfreeTable;
use lmkd::policy::Trigger;
use lmkd::recorder::Outlook;
use lmkd::recorder::Pressure;
use lmkd::recorder::Reclaims;
use lmkd::recorder::Status;
use serde_json::json;
use std::io::Write;
use std::time::Duration;

pub use rules::rules;

/// The end of the help.
const MORE: &str = "\
The facts are those of this moment, taken by the daemon; those of the last look, if a file is read.
Each rule is shown with the first of its conditions that does not hold, and the oom_score_adj down
to which it would kill; with use_minfree_levels each level, with what memory has above it. Before
them stands what keeps all of them from killing, or from being asked.

Exit status: 0 told; 1 no daemon and no file to ask; 2 the command line is not understood.

Examples:
  lmkctl why-not                     why nothing is killed now
  lmkctl why-not --from lmkd.rec     why nothing was killed at the end of a recording

--json prints one object: schema (1), time, trigger, signals, rules, by_minfree, waiting_for, dry_run,
notes (the lines before the rules), next_look_ms (null: an event only), watermark_rules_alone,
last_pressure_event, highest_candidate, floors (by reason: the lowest oom_score_adj it would kill at,
null: nobody), minfree (free_kb, file_cache_kb, and levels with pages, kb, oom_score_adj, chosen).";

/// The command line.
pub fn command() -> Command {
    Command::new("why-not")
        .about("Show the first failing condition of every rule, with its numbers")
        .after_help(MORE)
        .args([flag("json").help("One JSON object"), input::from()])
        .args(input::sockets())
}

/// Tells it; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let history = input::status(arguments)?;
    let Some(looked) = &history.looked else {
        bail!("there is no look at memory in the recording");
    };
    let Some(facts) = looked.facts(history.page()) else {
        bail!("there is no look at memory in the recording");
    };
    let view = View { history: &history, looked, facts };
    let when = history.clock.wall(looked.look.now);
    if arguments.get_flag("json") {
        let outlook = view.outlook();
        let told = json!({
            "schema": json::SCHEMA,
            "time": when.to_string(),
            "trigger": json::trigger(looked.look.trigger),
            "signals": json::signals(facts.signals, facts.page),
            "rules": json::rules(facts),
            "by_minfree": view.by_minfree(),
            "waiting_for": waiting_for(&history),
            "dry_run": history.header.dry_run,
            "notes": view.notes(),
            "next_look_ms": outlook.and_then(|outlook| outlook.next_look_ms),
            "watermark_rules_alone": view.asks_watermarks_alone(),
            "last_pressure_event": outlook
                .and_then(|outlook| outlook.last_pressure)
                .map(|at| json::time(&history.clock, at)),
            "highest_candidate": view.highest().map(OomScoreAdj::get),
            "floors": rules::floors(facts),
            "minfree": view.minfree().map(|table| levels::to_json(&table, &view)),
        });
        writeln!(out, "{told}")?;
        return Ok(0);
    }
    match history.status {
        Some(_) => writeln!(out, "{when}  as a timed look would find it now")?,
        None => writeln!(out, "{when}  looked because: {}", words::Cause(looked.look.trigger))?,
    }
    for line in view.notes() {
        writeln!(out, "{line}")?;
    }
    for line in view.lines() {
        writeln!(out, "  {line}")?;
    }
    Ok(0)
}

fn waiting_for(history: &History) -> Option<i32> {
    history.status.as_ref()?.waiting_for
}

/// What is told about: a look, and how things stood then.
struct View<'a> {
    history: &'a History,
    looked: &'a Looked,
    facts: Facts<'a>,
}

impl View<'_> {
    fn status(&self) -> Option<&Status> {
        self.history.status.as_ref()
    }

    fn outlook(&self) -> Option<&Outlook> {
        self.status()?.outlook.as_ref()
    }

    /// Whether clients' levels decide at this look: at one for scarce memory the rules do, whatever
    /// is set.
    fn by_minfree(&self) -> bool {
        self.facts.tunables.levels_decide() && !self.asks_watermarks_alone()
    }

    /// What does not let it kill: a line or more for each rule, or for each level.
    fn lines(&self) -> Vec<String> {
        match self.by_minfree() {
            true => levels::lines(self.minfree().as_ref(), self),
            false => rules::with_floors(self),
        }
    }

    /// The levels that clients sent; None if that is not known.
    fn minfree(&self) -> Option<MinfreeTable> {
        match self.outlook() {
            Some(outlook) => Some(outlook.minfree),
            None => self.looked.minfree,
        }
    }

    /// The highest oom_score_adj of a candidate; None if there is none from 0 on, or none is known.
    fn highest(&self) -> Option<OomScoreAdj> {
        self.status()?.next.iter().map(|next| next.process.adj).max()
    }

    /// Why nobody can be killed down to this oom_score_adj, if so. A recording that holds no state
    /// of the daemon knows of no candidates.
    fn nobody_from(&self, floor: Option<OomScoreAdj>) -> Option<String> {
        let Some(floor) = floor else {
            return Some("no oom_score_adj is as high as its floor: it kills nobody".to_owned());
        };
        let highest = self.highest().filter(|highest| *highest < floor)?;
        Some(format!("no candidate at or above {floor}; highest is {highest}"))
    }

    /// Why there is nobody at all.
    fn nobody(&self) -> Option<String> {
        let status = self.status().filter(|status| status.next.is_empty())?;
        let why = match status.registered == 0 && !self.history.header.adopt {
            true => "no process is registered",
            false => "none is at or above 0",
        };
        Some(format!("There is no candidate: {why}."))
    }

    /// Whether the look is one for scarce memory, which asks fewer rules.
    fn asks_watermarks_alone(&self) -> bool {
        match (self.outlook(), self.status()) {
            (Some(outlook), _) => outlook.watermarks_alone,
            (None, Some(_)) => false,
            (None, None) => self.looked.look.trigger == Trigger::KswapdWake,
        }
    }

    /// What keeps all rules from killing, or from being asked; a line each.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.history.header.dry_run {
            notes.push("The daemon runs with --dry-run: it never kills.".to_owned());
        }
        if let Some(pid) = waiting_for(self.history) {
            notes.push(format!(
                "No rule is asked before process {pid}, which was killed, has exited."
            ));
        }
        notes.extend(self.nobody());
        notes.extend(self.status().and_then(|status| self.no_look(status)));
        if self.by_minfree() {
            let what = "the levels of clients decide in place of the rules";
            notes.push(format!("use_minfree_levels is on: {what}."));
        } else if self.asks_watermarks_alone() {
            notes.push(self.watermarks_alone());
        }
        notes
    }

    /// Why no look is due.
    fn no_look(&self, status: &Status) -> Option<String> {
        match status.sources.pressure {
            Pressure::Waiting => {
                return Some(
                    "The pressure monitors wait for the end of boot (delay_monitors_until_boot): \
                     until a client tells of it, only the vendor's kernel can have anybody killed."
                        .to_owned(),
                )
            }
            Pressure::Sampling { .. } => return None,
            Pressure::Monitors { .. } => {}
        }
        let outlook = status.outlook.as_ref()?;
        if outlook.next_look_ms.is_some() || status.waiting_for.is_some() {
            return None;
        }
        let event = match (outlook.last_pressure, status.sources.pressure) {
            (_, Pressure::Monitors { medium: false, critical: false, .. }) => {
                "no pressure monitor is armed, as no stall is set".to_owned()
            }
            (None, _) => "no pressure event since the daemon started".to_owned(),
            (Some(at), _) => {
                let ago = Duration::from_micros(self.looked.look.now.micros_since(at));
                let at = self.history.clock.wall(at);
                format!("no pressure event since {at}, {} ago, and polling has ended", Span(ago))
            }
        };
        let woken = match status.sources.reclaim {
            Reclaims::Counters => "",
            _ => " A wake-up of kswapd brings one too, at the rules about watermarks alone.",
        };
        Some(format!("No look is due: {event}.{woken}"))
    }

    /// Which rules such a look asks, and when.
    fn watermarks_alone(&self) -> String {
        let Facts { signals, page, .. } = self.facts;
        let swap = self.looked.look.seen.as_ref().map(|seen| seen.sample.meminfo.swap_free);
        let (swap, high) = (swap.unwrap_or_default(), signals.watermarks.high);
        let [file, swap_kb, high_kb] = [signals.file_cache, swap, high].map(|all| all.to_kib(page));
        let below = if signals.file_cache + swap < high { "<" } else { ">=" };
        format!(
            "A look by a wake-up of kswapd asks the rules about watermarks alone, and those only \
             with nothing left to reclaim: file cache {file}kB + free swap {swap_kb}kB {below} high \
             watermark {high_kb}kB."
        )
    }
}

#[cfg(test)]
mod tests;
