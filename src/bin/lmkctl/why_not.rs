//! `lmkctl why-not`: what keeps each rule from killing at this moment.

use crate::flag;
use crate::history::History;
use crate::input;
use crate::json;
use crate::words;
use anyhow::bail;
use clap::ArgMatches;
use clap::Command;
use lmkd::policy::Facts;
use lmkd::policy::Rule;
use lmkd::policy::RULES;
use serde_json::json;
use std::io::Write;

/// The end of the help.
const MORE: &str = "\
The facts are those of this moment, taken by the daemon; those of the last look, if a file is read.
Each rule is shown with the first of its conditions that does not hold.

Exit status: 0 told; 1 no daemon and no file to ask; 2 the command line is not understood.

Examples:
  lmkctl why-not                     why nothing is killed now
  lmkctl why-not --from lmkd.rec     why nothing was killed at the end of a recording";

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
    let when = history.clock.wall(looked.look.now);
    if arguments.get_flag("json") {
        let told = json!({
            "schema": json::SCHEMA,
            "time": when.to_string(),
            "trigger": json::trigger(looked.look.trigger),
            "signals": json::signals(facts.signals, facts.page),
            "rules": json::rules(facts),
            "by_minfree": by_minfree(facts),
            "waiting_for": waiting_for(&history),
        });
        writeln!(out, "{told}")?;
        return Ok(0);
    }
    match history.status {
        Some(_) => writeln!(out, "{when}  as a timed look would find it now")?,
        None => writeln!(out, "{when}  looked because: {}", words::Cause(looked.look.trigger))?,
    }
    if let Some(pid) = waiting_for(&history) {
        writeln!(out, "No rule is asked before process {pid}, which was killed, has exited.")?;
    }
    if by_minfree(facts) {
        writeln!(out, "use_minfree_levels is on: the levels of clients decide in place of these.")?;
    }
    for line in rules(facts) {
        writeln!(out, "  {line}")?;
    }
    Ok(0)
}

/// A line for each rule.
pub fn rules(facts: Facts<'_>) -> Vec<String> {
    let line = |rule: &Rule| format!("{:<29} {}", rule.reason.name(), failing(rule, facts));
    RULES.iter().map(line).collect()
}

/// Whether clients' levels decide: on a low-RAM device the rules do, whatever is set.
fn by_minfree(facts: Facts<'_>) -> bool {
    facts.tunables.use_minfree_levels && !facts.tunables.low_ram
}

fn waiting_for(history: &History) -> Option<i32> {
    history.status.as_ref()?.waiting_for
}

fn failing(rule: &Rule, facts: Facts<'_>) -> String {
    match rule.first_failing(&facts) {
        Some(condition) => condition.said(facts, false).to_string(),
        None => {
            let all = rule.conditions.iter().map(|c| c.said(facts, true).to_string());
            format!("HOLDS: {}", all.collect::<Vec<_>>().join(", "))
        }
    }
}
