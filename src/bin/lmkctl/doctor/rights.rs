//! Capabilities and limits: the daemon's, or those it would have if whoever asks started it.

use super::daemon::Subject;
use super::finding::Finding;

/// A capability, its number, and what is lost without it. Source: `include/uapi/linux/capability.h`.
struct Capability {
    check: &'static str,
    /// Any of these will do.
    names: &'static [(&'static str, u8)],
    effect: &'static str,
}

impl Capability {
    fn for_bpf(&self) -> bool {
        ["bpf", "tracepoints"].contains(&self.check)
    }
}

const CAPABILITIES: &[Capability] = &[
    Capability {
        check: "kill",
        names: &[("CAP_KILL", 5)],
        effect: "processes of other users cannot be killed",
    },
    Capability {
        check: "write_adj",
        names: &[("CAP_DAC_OVERRIDE", 1)],
        effect: "the oom_score_adj of other users' processes cannot be written as clients ask",
    },
    Capability {
        check: "monitors",
        names: &[("CAP_SYS_RESOURCE", 24)],
        effect: "pressure windows are multiples of 2 s; the kernel may choose the daemon itself",
    },
    Capability {
        check: "raise",
        names: &[("CAP_SYS_NICE", 23)],
        effect: "a starved victim is not raised and dies late",
    },
    Capability {
        check: "bpf",
        names: &[("CAP_BPF", 39), ("CAP_SYS_ADMIN", 21)],
        effect: "no reclaim events",
    },
    Capability {
        check: "tracepoints",
        names: &[("CAP_PERFMON", 38), ("CAP_SYS_ADMIN", 21)],
        effect: "no reclaim events",
    },
];

const IPC_LOCK: u8 = 14;
const SYS_NICE: u8 = 23;

/// Below this many descriptors, apps of a busy device are registered without one.
const FEW_DESCRIPTORS: u64 = 4096;
/// More than the daemon maps.
const ENOUGH_LOCKED: u64 = 16 << 20;

/// Looks at all of it.
pub fn examine(subject: &Subject) -> Vec<Finding> {
    of(subject.capabilities(), &subject.file("limits"))
}

/// By a bit for each capability, and `/proc/PID/limits`.
fn of(capabilities: u64, limits: &str) -> Vec<Finding> {
    let has = |number: u8| capabilities >> number & 1 == 1;
    // On Android the programs are a boot loader's.
    let wanted = |capability: &&Capability| !(lmkd::device::is_android() && capability.for_bpf());
    let mut findings: Vec<Finding> = CAPABILITIES
        .iter()
        .filter(wanted)
        .map(|capability| {
            let Capability { check, names, effect } = *capability;
            let held = names.iter().find(|(_, number)| has(*number));
            let (name, _) = held.or(names.first()).copied().unwrap_or_default();
            match held {
                Some(_) => Finding::ok(check, name),
                None => {
                    let (missing, remedy) = (format!("no {name}"), format!("grant {name}"));
                    Finding::degraded(check, missing, effect, remedy)
                }
            }
        })
        .collect();
    findings.push(descriptors(limit(limits, "Max open files")));
    findings.push(locked(limit(limits, "Max locked memory"), has(IPC_LOCK)));
    findings.push(real_time(limit(limits, "Max realtime priority"), has(SYS_NICE)));
    findings
}

/// Soft and hard limit; u64::MAX is none.
fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((values.next()??, values.next()??))
}

fn descriptors(limit: Option<(u64, u64)>) -> Finding {
    const CHECK: &str = "nofile";
    match limit {
        None => Finding::unknown(CHECK, "the limits cannot be read"),
        Some((_, hard)) if hard < FEW_DESCRIPTORS => Finding::degraded(
            CHECK,
            format_args!("{hard} open files at most"),
            "processes beyond that are known by their start time and opened at the kill",
            format_args!("raise the hard RLIMIT_NOFILE to {FEW_DESCRIPTORS} or more"),
        ),
        Some((soft, hard)) => Finding::ok(CHECK, format_args!("{soft} open files, up to {hard}")),
    }
}

fn locked(limit: Option<(u64, u64)>, privileged: bool) -> Finding {
    const CHECK: &str = "memlock";
    match limit {
        _ if privileged => Finding::ok(CHECK, "CAP_IPC_LOCK"),
        None => Finding::unknown(CHECK, "the limits cannot be read"),
        Some((soft, _)) if soft < ENOUGH_LOCKED => Finding::degraded(
            CHECK,
            format_args!("{} KiB may be locked", soft / 1024),
            "the daemon may wait for its own pages under pressure",
            format_args!("grant CAP_IPC_LOCK or raise RLIMIT_MEMLOCK to {ENOUGH_LOCKED}"),
        ),
        Some((u64::MAX, _)) => Finding::ok(CHECK, "no limit"),
        Some((soft, _)) => Finding::ok(CHECK, format_args!("{} KiB", soft / 1024)),
    }
}

fn real_time(limit: Option<(u64, u64)>, privileged: bool) -> Finding {
    const CHECK: &str = "rtprio";
    match limit {
        _ if privileged => Finding::ok(CHECK, "CAP_SYS_NICE"),
        None => Finding::unknown(CHECK, "the limits cannot be read"),
        Some((soft, _)) if soft < 2 => Finding::degraded(
            CHECK,
            format_args!("real-time priority {soft} at most"),
            "the loop, or the watchdog above it, waits for a CPU like anybody else",
            "grant CAP_SYS_NICE or raise RLIMIT_RTPRIO to 2",
        ),
        Some((soft, _)) => Finding::ok(CHECK, soft),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    const TIGHT: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            256                  1024                 files
Max locked memory         65536                65536                bytes
Max realtime priority     0                    0
";
    const AMPLE: &str = "\
Limit                     Soft Limit           Hard Limit           Units
Max open files            1024                 524288               files
Max locked memory         unlimited            unlimited            bytes
Max realtime priority     99                   99
";

    fn states(capabilities: u64, limits: &str) -> Vec<(&'static str, State)> {
        let findings = of(capabilities, limits);
        findings.iter().map(|finding| (finding.check(), finding.state())).collect()
    }

    fn all(state: State) -> Vec<(&'static str, State)> {
        let capabilities = CAPABILITIES.iter().map(|capability| capability.check);
        capabilities.chain(["nofile", "memlock", "rtprio"]).map(|check| (check, state)).collect()
    }

    #[test]
    fn each_right_and_limit_that_is_missing_is_found() {
        assert_eq!(states(0, TIGHT), all(State::Degraded));
        assert_eq!(states(u64::MAX, AMPLE), all(State::Ok));
    }

    #[test]
    fn a_capability_makes_up_for_a_limit_and_one_for_another() {
        let of = |capabilities, limits, check| {
            let states = states(capabilities, limits);
            states.iter().find(|(name, _)| *name == check).unwrap().1
        };
        assert_eq!(of(1 << IPC_LOCK, TIGHT, "memlock"), State::Ok);
        assert_eq!(of(1 << SYS_NICE, TIGHT, "rtprio"), State::Ok);
        // CAP_SYS_ADMIN, where CAP_BPF and CAP_PERFMON are not known yet.
        assert_eq!([of(1 << 21, TIGHT, "bpf"), of(1 << 21, TIGHT, "tracepoints")], [State::Ok; 2]);
        for check in ["nofile", "memlock", "rtprio"] {
            assert_eq!(of(0, "", check), State::Unknown);
        }
        assert_eq!([of(0, AMPLE, "memlock"), of(0, AMPLE, "rtprio")], [State::Ok; 2]);
    }
}
