//! What the loop leaves in the flight recorder.
//!
//! Records of a look and its kill are written after the signal: on the way to it they would only
//! cost time.

use super::Daemon;
use super::Token;
use crate::clock::MonoTime;
use crate::kernel::psi;
use crate::kernel::Sample;
use crate::kill::ledger::Moments;
use crate::kill::ledger::Outcome;
use crate::kill::Flight;
use crate::kill::FlightId;
use crate::kill::KillError;
use crate::oom_score_adj::OomScoreAdj;
use crate::policy::Admission;
use crate::policy::Cause;
use crate::policy::KillReason;
use crate::policy::PollPlan;
use crate::policy::Trigger;
use crate::processes::Candidate;
use crate::processes::Record;
use crate::recorder::few::Few;
use crate::recorder::few::Text;
use crate::recorder::Act;
use crate::recorder::Change;
use crate::recorder::Checkpoint;
use crate::recorder::Fate;
use crate::recorder::Input;
use crate::recorder::Kill;
use crate::recorder::Look;
use crate::recorder::Obstacle;
use crate::recorder::Outlook;
use crate::recorder::Pressure;
use crate::recorder::Process;
use crate::recorder::Reclaims;
use crate::recorder::Registered;
use crate::recorder::Removal;
use crate::recorder::Seen;
use crate::recorder::Settings;
use crate::recorder::Sources;
use crate::recorder::Standing;
use crate::recorder::Status;
use crate::recorder::Step;
use crate::recorder::Steps;
use crate::recorder::Tried;
use crate::units::Kib;
use rustix::io::Errno;

/// The state is not told while a victim is waited for, unless that takes longer, ms.
const STATUS_PATIENCE_MS: i64 = 200;

/// About how many bytes a registered process takes in a list of them.
const PROCESS_BYTES: usize = 8;

impl Daemon {
    /// A look that has just begun.
    pub(super) fn new_look(
        &self,
        trigger: Trigger,
        now: MonoTime,
        pending: Option<MonoTime>,
    ) -> Look {
        Look {
            trigger,
            woken: self.woken,
            now,
            pending,
            admission: Admission::Ignored,
            seen: None,
            act: Act::Nothing,
            tried: Few::default(),
            waiting: false,
            plan: PollPlan::default(),
        }
    }

    /// A look is over, with the kill that it led to.
    pub(super) fn record_look(&mut self, look: &Look, killed: Option<FlightId>) {
        let seq = self.journal.write(look.now, look);
        if let Some(id) = killed {
            self.record_kill(id, seq);
        }
    }

    /// A process was killed, by the look with this number.
    pub(super) fn record_kill(&mut self, id: FlightId, look: u64) {
        let Some(flight) = self.killer.flight(id) else { return };
        let Flight { victim, cause, moments, .. } = flight;
        let next = self.registry.oldest_first(cause.min_adj);
        let next = next.filter_map(|id| self.registry.get(id)).map(process);
        let kill = Kill {
            ticket: id.ticket,
            look,
            pid: victim.pid,
            uid: victim.uid,
            adj: victim.adj,
            name: Text::new(victim.name.as_bytes()),
            rss: victim.rss,
            swap: victim.swap,
            threads: victim.threads,
            cause: *cause,
            moments: *moments,
            next: next.collect(),
        };
        self.journal.write_kill(moments.signalled, &kill);
    }

    /// Something more is known of a victim.
    pub(super) fn record_fate(&mut self, ticket: u32, flight: (i32, Moments), step: Step) {
        let (pid, moments) = flight;
        self.journal.write(MonoTime::now(), &Fate { ticket, pid, step, moments });
    }

    /// A process is registered from now on.
    pub(super) fn record_added(&mut self, now: MonoTime, process: Process) {
        self.journal.write(now, &Change::Added(process));
    }

    /// A registered process has another rank.
    pub(super) fn record_moved(&mut self, now: MonoTime, process: Process) {
        self.journal.write(now, &Change::Moved(process));
    }

    /// A process is no longer registered.
    pub(super) fn record_removed(&mut self, pid: i32, why: Removal) {
        self.journal.write(MonoTime::now(), &Change::Removed { pid, why });
    }

    /// Something reached the decision that is no look.
    pub(super) fn record_input(&mut self, input: Input) {
        self.journal.write(MonoTime::now(), &input);
    }

    /// What tells of pressure and of reclaim.
    pub(super) fn sources(&self) -> Sources {
        let pressure = match &self.pressure {
            None => Pressure::Waiting,
            Some(psi::Source::Sampling { every_ms, .. }) => {
                Pressure::Sampling { every_ms: *every_ms }
            }
            Some(psi::Source::Psi { window_ms, monitors, unprivileged }) => Pressure::Monitors {
                window_ms: *window_ms,
                medium: monitors[0].is_some(),
                critical: monitors[1].is_some(),
                unprivileged: *unprivileged,
            },
        };
        let reclaim = match &self.memevents {
            None => Reclaims::Counters,
            Some(events) if events.is_stamped() => Reclaims::OwnPrograms,
            Some(_) => Reclaims::AndroidPrograms,
        };
        Sources { pressure, reclaim }
    }

    pub(super) fn record_sources(&mut self) {
        let sources = self.sources();
        self.journal.write(MonoTime::now(), &sources);
    }

    pub(super) fn record_settings(&mut self) {
        let settings = Settings { tunables: self.tunables.clone() };
        self.journal.write(MonoTime::now(), &settings);
    }

    /// Everything that a reader needs who does not know what was before.
    pub(super) fn record_checkpoint(&mut self) {
        let now = MonoTime::now();
        self.record_settings();
        self.record_sources();
        let (policy, poller) = (self.policy.clone(), self.schedule.poller());
        self.journal.write(now, &Checkpoint { policy, poller });
        self.record_registered(now);
        self.journal.checkpoint_is_made();
    }

    /// All registered processes, unless they would push out too much else.
    fn record_registered(&mut self, now: MonoTime) {
        let bytes = u64::try_from(self.registry.len().saturating_mul(PROCESS_BYTES));
        if bytes.is_ok_and(|bytes| bytes > self.journal.room_for_registered()) {
            return;
        }
        let all = self.registry.oldest_first(OomScoreAdj::MIN);
        let mut all = all.filter_map(|id| self.registry.get(id)).map(process).peekable();
        let mut first = true;
        while first || all.peek().is_some() {
            let processes: Few<_, 64> = all.by_ref().take(64).collect();
            let last = all.peek().is_none();
            self.journal.write(now, &Registered { first, last, processes });
            first = false;
        }
    }

    /// At the end of a turn: what was put off while a victim was waited for.
    pub(super) fn end_recording_turn(&mut self, now: MonoTime) {
        let waiting = self.killer.waiting_for().map(|flight| flight.moments.signalled);
        if waiting.is_none() && !self.schedule.poller().is_polling() {
            self.journal.prepare();
        }
        if self.journal.checkpoint_is_due() && waiting.is_none() {
            self.record_checkpoint();
        }
        let patient = |since: MonoTime| now.millis_since(since) < STATUS_PATIENCE_MS;
        if self.journal.status_is_wanted() && !waiting.is_some_and(patient) {
            let settings = Settings { tunables: self.tunables.clone() };
            let status = self.status(now);
            let registered = self.registry.oldest_first(OomScoreAdj::FOREGROUND);
            let registered = registered.filter_map(|id| self.registry.get(id));
            let standing =
                |record: &Record| Standing { process: process(record), since: record.since() };
            self.journal.answer(now, &settings, registered.map(standing), &status);
        }
        self.journal.end_turn();
    }

    /// When a status that was put off is due.
    pub(super) fn status_due(&self) -> Option<MonoTime> {
        let flight = self.killer.waiting_for().filter(|_| self.journal.status_is_wanted())?;
        Some(flight.moments.signalled.plus_millis(STATUS_PATIENCE_MS))
    }

    /// The state of the daemon, without what the scribe finds out. Reads the kernel's files.
    fn status(&mut self, now: MonoTime) -> Status {
        let reclaim = self.memevents.is_some().then(|| self.reclaim.at(now));
        let mut sample = Sample { reclaim, ..Sample::default() };
        let read = self.sampler.read(now, true, &mut sample).is_ok();
        let seen = read.then(|| {
            let verdict = self.policy.survey(&sample, &self.tunables);
            Seen { sample, verdict }
        });
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let ledger = &self.killer.ledger;
        Status {
            sources: self.sources(),
            seen,
            polling: self.schedule.poller().is_polling(),
            waiting_for: self.killer.waiting_for().map(|flight| flight.victim.pid),
            registered: count(self.registry.len()),
            clients: count(self.server.clients().count()),
            next: Few::default(),
            kills: ledger.total(),
            by_reason: self.journal.kills_by_reason(),
            exits: ledger.exits,
            proven: ledger.proven,
            timeouts: ledger.timeouts,
            owed: self.killer.owed(),
            to_signal: (&ledger.to_signal).into(),
            to_release: (&ledger.to_release).into(),
            to_exit: (&ledger.to_exit).into(),
            lost_events: self.memevents.as_ref().map_or(0, |events| events.lost()),
            rss: Kib::ZERO,
            descriptors: None,
            tells_exit: self.killer.tells_exit(),
            ring: self.journal.state(),
            outlook: Some(self.outlook(now)),
            steps: Some(Steps {
                to_decision: (&ledger.to_decision).into(),
                to_raise: (&ledger.to_raise).into(),
            }),
        }
    }

    /// When the next look is due, and at what.
    fn outlook(&self, now: MonoTime) -> Outlook {
        let next_look_ms = self.schedule.due_in(now);
        let sampled = matches!(self.pressure, Some(psi::Source::Sampling { .. }));
        let watermarks_alone = if self.schedule.poller().is_polling() {
            self.policy.polls_watermarks_alone()
        } else {
            next_look_ms.is_some() && !sampled
        };
        let last_pressure = self.policy.last_pressure();
        Outlook { next_look_ms, watermarks_alone, last_pressure, minfree: *self.policy.minfree() }
    }

    /// Goes the way of records once, so that its code is in memory.
    pub(super) fn warm_up_journal(&mut self) {
        let mut look = self.new_look(Trigger::Poll, MonoTime::ZERO, None);
        look.seen = Some(Seen { sample: self.sample.clone(), verdict: Default::default() });
        let cause = Cause {
            reason: KillReason::LowMem,
            min_adj: OomScoreAdj::FOREGROUND,
            cut_thrashing_limit: false,
        };
        let kill = Kill {
            ticket: 0,
            look: 0,
            pid: 0,
            uid: 0,
            adj: OomScoreAdj::FOREGROUND,
            name: Text::new(b"lmkd"),
            rss: Kib::ZERO,
            swap: Kib::ZERO,
            threads: 0,
            cause,
            moments: Moments::default(),
            next: Few::default(),
        };
        let step = Step::Exited;
        let fate = Fate { ticket: 0, pid: 0, step, moments: Moments::default() };
        self.journal.warm_up(&look, &kill, &fate);
    }

    /// The scribe is heard from now on.
    pub(super) fn listen_to_scribe(&self) {
        if let Err(error) = self.reactor.add(self.journal.call(), Token::Scribe) {
            log::warn!("the operator's requests are not heard: {error}");
        }
    }
}

/// A registered process, for a record.
pub(super) fn process(record: &Record) -> Process {
    Process { pid: record.pid().get(), uid: record.uid, adj: record.adj() }
}

fn of_candidate(candidate: &Candidate) -> Process {
    Process { pid: candidate.pid.get(), uid: candidate.uid, adj: candidate.adj }
}

/// A candidate that was not killed, for a record.
pub(super) fn tried(candidate: &Candidate, error: KillError) -> Tried {
    let obstacle = match error {
        KillError::Gone => Obstacle::Gone,
        KillError::Dying => Obstacle::Dying,
        KillError::Refused(errno) => Obstacle::Refused(Errno::raw_os_error(errno)),
    };
    Tried { process: of_candidate(candidate), obstacle }
}

/// How a kill ended, for a record.
pub(super) fn step_of(outcome: Option<Outcome>) -> Step {
    match outcome {
        Some(Outcome::Killed) => Step::Proven,
        Some(Outcome::Otherwise(exit)) => Step::Otherwise(exit),
        None => Step::Untold,
    }
}
