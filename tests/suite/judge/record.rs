//! Whether the kernel's record can be relied on, since what it lacks no other check can see; and whether the daemon has made
//! the kills that it tells of.

use super::check;
use super::guards;
use super::number;
use super::Evidence;
use crate::remote::is;
use crate::story::Check;
use serde_json::Value;
use std::collections::BTreeSet;

/// Nothing of it was lost, and all could be read.
pub(super) fn is_whole(events: &[Value]) -> Check {
    let lost = events.iter().filter(|event| is(event, "lost"));
    let lost: Vec<&str> = lost.filter_map(|event| event["line"].as_str()).collect();
    check("the kernel's record has no gaps", lost.is_empty(), lost.join("; "))
}

/// Who died without the actor's doing has got a SIGKILL in the kernel's record.
pub(super) fn explains_every_death(events: &[Value]) -> Check {
    let deaths = events.iter().filter(|event| is(event, "death") && event["ended"] == false);
    let unexplained = deaths.filter(|death| death["end"] != 9 || !is_recorded(events, death));
    let names = unexplained.map(|death| format!("{} by {}", death["name"], death["end"]));
    let names: Vec<String> = names.collect();
    check("every death is in the kernel's record", names.is_empty(), names.join(", "))
}

/// Whether the kernel told of a SIGKILL to the process that has died, or of an OOM kill.
pub fn is_recorded(events: &[Value], death: &Value) -> bool {
    let kill = |event: &Value| is(event, "sigkill") || is(event, "oom");
    events.iter().any(|event| kill(event) && event["pid"] == death["pid"])
}

/// The values of an event record `killinfo: [PID,UID,...]`: there are 38.
pub(super) fn values(line: &str) -> Option<Vec<&str>> {
    Some(line.split_once('[')?.1.split_once(']')?.0.split(',').collect())
}

/// The processes that the daemon says it has killed: to a subscriber, in its lines and in its event records.
pub fn claimed(events: &[Value], log: &[String], records: &[String]) -> BTreeSet<u64> {
    let told = events.iter().filter(|event| is(event, "told")).map(|event| number(event, "pid"));
    // `Kill 'NAME' (PID), uid ...`: a name may hold anything.
    let logged = log.iter().filter_map(|line| {
        let (victim, _) = line.split_once("Kill '")?.1.rsplit_once("), uid ")?;
        victim.rsplit_once(" (")?.1.parse().ok()
    });
    let recorded = records.iter().filter_map(|line| values(line)?.first()?.trim().parse().ok());
    told.chain(logged).chain(recorded).collect()
}

/// SIGKILLs that came from another than the kernel and the actor.
fn signals<'a>(evidence: &'a Evidence<'_>) -> impl Iterator<Item = &'a Value> {
    let signals = evidence.all.iter().filter(|event| is(event, "sigkill"));
    signals.filter(|event| event["kernel"] == false && event["by_tid"] != evidence.actor)
}

/// The kernel has seen a SIGKILL for every kill that the daemon tells of.
pub(super) fn has_every_kill(evidence: &Evidence<'_>) -> Check {
    let mut claimed = claimed(evidence.all, evidence.log, evidence.records);
    for signal in signals(evidence) {
        claimed.remove(&number(signal, "pid"));
    }
    let detail = format!("no SIGKILL for {claimed:?}");
    check("every kill that is told of was made", claimed.is_empty(), detail)
}

/// The daemon's own count has gone up by its SIGKILLs between two answers; None if it was not asked twice.
pub(super) fn has_as_many_kills(evidence: &Evidence<'_>) -> Option<Check> {
    let answers = evidence.all.iter().filter(|event| is(event, "done"));
    let mut counts =
        answers.filter_map(|event| Some((event["us"].as_u64()?, event["count"].as_u64()?)));
    let (first, last) = (counts.next()?, counts.next_back()?);
    let guards = guards(evidence.all);
    let made = signals(evidence).filter(|signal| {
        let us = number(signal, "us");
        guards.contains(&number(signal, "by_tid")) && us > first.0 && us < last.0
    });
    let (made, counted) = (made.count(), last.1.saturating_sub(first.1));
    let ok = u64::try_from(made) == Ok(counted);
    Some(check("the daemon counts its kills", ok, format!("{made} SIGKILLs, counted {counted}")))
}
