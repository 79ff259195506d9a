//! What records are called, in the text and in JSON.

use lmkd::policy::Level;
use lmkd::policy::Reclaim;
use lmkd::policy::Trigger;
use lmkd::policy::Wmark;
use lmkd::recorder::Obstacle;
use lmkd::recorder::Pressure;
use lmkd::recorder::Reclaims;
use lmkd::recorder::Step;
use rustix::io::Errno;
use std::fmt;

/// The name of a level.
pub const fn level(level: Level) -> &'static str {
    match level {
        Level::Low => "low",
        Level::Medium => "medium",
        Level::Critical => "critical",
    }
}

/// The lowest breached watermark.
pub const fn watermark(mark: Wmark) -> &'static str {
    match mark {
        Wmark::Min => "min",
        Wmark::Low => "low",
        Wmark::High => "high",
        Wmark::None => "none",
    }
}

/// The stable name of a trigger.
pub const fn trigger(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Event(_) => "pressure",
        Trigger::Poll => "poll",
        Trigger::KswapdWake => "kswapd",
        Trigger::Vendor { .. } => "vendor",
    }
}

/// Who reclaims memory.
pub const fn by(reclaim: Reclaim) -> &'static str {
    match reclaim {
        Reclaim::None => "nobody",
        Reclaim::Kswapd => "kswapd",
        Reclaim::Direct => "tasks themselves",
    }
}

/// What made the daemon look, as a sentence.
pub struct Cause(pub Trigger);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Trigger::Event(event) => write!(f, "a pressure event, {}", level(event)),
            Trigger::Poll => f.write_str("a timed look in the window after an event"),
            Trigger::KswapdWake => {
                f.write_str("kswapd was woken, or a task reclaims memory itself")
            }
            Trigger::Vendor { reason, min_adj } => {
                write!(f, "the vendor's kernel asks: reason {reason}, down to adj {min_adj}")
            }
        }
    }
}

/// Why a candidate was passed over.
pub struct Why(pub Obstacle);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Obstacle::Gone => f.write_str("it had exited already"),
            Obstacle::Dying => f.write_str("it was signalled before and has not exited yet"),
            Obstacle::Refused(errno) => {
                write!(f, "the signal was refused: {}", Errno::from_raw_os_error(errno))
            }
        }
    }
}

/// The stable name of an obstacle.
pub const fn obstacle(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Gone => "gone",
        Obstacle::Dying => "dying",
        Obstacle::Refused(_) => "refused",
    }
}

/// The stable name of a step.
pub const fn step(step: Step) -> &'static str {
    match step {
        Step::TimedOut { .. } => "timed_out",
        Step::Exited => "exited",
        Step::Proven => "proven",
        Step::Otherwise(_) => "otherwise",
        Step::Untold => "untold",
    }
}

/// What a step means.
pub struct Meaning(pub Step);

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Step::TimedOut { memory_back: true } => {
                f.write_str("not exited within kill_timeout_ms; its memory is back all the same")
            }
            Step::TimedOut { memory_back: false } => {
                f.write_str("not exited within kill_timeout_ms; the next may be chosen")
            }
            Step::Exited => f.write_str("exited: the pidfd turned readable"),
            Step::Proven => f.write_str("proven: the kernel says that SIGKILL ended it"),
            Step::Otherwise(exit) => write!(f, "the kernel says that it had ended before: {exit}"),
            Step::Untold => f.write_str("this kernel does not tell how it ended (Linux 6.15 does)"),
        }
    }
}

/// How pressure is heard of.
pub struct Hearing(pub Pressure);

impl fmt::Display for Hearing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Pressure::Waiting => f.write_str("not yet: a client has to say that the boot is over"),
            Pressure::Monitors { window_ms, medium, critical, unprivileged } => {
                let which = match (medium, critical) {
                    (true, true) => "medium and critical",
                    (true, false) => "medium only",
                    (false, true) => "critical only",
                    (false, false) => "no level",
                };
                write!(f, "PSI monitors per {window_ms} ms, {which}")?;
                match unprivileged {
                    true => f.write_str(", stretched for lack of CAP_SYS_RESOURCE"),
                    false => Ok(()),
                }
            }
            Pressure::Sampling { every_ms } => write!(f, "no PSI: a look each {every_ms} ms"),
        }
    }
}

/// The stable name of a pressure source: the rung of the ladder.
pub const fn pressure(pressure: Pressure) -> &'static str {
    match pressure {
        Pressure::Waiting => "waiting",
        Pressure::Monitors { unprivileged: false, .. } => "psi",
        Pressure::Monitors { unprivileged: true, .. } => "psi_unprivileged",
        Pressure::Sampling { .. } => "sampling",
    }
}

/// The stable name of a source of reclaim.
pub const fn reclaims(reclaims: Reclaims) -> &'static str {
    match reclaims {
        Reclaims::Counters => "vmstat",
        Reclaims::OwnPrograms => "bpf",
        Reclaims::AndroidPrograms => "bpf_android",
    }
}

/// How reclaim is heard of.
pub const fn reclaim_source(reclaims: Reclaims) -> &'static str {
    match reclaims {
        Reclaims::Counters => "vmstat's counters, at each look",
        Reclaims::OwnPrograms => "own BPF programs",
        Reclaims::AndroidPrograms => "Android's BPF programs",
    }
}
