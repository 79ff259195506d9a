//! One look at memory: trigger to verdict, verdict to victim, victim to SIGKILL.
//!
//! Everything from here to the signal is on the way between a pressure event and a kill: no
//! allocation, no lock across a system call, nobody waited for, but for the name of a victim that
//! nobody has asked for it ahead: that is waited for 2 ms at most ([`crate::processes::Names::now`]).

use super::listening::SCARCITY_SPACING_MS;
use super::recording;
use super::register::may_be_of;
use super::report;
use super::Daemon;
use super::Token;
use crate::clock::MonoTime;
use crate::config::Tunables;
use crate::control::wire::Event;
use crate::control::wire::KillNotice;
use crate::kernel::process::ProcDir;
use crate::kernel::process::Status;
use crate::kernel::Meminfo;
use crate::kernel::PressureInfo;
use crate::kill::ledger::Moments;
use crate::kill::ledger::Outcome;
use crate::kill::raise::Threads;
use crate::kill::Flight;
use crate::kill::FlightId;
use crate::kill::KillError;
use crate::kill::Victim;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use crate::policy::Admission;
use crate::policy::Cause;
use crate::policy::KillReason;
use crate::policy::PollPlan;
use crate::policy::Signals;
use crate::policy::Trigger;
use crate::policy::Verdict;
use crate::policy::Why;
use crate::processes::Candidate;
use crate::processes::Prepared;
use crate::processes::Record;
use crate::processes::Who;
use crate::recorder::Act;
use crate::recorder::Look;
use crate::recorder::Removal;
use crate::recorder::Seen;
use crate::recorder::Step;
use crate::report::EventLog;
use crate::report::KillInfo;
use rustix::io::Errno;

/// How often sizes are read ahead while there is pressure but no kill, ms.
const SIZES_READ_EVERY_MS: i64 = 1000;

impl Daemon {
    /// Looks once and does what the verdict says.
    pub(super) fn look(&mut self, trigger: Trigger) {
        let now = MonoTime::now();
        // Ends of reclaim do not wake the loop; they are in the ring all the same.
        self.take_memevents(now);
        let pending = self.killer.waiting_for().map(|flight| flight.moments.signalled);
        let mut look = self.new_look(trigger, now, pending);
        let mut killed = None;
        look.admission = self.policy.admit(trigger, now, pending, &self.tunables);
        match look.admission {
            Admission::Ignored => self.schedule.passed(now),
            Admission::Skipped => {
                self.schedule.passed(now);
                look.plan = self.plan(trigger, false);
            }
            Admission::Evaluate { watermarks } => {
                let over = self.killer.give_up_waiting();
                killed = self.evaluate(&mut look, watermarks);
                self.tell_timeout(over);
                self.read_sizes_ahead(now, killed.is_some());
                let reclaim = self.sample.reclaim.unwrap_or_default();
                let reclaiming = reclaim.kswapd_awake || reclaim.direct_since.is_some();
                self.schedule.looked(trigger, now, reclaiming, self.policy.vigil_ms());
                let in_vain = matches!(look.act, Act::Nobody | Act::Spared { .. });
                look.plan = self.plan(trigger, in_vain);
            }
        }
        look.waiting = self.killer.waiting_for().is_some();
        self.record_look(&look, killed);
    }

    /// What the policy asks for is done, but no search of all processes comes right after one that was
    /// in vain: it goes through all of `/proc` in the loop's class.
    fn plan(&mut self, trigger: Trigger, in_vain: bool) -> PollPlan {
        let waiting = self.killer.waiting_for().is_some();
        let plan = self.policy.poll_plan(trigger, waiting);
        let mut done = plan;
        if in_vain && self.searcher.adopts() {
            let spacing = i64::from(SCARCITY_SPACING_MS);
            done.interval_ms = plan.interval_ms.map(|interval| interval.max(spacing));
        }
        self.schedule.apply(trigger, done, waiting, MonoTime::now(), self.window_ms());
        plan
    }

    /// Reads memory, decides, and kills if that is the verdict.
    fn evaluate(&mut self, look: &mut Look, watermarks: bool) -> Option<FlightId> {
        let (trigger, now) = (look.trigger, look.now);
        self.sample.reclaim = self.memevents.is_some().then(|| self.reclaim.at(now));
        if let Err(error) = self.sampler.read(now, watermarks, &mut self.sample) {
            self.notices.unreadable(now, &error);
            if !error.costs_watermarks_only() {
                self.policy.read_failed(trigger);
                return None;
            }
        }
        let verdict = self.policy.evaluate(trigger, &self.sample, &self.tunables);
        let killed = verdict.cause.and_then(|cause| self.kill_one(&verdict, cause, look));
        look.seen = Some(Seen { sample: self.sample.clone(), verdict });
        killed
    }

    /// Begins a search with what was just read of the machine.
    pub(super) fn start_search(&mut self, min_adj: OomScoreAdj, meminfo: &Meminfo) {
        let swap_used = (meminfo.swap_total - meminfo.swap_free).to_kib(self.page);
        self.searcher.know(self.sampler.page_counters());
        self.searcher.leave_out(self.killer.dying());
        self.searcher.start(min_adj, self.tunables.kill_heaviest_task, swap_used);
    }

    /// Has sizes read ahead, if those who are next go by size: after each kill, and once in a while
    /// as long as there is pressure.
    fn read_sizes_ahead(&mut self, now: MonoTime, killed: bool) {
        let by_size = self.tunables.kill_heaviest_task;
        let heads = self.registry.heads(None);
        let soon = |adj: OomScoreAdj| by_size || adj <= OomScoreAdj::PERCEPTIBLE;
        let wanted = heads.iter().flatten().any(|(_, adj)| soon(*adj));
        if wanted && (killed || now.millis_since(self.sizes_read) >= SIZES_READ_EVERY_MS) {
            self.sizes_read = now;
            self.searcher.read_ahead(&self.registry, by_size);
        }
    }

    /// Tries candidates in kill order until one is signalled.
    fn kill_one(&mut self, verdict: &Verdict, cause: Cause, look: &mut Look) -> Option<FlightId> {
        let decided = MonoTime::now();
        self.gpu_held = self.gpu.total();
        let meminfo = self.sample.meminfo;
        self.start_search(cause.min_adj, &meminfo);
        while let Some(candidate) = self.searcher.next(&mut self.registry, &self.proc) {
            let moments = Moments { woken: self.woken, decided, ..Moments::default() };
            match self.try_kill(&candidate, verdict, cause, moments) {
                Ok(Some(id)) => {
                    self.policy.note_kill(&cause, &self.tunables);
                    look.act = Act::Killed { pid: candidate.pid.get(), ticket: id.ticket };
                    return Some(id);
                }
                Ok(None) => {
                    look.act = Act::Spared { pid: candidate.pid.get() };
                    return None;
                }
                Err(error) => {
                    look.tried.push(recording::tried(&candidate, error));
                    // The watchdog is killing it and has not said so yet: one is enough.
                    let pid = candidate.pid.get();
                    if error == KillError::Dying && !self.killer.is_dying(pid) {
                        look.act = Act::Nobody;
                        return None;
                    }
                    self.passed_over(&candidate, error);
                }
            }
        }
        look.act = Act::Nobody;
        self.notices.nobody(decided, cause);
        None
    }

    /// Kills a candidate; None in a dry run.
    fn try_kill(
        &mut self,
        candidate: &Candidate,
        verdict: &Verdict,
        cause: Cause,
        moments: Moments,
    ) -> Result<Option<FlightId>, KillError> {
        let opened = self.identify(candidate)?;
        if self.killer.is_dying(candidate.pid.get()) {
            return Err(KillError::Dying);
        }
        let victim = self.describe(candidate)?;
        if self.options.dry_run {
            let signals = verdict.signals.unwrap_or_default();
            if let Some(skipped) = self.notices.dry_run.admit(moments.decided) {
                let why = self.why(&cause, &signals);
                let line = report::KillLine { victim: &victim, why: &why };
                log::info!("dry run, would: {line}{skipped}");
            }
            return Ok(None);
        }
        // Closed when the signal has been sent.
        let _withdrawn = match candidate.who {
            Who::Registered(id) => self.watchdog.withdraw(id)?,
            Who::Adopted { .. } => None,
        };
        // Without a pidfd of its own a record has made `identify` open one.
        let pidfd = opened.or_else(|| self.record_of(candidate)?.pidfd.take());
        let pidfd = pidfd.ok_or(KillError::Gone)?;
        let threads = match candidate.who {
            Who::Registered(id) => self.ready.get(id).and_then(Prepared::threads),
            Who::Adopted { .. } => None,
        };
        let threads = threads.map_or(Threads::In(&self.proc), Threads::Held);
        match self.killer.kill(threads, victim, pidfd, cause, moments) {
            Ok(id) => {
                self.watch(id, candidate);
                self.announce(id, verdict);
                Ok(Some(id))
            }
            Err((pidfd, error)) => {
                if let Some(record) = self.record_of(candidate) {
                    record.pidfd = Some(pidfd);
                }
                Err(error)
            }
        }
    }

    fn record_of(&mut self, candidate: &Candidate) -> Option<&mut Record> {
        match candidate.who {
            Who::Registered(id) => self.registry.get_mut(id),
            Who::Adopted { .. } => None,
        }
    }

    /// A pidfd that is proven to be of the process that was registered or found; None if the record
    /// has it.
    fn identify(&self, candidate: &Candidate) -> Result<Option<PidFd>, KillError> {
        let opened = match candidate.who {
            Who::Registered(id) => {
                let record = self.registry.get(id).ok_or(KillError::Gone)?;
                if record.pidfd.is_some() {
                    return Ok(None);
                }
                open_registered(&self.proc, record)
            }
            Who::Adopted { start_time } => {
                open_adopted(&self.proc, candidate.pid.get(), start_time, candidate.adj)
            }
        };
        opened.map(Some)
    }

    /// Reads all that will be said about the victim. Nothing is read of it after the signal.
    fn describe(&self, candidate: &Candidate) -> Result<Victim, KillError> {
        let pid = candidate.pid.get();
        let registered = match candidate.who {
            Who::Registered(id) => Some(id),
            Who::Adopted { .. } => None,
        };
        let prepared = registered.and_then(|id| self.ready.get(id));
        let status = prepared.map_or_else(|| self.proc.status(pid), Prepared::status)?;
        let name = prepared
            .and_then(|prepared| prepared.name(&status))
            .or_else(|| self.ready.name_now(pid, registered, &status))
            .unwrap_or_else(|| status.short_name());
        let (rss, swap) = self.proc.memory(pid, &status)?;
        let wanted = self.tunables.log_stats && self.server.has_subscribers(Event::Stat);
        let stat = || prepared.map_or_else(|| self.proc.stat(pid), Prepared::stat);
        // One that was prepared and is not killed after all gets the class back that stands there;
        // for others' that is not read before the signal.
        let stat = if wanted || prepared.is_some() { stat().ok() } else { None };
        let groups = self.memcg.known().filter(|_| wanted && wants_groups(&self.tunables));
        let group = groups.and_then(|groups| {
            let held = prepared.and_then(Prepared::group_usage);
            held.or_else(|| groups.open_usage(&self.proc, pid).ok()?.read().ok())
        });
        let Candidate { uid, adj, .. } = *candidate;
        let Status { state, threads, .. } = status;
        Ok(Victim { pid, uid, adj, name, state, rss, swap, threads, stat, group })
    }

    /// Waits on the victim from now on, and takes its record out.
    fn watch(&mut self, id: FlightId, candidate: &Candidate) {
        if let Who::Registered(record) = candidate.who {
            if let Some(record) = self.registry.remove(record) {
                self.record_removed(record.pid().get(), Removal::Killed);
            }
        }
        self.wait_for_exit(id);
    }

    /// A victim is on watch no longer, whatever is still to be told of it.
    fn retire(&mut self, evicted: Option<(Flight, Option<Outcome>)>) {
        let Some((evicted, outcome)) = evicted else { return };
        self.reactor.remove(evicted.pidfd());
        report::log_eviction(&evicted, outcome);
        let (ticket, flight) = (evicted.ticket(), (evicted.victim.pid, evicted.moments));
        self.killer.let_go(evicted);
        self.record_fate(ticket, flight, recording::step_of(outcome));
    }

    /// Waits on the victim from now on.
    pub(super) fn wait_for_exit(&mut self, id: FlightId) {
        let evicted = self.killer.take_evicted();
        self.retire(evicted);
        let Some(flight) = self.killer.flight(id) else { return };
        if let Err(error) = self.reactor.rename(flight.pidfd(), Token::Victim(id)) {
            // Its exit would never be seen: with kill_timeout_ms of 0 the wait would not end.
            log::error!("cannot wait for process {}: {error}", flight.victim.pid);
            if self.killer.is_waiting_for(id) {
                self.killer.give_up_waiting();
            }
        }
    }

    /// The kill line and what clients get. The signal has been sent: time no longer matters.
    fn announce(&mut self, id: FlightId, verdict: &Verdict) {
        let Some(flight) = self.killer.flight(id) else { return };
        let signals = verdict.signals.unwrap_or_default();
        let why = self.why(&flight.cause, &signals);
        log::info!("{}", report::KillLine { victim: &flight.victim, why: &why });
        self.record(id, &signals);
        self.tell_clients(id, Some(&signals));
    }

    /// Statistics and the notice of a kill, to those who subscribed. Without signals there was no
    /// decision, and no sample belongs to the kill.
    pub(super) fn tell_clients(&mut self, id: FlightId, signals: Option<&Signals>) {
        let Some(flight) = self.killer.flight(id) else { return };
        if self.tunables.log_stats && self.server.has_subscribers(Event::Stat) {
            let stat = report::kill_stat(
                flight,
                signals.map(|signals| (signals, &self.sample)),
                self.page,
            );
            let packet = stat.encode(flight.victim.name.as_bytes());
            self.server.broadcast(Event::Stat, packet.as_bytes());
        }
        let Victim { pid, uid, rss, .. } = flight.victim;
        let rss_kb = i32::try_from(rss.get()).unwrap_or(i32::MAX);
        self.server.broadcast(Event::Kill, &KillNotice { pid, uid, rss_kb }.encode());
    }

    /// The event record and the trace event.
    fn record(&mut self, id: FlightId, signals: &Signals) {
        let Some(Flight { victim, cause, .. }) = self.killer.flight(id) else { return };
        // As with AOSP, nothing of the rules' signals goes with a kill that they did not decide.
        let by_rules = cause.reason != KillReason::Minfree;
        if let Some(trace) = &self.trace {
            let Victim { pid, adj, .. } = *victim;
            let max_thrashing = if by_rules { signals.max_thrashing } else { -1 };
            trace.kill(pid, Some(cause.reason), adj, cause.min_adj, max_thrashing);
        }
        if matches!(self.event_log, EventLog::Off) {
            return;
        }
        let info = KillInfo {
            pid: victim.pid,
            uid: victim.uid,
            adj: victim.adj,
            min_adj: cause.min_adj,
            rss: victim.rss,
            swap: victim.swap,
            reason: Some(cause.reason),
            meminfo: self.sample.meminfo,
            page: self.page,
            wakeup: self.policy.wakeups(),
            gpu: self.gpu_held,
            thrashing: if by_rules { signals.thrashing } else { 0 },
            max_thrashing: if by_rules { signals.max_thrashing } else { 0 },
            pressure: if by_rules { self.sampler.read_pressure() } else { PressureInfo::default() },
        };
        if let Err(error) = self.event_log.write(&info) {
            self.notices.not_recorded(MonoTime::now(), &error);
        }
    }

    pub(super) fn why<'a>(&'a self, cause: &'a Cause, signals: &'a Signals) -> Why<'a> {
        let (tunables, sample, page) = (&self.tunables, &self.sample, self.page);
        Why { cause, signals, tunables, sample, page }
    }

    fn passed_over(&mut self, candidate: &Candidate, error: KillError) {
        if !matches!(candidate.who, Who::Registered(_)) {
            return;
        }
        match error {
            KillError::Dying => {}
            KillError::Gone => self.forget(candidate.pid, Removal::PassedOver),
            // The daemon's own want, not the candidate's: the next search tries it again.
            KillError::Refused(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                self.notices.not_killed(MonoTime::now(), candidate.pid.get(), &errno);
                // A kill is worth more than the proof of one that is over.
                let exited = self.killer.take_exited();
                self.retire(exited);
            }
            KillError::Refused(errno) => {
                log::error!("cannot kill process {}: {errno}", candidate.pid);
                self.forget(candidate.pid, Removal::PassedOver);
            }
        }
    }

    /// Says and records that a victim was given up on, because kill_timeout_ms is over or its wait no
    /// longer matters.
    pub(super) fn tell_timeout(&mut self, over: Option<FlightId>) {
        let Some((id, flight)) = over.and_then(|id| Some((id, self.killer.flight(id)?))) else {
            return;
        };
        let (release, owed) = (self.killer.release(id), self.killer.owed());
        report::log_timeout(flight, release, self.tunables.kill_timeout_ms, owed);
        let memory_back = release.is_some_and(|release| release.is_back());
        let flight = (flight.victim.pid, flight.moments);
        self.record_fate(id.ticket, flight, Step::TimedOut { memory_back });
    }

    /// A victim's pidfd has an event: it has exited, or its parent has reaped it.
    pub(super) fn victim_event(&mut self, id: FlightId, hung_up: bool) {
        let now = MonoTime::now();
        let was_waiting = self.killer.is_waiting_for(id);
        if let Some(flight) = self.killer.exited(id, now) {
            report::log_exit(flight);
            // From Linux 6.9 on a hang-up tells when its parent has reaped it, which is when the
            // kernel hands out the exit status. Where none comes, the watch costs nothing.
            let _ = self.reactor.only_hang_up(flight.pidfd(), Token::Victim(id));
            let flight = (flight.victim.pid, flight.moments);
            self.record_fate(id.ticket, flight, Step::Exited);
        }
        if hung_up || self.killer.is_over(id) {
            if let Some((flight, outcome)) = self.killer.prove(id, now) {
                self.reactor.remove(flight.pidfd());
                report::log_proof(&flight, outcome);
                let flight = (flight.victim.pid, flight.moments);
                self.record_fate(id.ticket, flight, recording::step_of(outcome));
            }
        }
        if was_waiting {
            self.schedule.resume(now);
        }
    }
}

/// Whether statistics of a kill tell what the victim's memory cgroup has used.
pub(super) const fn wants_groups(tunables: &Tunables) -> bool {
    tunables.per_app_memcg && tunables.log_stats
}

/// Opens the pidfd that a record lacks.
pub(super) fn open_registered(proc: &ProcDir, record: &Record) -> Result<PidFd, KillError> {
    let pidfd = open_started(proc, record.pid().get(), record.start_time)?;
    let inode = record.inode.and_then(|then| Some((then, pidfd.inode()?)));
    let same = inode.is_none_or(|(then, now)| then == now)
        && may_be_of(proc, record)
        && pidfd.holds_its_pid();
    same.then_some(pidfd).ok_or(KillError::Gone)
}

/// Opens the pidfd of a process that nobody registered. Another one may have started in the same
/// tick and have its id by now, so that its place in the order is asked of the very process that
/// the pidfd names.
fn open_adopted(
    proc: &ProcDir,
    pid: i32,
    start_time: u64,
    adj: OomScoreAdj,
) -> Result<PidFd, KillError> {
    let pidfd = open_started(proc, pid, start_time)?;
    let same = proc.oom_score_adj(pid)? == adj && pidfd.holds_its_pid();
    same.then_some(pidfd).ok_or(KillError::Gone)
}

/// Opens a pidfd and checks that the process behind it started when the one meant did: the pidfd is
/// opened first, so what is read afterwards is of the process it names or of none.
fn open_started(proc: &ProcDir, pid: i32, start_time: u64) -> Result<PidFd, KillError> {
    let pidfd = PidFd::open(pid).map_err(|errno| match errno {
        // The id is a thread's by now (EINVAL, on newer kernels ENOENT), or nobody's.
        Errno::SRCH | Errno::INVAL | Errno::NOENT => KillError::Gone,
        other => KillError::Refused(other),
    })?;
    let same = proc.stat(pid)?.start_time == start_time && pidfd.holds_its_pid();
    same.then_some(pidfd).ok_or(KillError::Gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::Pid;
    use crate::testing::Held;
    use std::num::NonZeroU64;
    use std::path::Path;

    #[test]
    fn a_successor_that_started_in_the_same_tick_is_told_apart() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let sleeper = Held::sleep();
        let pid = Pid::new(sleeper.pid()).unwrap();
        let uid = proc.owner(sleeper.pid()).unwrap();
        let mut record = Record::new(pid, uid, OomScoreAdj::MAX, MonoTime::ZERO);
        record.start_time = proc.stat(sleeper.pid()).unwrap().start_time;
        assert!(open_registered(&proc, &record).is_ok());
        let Some(inode) = PidFd::open(sleeper.pid()).unwrap().inode() else {
            eprintln!("skipped: no pidfs (Linux 6.9)");
            return;
        };
        record.inode = Some(inode);
        assert!(open_registered(&proc, &record).is_ok());
        record.inode = inode.checked_add(1).or(NonZeroU64::new(1));
        assert_eq!(open_registered(&proc, &record).map(|_| ()), Err(KillError::Gone));
    }

    #[test]
    fn an_unregistered_process_is_killed_only_at_the_adj_it_was_found_at() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let sleeper = Held::sleep();
        let pid = sleeper.pid();
        let started = proc.stat(pid).unwrap().start_time;
        let file = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(&file, "700").unwrap();
        let found = proc.oom_score_adj(pid).unwrap();
        assert!(open_adopted(&proc, pid, started, found).is_ok());
        let other = open_adopted(&proc, pid, started + 1, found);
        assert_eq!(other.map(|_| ()), Err(KillError::Gone));
        std::fs::write(&file, "800").unwrap();
        let moved = open_adopted(&proc, pid, started, found);
        assert_eq!(moved.map(|_| ()), Err(KillError::Gone));
    }
}
