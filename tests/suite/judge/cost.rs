//! What a scenario may cost the daemon.

use super::check;
use super::Evidence;
use crate::remote::is;
use crate::run::Look;
use crate::story::Check;

/// Pages of the recorder's ring and of tables are resident once they were used; a leak would grow with every scenario.
const RSS_SLACK_KB: u64 = 512;

/// A number of descriptors before and after.
struct Descriptors {
    text: String,
    is_as_before: bool,
}

/// The daemon is the process that it was, and has kept nothing of the scenario.
pub(super) fn daemon_as_before(evidence: &Evidence<'_>) -> Vec<Check> {
    let (Some(before), Some(after)) = (evidence.restarted.or(evidence.before), evidence.after)
    else {
        return vec![check("the daemon is the process it was", false, "it is gone".to_owned())];
    };
    let first = evidence.first.unwrap_or(after);
    // All that it needs for a kill is in place; only new processes take pages, several of them one.
    let minor = after.minor_faults.saturating_sub(before.minor_faults);
    let apps = evidence.events.iter().filter(|event| is(event, "app")).count();
    let apps = u64::try_from(apps).unwrap_or(0);
    // Where others register as well: no more than were born, and no more at a time than are held.
    let (mut newcomers, mut registered) = (apps, apps);
    if evidence.framework {
        newcomers = newcomers.max(after.born.saturating_sub(before.born));
        registered += after.fds.saturating_sub(after.own_fds);
    }
    let few = 256 + newcomers / 4;
    // The room of the registered is kept for the next ones, its recorder's ring fills.
    let kept = RSS_SLACK_KB + registered;
    let restarted = evidence.restarted.is_some();
    let opened_later = match (evidence.restarted, evidence.first) {
        (Some(_), _) => 3,
        (None, None) => 1,
        (None, Some(_)) => 0,
    };
    let compare = |pick: fn(&Look) -> u64| {
        let [before, after, first] = [&before, &after, &first].map(pick);
        Descriptors {
            text: format!("{before} to {after}, {first} after the first scenario"),
            // In the first scenario, one more may be what is opened at its first use and kept; a daemon that has just
            // started may open its three pressure monitors later.
            is_as_before: after <= before + opened_later && after <= first,
        }
    };
    let (all, own) = (compare(|look| look.fds), compare(|look| look.own_fds));
    vec![
        check(
            "the daemon is the process it was",
            before.pid == after.pid,
            format!("pid {} to {}", before.pid, after.pid),
        ),
        check(
            "the daemon's memory is what it was",
            after.rss_kb <= before.rss_kb + kept
                && after.rss_kb <= first.rss_kb + 2 * RSS_SLACK_KB + kept,
            format!(
                "{} kB resident to {} kB, {} kB after the first scenario",
                before.rss_kb, after.rss_kb, first.rss_kb
            ),
        ),
        check(
            "the daemon waited for no page, and took few",
            before.major_faults == after.major_faults && (restarted || minor <= few),
            format!(
                "{} major faults; {minor} minor ones while it was played, {few} at most",
                after.major_faults.saturating_sub(before.major_faults),
            ),
        ),
        check(
            "the daemon's descriptors are what they were",
            // There is one for each registered process; only those of the actor's are gone by now.
            own.is_as_before && (evidence.framework || all.is_as_before),
            format!("{}; without those of processes {}", all.text, own.text),
        ),
    ]
}
