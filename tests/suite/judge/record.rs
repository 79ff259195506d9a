//! Whether the kernel's record can be relied on: what it lacks, no other check can see.

use super::check;
use crate::remote::is;
use crate::story::Check;
use serde_json::Value;

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
