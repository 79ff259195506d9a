//! What is said about kills, in the log and to clients. The wording of the kill and death lines is
//! matched by AOSP's device tests.

use crate::clock::MonoTime;
use crate::control::wire::KillStat;
use crate::kernel::Sample;
use crate::kernel::SampleError;
use crate::kill::ledger::Moments;
use crate::kill::ledger::Outcome;
use crate::kill::reaper;
use crate::kill::reaper::Release;
use crate::kill::Flight;
use crate::kill::Victim;
use crate::logging::RateLimit;
use crate::policy::Cause;
use crate::policy::Signals;
use crate::units::Kib;
use crate::units::PageSize;
use std::fmt;

/// `Kill '<name>' (<pid>), uid <uid>, ...`
pub struct KillLine<'a> {
    /// Who.
    pub victim: &'a Victim,
    /// Why, free text.
    pub why: &'a dyn fmt::Display,
}

impl fmt::Display for KillLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Victim { pid, uid, adj, name, rss, swap, .. } = self.victim;
        write!(f, "Kill '{name}' ({pid}), uid {uid}, oom_score_adj {adj} to free {rss}kB rss, ")?;
        write!(f, "{swap}kB swap; reason: {}", self.why)
    }
}

/// The first line after a death.
pub fn log_exit(flight: &Flight) {
    let moments = &flight.moments;
    let Some(exited) = moments.exited else { return };
    let took = exited.millis_since(moments.signalled);
    log::debug!("Process got killed in {took}ms ({})", flight.victim.pid);
}

/// The last line about a victim: how it ended, and the time of each step.
pub fn log_proof(flight: &Flight, outcome: Option<Outcome>) {
    let Victim { pid, name, .. } = &flight.victim;
    let steps = Steps(&flight.moments);
    match outcome {
        Some(Outcome::Killed) => {
            log::info!("Proven: '{name}' ({pid}) was ended by SIGKILL; {steps}");
        }
        Some(Outcome::Otherwise(exit)) => {
            log::info!("Proven: '{name}' ({pid}) had left by {exit} before our SIGKILL; {steps}");
        }
        None => log::info!(
            "Gone: '{name}' ({pid}) has exited; this kernel does not tell how (Linux 6.15 does); \
             {steps}"
        ),
    }
}

/// A victim that is no longer on watch, as too many others were killed since.
pub fn log_eviction(flight: &Flight, outcome: Option<Outcome>) {
    let Victim { pid, name, .. } = &flight.victim;
    if flight.moments.exited.is_some() || outcome.is_some() {
        return log_proof(flight, outcome);
    }
    let steps = Steps(&flight.moments);
    log::warn!(
        "'{name}' ({pid}) has not exited after {} other kills: its end will not be told; {steps}",
        reaper::PLACES
    );
}

/// A victim that outlives kill_timeout_ms. `owed` is what all such victims still hold.
pub fn log_timeout(flight: &Flight, release: Option<Release>, timeout_ms: i64, owed: Kib) {
    let Victim { pid, name, rss, .. } = &flight.victim;
    let memory = match release {
        Some(release) if release.is_back() => "its memory is back",
        _ => "its memory is not back yet",
    };
    log::warn!(
        "'{name}' ({pid}, {rss}kB rss) has not exited {timeout_ms}ms after SIGKILL; {memory}; \
         victims given up on still hold {owed}kB; the next one may be chosen, this one stays on \
         watch"
    );
}

/// The time of each step, from the event on, in microseconds.
pub struct Steps<'a>(pub &'a Moments);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = self.0;
        write!(f, "decided {}us", m.decided.micros_since(m.woken))?;
        write!(f, ", raised {}us", m.raised.micros_since(m.woken))?;
        write!(f, ", signalled {}us after the event", m.signalled.micros_since(m.woken))?;
        if let Some(released) = m.released {
            write!(f, "; memory back {}us", released.micros_since(m.signalled))?;
        }
        if let Some(exited) = m.exited {
            write!(f, "; exited {}us after the signal", exited.micros_since(m.signalled))?;
        }
        Ok(())
    }
}

/// The statistics packet of a kill. Nothing of an earlier kill is in it: what could not be read of
/// this victim is -1; without a decision, what it would have rested on is 0.
pub fn kill_stat(flight: &Flight, seen: Option<(&Signals, &Sample)>, page: PageSize) -> KillStat {
    let signals = seen.map(|(signals, _)| *signals).unwrap_or_default();
    let free = seen.map(|(_, sample)| sample.meminfo.free).unwrap_or_default();
    let narrow = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let victim = &flight.victim;
    let mut stat = KillStat {
        pgfault: -1,
        pgmajfault: -1,
        rss_in_bytes: -1,
        cache_in_bytes: -1,
        swap_in_bytes: -1,
        process_start_time_ns: -1,
        uid: victim.uid,
        oom_score_adj: victim.adj.get(),
        min_oom_score: flight.cause.min_adj.get(),
        free_mem_kb: narrow(free.to_kib(page).get()),
        free_swap_kb: narrow(signals.free_swap.to_kib(page).get()),
        kill_reason: flight.cause.reason.number(),
        thrashing: narrow(signals.thrashing),
        max_thrashing: narrow(signals.max_thrashing),
    };
    if let Some(read) = &victim.stat {
        let ns_per_tick =
            1_000_000_000_u64.checked_div(rustix::param::clock_ticks_per_second()).unwrap_or(0);
        stat.pgfault = signed(read.minflt);
        stat.pgmajfault = signed(read.majflt);
        stat.rss_in_bytes = victim.rss.get().saturating_mul(1024);
        stat.cache_in_bytes = 0;
        stat.swap_in_bytes = victim.swap.get().saturating_mul(1024);
        stat.process_start_time_ns = signed(read.start_time.saturating_mul(ns_per_tick));
    }
    if let Some(group) = &victim.group {
        stat.pgfault = group.pgfault;
        stat.pgmajfault = group.pgmajfault;
        stat.rss_in_bytes = group.rss;
        stat.cache_in_bytes = group.cache;
        stat.swap_in_bytes = group.swap.unwrap_or(stat.swap_in_bytes);
    }
    stat
}

/// Lines that may come in bursts exactly when the system is starved: one a second of each kind.
pub struct Notices {
    refused: RateLimit,
    not_registered: RateLimit,
    adj_kept: RateLimit,
    unreadable: RateLimit,
    not_recorded: RateLimit,
    nobody: RateLimit,
    not_killed: RateLimit,
    unprotected: RateLimit,
    not_started: RateLimit,
    /// `--dry-run`: whom it would kill.
    pub dry_run: RateLimit,
}

impl Default for Notices {
    fn default() -> Self {
        let limit = || RateLimit::every_millis(1000);
        Self {
            refused: limit(),
            not_registered: limit(),
            adj_kept: limit(),
            unreadable: limit(),
            not_recorded: limit(),
            nobody: limit(),
            not_killed: limit(),
            unprotected: limit(),
            not_started: limit(),
            dry_run: limit(),
        }
    }
}

impl Notices {
    /// A datagram or a connection that is not accepted.
    pub fn refused(&mut self, now: MonoTime, why: &dyn fmt::Display) {
        if let Some(skipped) = self.refused.admit(now) {
            log::error!("a client is refused: {why}{skipped}");
        }
    }

    /// A process that is not registered.
    pub fn not_registered(&mut self, now: MonoTime, pid: i32, why: &dyn fmt::Display) {
        if let Some(skipped) = self.not_registered.admit(now) {
            log::warn!("process {pid} is not registered or removed: {why}{skipped}");
        }
    }

    /// A client wants pressure to be watched before the boot is over.
    pub fn not_started(&mut self, now: MonoTime) {
        if let Some(skipped) = self.not_started.admit(now) {
            log::error!("monitoring is not started: sys.boot_completed is not set{skipped}");
        }
    }

    /// An app whose cgroup per_app_memcg could not protect. It is registered all the same.
    pub fn unprotected(&mut self, now: MonoTime, pid: i32, why: &dyn fmt::Display) {
        if let Some(skipped) = self.unprotected.admit(now) {
            log::warn!("memory of process {pid} is not protected: {why}{skipped}");
        }
    }

    /// A file of the kernel's that cannot be read.
    pub fn unreadable(&mut self, now: MonoTime, why: &SampleError) {
        let cost = if why.costs_watermarks_only() {
            "the watermarks read last serve"
        } else {
            "no decision this time"
        };
        if let Some(skipped) = self.unreadable.admit(now) {
            log::error!("{cost}: {why}{skipped}");
        }
    }

    /// A process is registered, but its own oom_score_adj could not be set: the kernel's killer
    /// would go by another rank than this daemon.
    pub fn adj_kept(&mut self, now: MonoTime, pid: i32, why: &dyn fmt::Display) {
        if let Some(skipped) = self.adj_kept.admit(now) {
            log::warn!("oom_score_adj of process {pid} stays as it is: {why}{skipped}");
        }
    }

    /// An event record that did not get out.
    pub fn not_recorded(&mut self, now: MonoTime, why: &dyn fmt::Display) {
        if let Some(skipped) = self.not_recorded.admit(now) {
            log::warn!("the event record of a kill is lost: {why}{skipped}");
        }
    }

    /// A candidate that the daemon lacks the means to kill just now.
    pub fn not_killed(&mut self, now: MonoTime, pid: i32, why: &dyn fmt::Display) {
        if let Some(skipped) = self.not_killed.admit(now) {
            log::error!("process {pid} cannot be killed now: {why}{skipped}");
        }
    }

    /// A kill is due, and there is nobody to kill.
    pub fn nobody(&mut self, now: MonoTime, cause: Cause) {
        if let Some(skipped) = self.nobody.admit(now) {
            log::warn!(
                "a kill is due ({}), but no process has an oom_score_adj of {} or more{skipped}",
                cause.reason.name(),
                cause.min_adj
            );
        }
    }
}
