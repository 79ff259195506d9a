//! `lmkctl status`: how the daemon stands at this moment.

use crate::flag;
use crate::history::History;
use crate::input;
use crate::json;
use crate::openmetrics;
use crate::text::Span;
use crate::words;
use anyhow::bail;
use clap::ArgMatches;
use clap::Command;
use lmkd::policy::Condition;
use lmkd::policy::Facts;
use lmkd::policy::KillReason;
use lmkd::policy::RULES;
use lmkd::recorder::Pressure;
use lmkd::recorder::Spread;
use lmkd::recorder::Status;
use serde_json::json;
use serde_json::Value;
use std::collections::HashSet;
use std::io;
use std::io::Write;
use std::time::Duration;

/// The end of the help.
const MORE: &str = "\
Signals stand beside their thresholds as a timed look would see them now; a + marks those that a
rule asks for and that hold.

Exit status: 0 told; 1 no daemon to ask; 2 the command line is not understood.

Examples:
  lmkctl status
  lmkctl status --json | jq .kills_by_reason
  lmkctl status --openmetrics > /run/metrics/lmkd.prom.tmp     for a fleet's collector

--json prints one object: schema (1), time, version, pid, kernel, dry_run, sources, polling,
waiting_for, registered, clients, signals, rules, next, kills, kills_by_reason, exits, proven,
timeouts, owed_kb, latency_us (to_decision, to_raise, to_signal, to_memory_back, to_exit: count, p50,
p90, p99, max), daemon (rss_kb, descriptors, tells_exit, lost_events), ring (size_bytes,
written_bytes, records, oldest). Names are stable; more may be added.

Latencies run from the kernel's event (to_decision, to_signal), from the decision (to_raise: the
victim's leader is raised) and from SIGKILL (the others). The first two are null of a daemon that is
too old to tell.";

/// The command line.
pub fn command() -> Command {
    Command::new("status")
        .about(
            "Show the pressure source, signals beside thresholds, next victims, kills, latencies",
        )
        .after_help(MORE)
        .args([
            flag("json").help("One JSON object"),
            flag("openmetrics").conflicts_with("json").help("OpenMetrics text, for a collector"),
            input::from(),
        ])
        .args(input::sockets())
}

/// Tells it; the exit status.
pub fn run(arguments: &ArgMatches, out: &mut dyn Write) -> anyhow::Result<u8> {
    let history = input::status(arguments)?;
    let Some(status) = &history.status else {
        bail!("the recording holds no state of the daemon; one of `lmkctl record` does");
    };
    if arguments.get_flag("openmetrics") {
        openmetrics::write(status, &history, out)?;
    } else if arguments.get_flag("json") {
        writeln!(out, "{}", to_json(status, &history))?;
    } else {
        print(status, &history, out)?;
    }
    Ok(0)
}

fn to_json(status: &Status, history: &History) -> Value {
    let header = &history.header;
    let facts = history.looked.as_ref().and_then(|looked| looked.facts(history.page()));
    let by_reason: serde_json::Map<String, Value> =
        by_reason(status).map(|(reason, count)| (reason.name().to_owned(), json!(count))).collect();
    let next = status.next.iter().map(|next| {
        let mut value = json::process(&next.process);
        (value["rss_kb"], value["name"]) = (json!(next.rss.get()), json!(next.name.to_string()));
        value
    });
    let now = history.span.map_or(header.started, |(_, last)| last);
    let steps = status.steps.as_ref();
    json!({
        "schema": json::SCHEMA,
        "time": json::time(&history.clock, now),
        "version": header.version.to_string(),
        "pid": header.pid,
        "kernel": header.kernel.to_string(),
        "dry_run": header.dry_run,
        "sources": json::sources(&status.sources),
        "polling": status.polling,
        "waiting_for": status.waiting_for,
        "registered": status.registered,
        "clients": status.clients,
        "signals": facts.map(|facts| json::signals(facts.signals, facts.page)),
        "rules": facts.map(json::rules),
        "next": next.collect::<Vec<_>>(),
        "kills": status.kills,
        "kills_by_reason": by_reason,
        "exits": status.exits,
        "proven": status.proven,
        "timeouts": status.timeouts,
        "owed_kb": status.owed.get(),
        "latency_us": {
            "to_decision": steps.map(|steps| spread(&steps.to_decision)),
            "to_raise": steps.map(|steps| spread(&steps.to_raise)),
            "to_signal": spread(&status.to_signal),
            "to_memory_back": spread(&status.to_release),
            "to_exit": spread(&status.to_exit),
        },
        "daemon": {
            "rss_kb": status.rss.get(),
            "descriptors": status.descriptors,
            "tells_exit": status.tells_exit,
            "lost_events": status.lost_events,
        },
        "ring": {
            "size_bytes": status.ring.size,
            "written_bytes": status.ring.written,
            "records": status.ring.records,
            "oldest": json::time(&history.clock, status.ring.oldest),
        },
    })
}

fn spread(spread: &Spread) -> Value {
    let Spread { count, p50, p90, p99, max } = spread;
    json!({ "count": count, "p50": p50, "p90": p90, "p99": p99, "max": max })
}

/// Reasons with the number of their kills.
pub fn by_reason(status: &Status) -> impl Iterator<Item = (KillReason, u32)> + '_ {
    status.by_reason.iter().copied().filter(|(_, count)| *count > 0)
}

fn print(status: &Status, history: &History, out: &mut dyn Write) -> io::Result<()> {
    let header = &history.header;
    let dry = if header.dry_run { ", dry run" } else { "" };
    writeln!(out, "lmkd {}, pid {}, Linux {}{dry}", header.version, header.pid, header.kernel)?;
    writeln!(out, "pressure    {}", words::Hearing(status.sources.pressure))?;
    writeln!(out, "reclaim     {}", words::reclaim_source(status.sources.reclaim))?;
    let looks = match (status.polling, status.sources.pressure) {
        (true, _) => "timed looks under way",
        (false, Pressure::Sampling { .. }) => "waiting for the next look",
        (false, _) => "waiting for events",
    };
    let death = status.waiting_for.map(|pid| format!(", and for the exit of {pid}"));
    writeln!(out, "now         {looks}{}", death.unwrap_or_default())?;
    writeln!(out, "processes   {} registered by {} clients", status.registered, status.clients)?;
    if let Some(facts) = history.looked.as_ref().and_then(|looked| looked.facts(history.page())) {
        writeln!(out, "signals")?;
        for line in signals(facts) {
            writeln!(out, "  {line}")?;
        }
    }
    writeln!(out, "next victims")?;
    if status.next.is_empty() {
        writeln!(out, "  nobody")?;
    }
    for next in status.next.iter() {
        let process = &next.process;
        writeln!(
            out,
            "  {:>5} {:>7} {:>9} kB  {}",
            process.adj.get(),
            process.pid,
            next.rss.get(),
            next.name
        )?;
    }
    let reasons: Vec<String> =
        by_reason(status).map(|(reason, count)| format!("{} {count}", reason.name())).collect();
    let sep = if reasons.is_empty() { "" } else { ": " };
    writeln!(out, "kills       {}{sep}{}", status.kills, reasons.join(", "))?;
    let Status { exits, proven, timeouts, owed, .. } = status;
    write!(out, "exits       {exits} seen, {proven} proven, {timeouts} waits timed out")?;
    writeln!(out, ", {owed} kB owed")?;
    writeln!(
        out,
        "latency     {:>8} {:>9} {:>9} {:>9} {:>9}",
        "count", "p50", "p90", "p99", "max"
    )?;
    let steps = status.steps.as_ref();
    for (name, spread) in [
        ("decided", steps.map(|steps| &steps.to_decision)),
        ("raised", steps.map(|steps| &steps.to_raise)),
        ("to signal", Some(&status.to_signal)),
        ("to memory", Some(&status.to_release)),
        ("to exit", Some(&status.to_exit)),
    ] {
        let Some(spread) = spread else { continue };
        write!(out, "  {name:<9} {:>8}", spread.count)?;
        for micros in [spread.p50, spread.p90, spread.p99, spread.max] {
            let span = (spread.count > 0).then(|| Span(Duration::from_micros(micros)).to_string());
            write!(out, " {:>9}", span.as_deref().unwrap_or("-"))?;
        }
        writeln!(out)?;
    }
    let fds = status.descriptors.map_or(String::new(), |count| format!(", {count} descriptors"));
    writeln!(out, "daemon      {} kB resident{fds}", status.rss)?;
    let ring = &status.ring;
    writeln!(
        out,
        "recorder    {} records in {} of {} KiB, the oldest of {}",
        ring.records,
        ring.written.min(ring.size) / 1024,
        ring.size / 1024,
        history.clock.wall(ring.oldest)
    )
}

/// Every condition of the rules once, with its numbers.
pub fn signals(facts: Facts<'_>) -> Vec<String> {
    let mut seen = Vec::new();
    for condition in RULES.iter().flat_map(|rule| rule.conditions) {
        if !seen.contains(condition) {
            seen.push(*condition);
        }
    }
    let line = |condition: Condition| {
        let holds = condition.holds(&facts);
        let mark = if holds { '+' } else { ' ' };
        format!("{mark} {}", condition.said(facts, holds))
    };
    let mut lines: Vec<String> = seen.into_iter().map(line).collect();
    // The two limits of thrashing are the same until a kill lowers one.
    let mut told = HashSet::new();
    lines.retain(|line| told.insert(line.clone()));
    lines
}
