//! `lmkctl events`: kills and changes of the pressure level, for programs.

use crate::flag;
use crate::history::Clock;
use crate::input;
use crate::json;
use crate::words;
use clap::ArgMatches;
use clap::Command;
use lmkd::clock::MonoTime;
use lmkd::policy::Level;
use lmkd::policy::Trigger;
use lmkd::recorder::Entry;
use lmkd::recorder::Record;
use lmkd::recorder::Sources;
use serde_json::json;
use serde_json::Value;
use std::io;
use std::io::Write;

/// The end of the help.
const MORE: &str = "\
One line for each, as it happens, until lmkctl is ended or the daemon ends. With --json each line is
an object with schema (1), event, time (UTC), and:
  kill     ticket, pid, uid, oom_score_adj, name, rss_kb, swap_kb, threads, reason, reason_number,
           min_oom_score_adj, moments
  fate     ticket, pid, step (timed_out, exited, proven, otherwise, untold), status, signal, moments
  level    level, before: none, low, medium, critical. That of the latest pressure event; none once
           a pressure window has passed without one
  sources  pressure (waiting, psi, psi_unprivileged, sampling), reclaim (vmstat, bpf, bpf_android)
  lost     records: so many were overwritten before they were read
moments has decided_us, raised_us, signalled_us, memory_back_us, exited_us and proven_us, counted
from the kernel's event; null for what has not come. Names are stable; more may be added.

Exit status: 0 the file ends, or the reader is gone; 1 the daemon is gone, or there is none; 2 the
command line is not understood.

Examples:
  lmkctl events --json | jq -c 'select(.event == \"kill\") | [.time, .name, .reason]'
  lmkctl events --json --from lmkd.rec";

/// The command line.
pub fn command() -> Command {
    Command::new("events")
        .about("Follow kills and changes of the pressure level")
        .after_help(MORE)
        .args([flag("json").help("One JSON object per line"), input::from()])
        .args(input::sockets())
}

/// Follows; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut told =
        Told { json: arguments.get_flag("json"), out, level: Levels::default(), sources: None };
    input::follow(arguments, &mut told)?;
    Ok(0)
}

struct Told<'a> {
    json: bool,
    out: &'a mut dyn Write,
    level: Levels,
    sources: Option<Sources>,
}

impl input::Follower for Told<'_> {
    fn entry(&mut self, entry: &Entry, clock: &Clock) -> io::Result<()> {
        if let Some(change) = self.level.take(entry) {
            self.change(change, clock)?;
        }
        let at = entry.at;
        match &entry.record {
            Record::Kill(kill) => {
                let text = format!(
                    "killed '{}' ({}) at oom_score_adj {}: {}",
                    kill.name,
                    kill.pid,
                    kill.adj,
                    kill.cause.reason.name()
                );
                self.line(json::kill(kill, clock), kill.moments.signalled, &text, clock)
            }
            Record::Fate(fate) => {
                let text = format!("{}: {}", fate.pid, words::Meaning(fate.step));
                self.line(json::fate(fate, at, clock), at, &text, clock)
            }
            // It is repeated wherever a replay may start.
            Record::Sources(sources) if self.sources != Some(**sources) => {
                self.sources = Some(**sources);
                let mut value = json::sources(sources);
                (value["schema"], value["event"]) = (json!(json::SCHEMA), json!("sources"));
                value["time"] = json::time(clock, at);
                let text = format!(
                    "pressure: {}; reclaim: {}",
                    words::Hearing(sources.pressure),
                    words::reclaim_source(sources.reclaim)
                );
                self.line(value, at, &text, clock)
            }
            // What was so before nobody has to be told.
            Record::Status(status) => {
                self.sources = Some(status.sources);
                Ok(())
            }
            Record::Lost(lost) => {
                let value = json!({
                    "schema": json::SCHEMA, "event": "lost", "time": json::time(clock, at),
                    "records": lost.records,
                });
                self.line(value, at, &format!("{} records lost", lost.records), clock)
            }
            _ => Ok(()),
        }
    }

    fn due(&self) -> Option<MonoTime> {
        self.level.due()
    }

    fn time(&mut self, now: MonoTime, clock: &Clock) -> io::Result<()> {
        match self.level.pass(now) {
            Some(change) => self.change(change, clock),
            None => Ok(()),
        }
    }
}

impl Told<'_> {
    fn change(&mut self, change: Change, clock: &Clock) -> io::Result<()> {
        let name = |level: Option<Level>| level.map_or("none", words::level);
        let (level, before) = (name(change.level), name(change.before));
        let value = json!({
            "schema": json::SCHEMA, "event": "level", "time": json::time(clock, change.at),
            "level": level, "before": before,
        });
        self.line(value, change.at, &format!("pressure: {before} -> {level}"), clock)
    }

    fn line(&mut self, value: Value, at: MonoTime, text: &str, clock: &Clock) -> io::Result<()> {
        match self.json {
            true => writeln!(self.out, "{value}")?,
            false => writeln!(self.out, "{}  {text}", clock.wall(at))?,
        }
        self.out.flush()
    }
}

/// The pressure level changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    at: MonoTime,
    level: Option<Level>,
    before: Option<Level>,
}

/// The level of the latest pressure event, until a window has passed without one.
#[derive(Debug)]
pub struct Levels {
    level: Option<Level>,
    last: MonoTime,
    window_ms: i64,
}

impl Default for Levels {
    fn default() -> Self {
        Self { level: None, last: MonoTime::ZERO, window_ms: 1000 }
    }
}

impl Levels {
    /// The level now.
    pub const fn level(&self) -> Option<Level> {
        self.level
    }

    /// When it ends, if nothing is heard.
    pub fn due(&self) -> Option<MonoTime> {
        self.level.map(|_| self.last.plus_millis(self.window_ms))
    }

    /// Takes the time; the change that it brings.
    pub fn pass(&mut self, now: MonoTime) -> Option<Change> {
        let at = self.due().filter(|due| now > *due)?;
        let before = self.level.take();
        Some(Change { at, level: None, before })
    }

    /// Takes the next record; the change that it brings.
    pub fn take(&mut self, entry: &Entry) -> Option<Change> {
        if let Record::Settings(settings) = &entry.record {
            self.window_ms = settings.tunables.psi_window_size_ms;
        }
        let Record::Look(look) = &entry.record else { return None };
        let Trigger::Event(level) = look.trigger else { return None };
        self.last = entry.at;
        if self.level == Some(level) {
            return None;
        }
        let before = self.level.replace(level);
        Some(Change { at: entry.at, level: Some(level), before })
    }
}
