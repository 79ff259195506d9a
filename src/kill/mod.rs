//! The kill: raise, SIGKILL through the pidfd, reap, and wait for that very process's exit.
//!
//! One victim is waited for at a time. One that does not die within kill_timeout_ms stays on
//! watch: its exit is still recorded and it is never chosen again.

mod dying;
mod groups;
pub mod ledger;
pub mod raise;
pub mod reaper;

use crate::clock::MonoTime;
use crate::kernel::process::ProcError;
use crate::kernel::process::Stat;
use crate::kernel::process::TaskName;
use crate::kernel::GroupUsage;
use crate::oom_score_adj::OomScoreAdj;
use crate::pidfd::PidFd;
use crate::policy::Cause;
use crate::units::Kib;
use dying::Dying;
use ledger::Ledger;
use ledger::Moments;
use ledger::Outcome;
use raise::Threads;
use reaper::Reaper;
use reaper::Signalled;
use rustix::io::Errno;

/// Everything known of a process before it is killed. Nothing is read of it afterwards.
#[derive(Clone, Debug)]
pub struct Victim {
    /// Its process id.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
    /// Its rank.
    pub adj: OomScoreAdj,
    /// The first argument of its command line.
    pub name: TaskName,
    /// R, S, D, ... as its status had it.
    pub state: u8,
    /// Resident memory.
    pub rss: Kib,
    /// Swapped-out memory.
    pub swap: Kib,
    /// How many threads it has; 0 if not known.
    pub threads: u32,
    /// Page faults and start, if somebody wants to know.
    pub stat: Option<Stat>,
    /// What its memory cgroup has used, if somebody wants to know and the groups are per app.
    pub group: Option<GroupUsage>,
}

/// Why a process could not be killed; the next candidate is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillError {
    /// It had exited already.
    Gone,
    /// It was signalled before and has not exited yet.
    Dying,
    /// The signal was refused.
    Refused(Errno),
}

impl From<ProcError> for KillError {
    fn from(error: ProcError) -> Self {
        match error {
            ProcError::Gone | ProcError::Malformed(_) => Self::Gone,
            ProcError::Denied => Self::Refused(Errno::ACCESS),
            ProcError::Other(errno) => Self::Refused(errno),
        }
    }
}

/// What it means that SIGKILL was refused.
#[must_use]
pub fn refused(errno: Errno) -> KillError {
    match errno {
        Errno::SRCH => KillError::Gone,
        other => KillError::Refused(other),
    }
}

/// A victim between its signal and the proof of its end.
#[derive(Debug)]
pub struct Flight {
    /// Who.
    pub victim: Victim,
    /// Why.
    pub cause: Cause,
    /// When each step was made.
    pub moments: Moments,
    pidfd: PidFd,
    ticket: u32,
    timed_out: bool,
}

impl Flight {
    /// The number of its kill.
    #[must_use]
    pub const fn ticket(&self) -> u32 {
        self.ticket
    }

    /// Its process, to wait on.
    #[must_use]
    pub const fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }
}

/// What the loop waits on: a victim's place and the ticket that tells it from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightId {
    /// Index, below [`reaper::PLACES`].
    pub place: u8,
    /// Unique over the run (2^32 kills).
    pub ticket: u32,
}

/// The kill in flight, those that outlived their timeout, and the ledger.
pub struct Killer {
    flights: [Option<Flight>; reaper::PLACES],
    current: Option<FlightId>,
    next_ticket: u32,
    evicted: Option<Flight>,
    dying: Dying,
    reaper: Reaper,
    tells_exit: bool,
    /// Counts and durations of the run.
    pub ledger: Ledger,
}

impl Killer {
    /// Starts the reaper's threads.
    #[must_use]
    pub fn start() -> Self {
        Self {
            flights: std::array::from_fn(|_| None),
            current: None,
            next_ticket: 1,
            evicted: None,
            dying: Dying::new(),
            reaper: Reaper::start(),
            tells_exit: PidFd::kernel_tells_exit(),
            ledger: Ledger::default(),
        }
    }

    /// Makes the reaper go its round once, without a victim.
    pub fn warm_up(&self) {
        self.reaper.ring();
    }

    /// The victim that is waited for: no other is chosen meanwhile.
    #[must_use]
    pub fn waiting_for(&self) -> Option<&Flight> {
        self.flight(self.current?)
    }

    /// Whether this kernel tells how a victim ended.
    #[must_use]
    pub const fn tells_exit(&self) -> bool {
        self.tells_exit
    }

    /// Whether this victim is the one that is waited for.
    #[must_use]
    pub fn is_waiting_for(&self, id: FlightId) -> bool {
        self.current == Some(id)
    }

    /// Whether nothing more will be learnt of a victim that has exited: its parent has reaped it,
    /// or the kernel does not tell exit statuses.
    #[must_use]
    pub fn is_over(&self, id: FlightId) -> bool {
        self.flight(id).is_some_and(|flight| {
            flight.moments.exited.is_some() && (flight.pidfd.was_reaped() || !self.tells_exit)
        })
    }

    /// A victim on watch.
    #[must_use]
    pub fn flight(&self, id: FlightId) -> Option<&Flight> {
        self.flights
            .get(usize::from(id.place))?
            .as_ref()
            .filter(|flight| flight.ticket == id.ticket)
    }

    /// Whether this process was signalled and has not been seen to exit.
    #[must_use]
    pub fn is_dying(&self, pid: i32) -> bool {
        let on_watch = self.flights.iter().flatten().any(|flight| {
            flight.victim.pid == pid
                && flight.moments.exited.is_none()
                && !flight.pidfd.was_reaped()
        });
        on_watch || self.dying.has(pid)
    }

    /// The ids of those that were signalled and have not been seen to exit.
    pub fn dying(&self) -> impl Iterator<Item = i32> + '_ {
        let on_watch = self.flights.iter().flatten();
        let on_watch = on_watch.filter(|flight| flight.moments.exited.is_none());
        on_watch.map(|flight| flight.victim.pid).chain(self.dying.pids())
    }

    /// Raises, signals and hands to the reaper. The victim is then waited for. `threads` is where
    /// the list of its threads is.
    ///
    /// # Errors
    ///
    /// The process is gone, dying already, or not ours to signal; nothing was counted. Its pidfd
    /// comes back.
    pub fn kill(
        &mut self,
        threads: Threads<'_>,
        victim: Victim,
        pidfd: PidFd,
        cause: Cause,
        mut moments: Moments,
    ) -> Result<FlightId, (PidFd, KillError)> {
        if pidfd.has_exited() {
            return Err((pidfd, KillError::Gone));
        }
        if self.is_dying(victim.pid) {
            return Err((pidfd, KillError::Dying));
        }
        let rest = raise::raise_leader(threads, victim.pid, victim.threads);
        moments.raised = MonoTime::now();
        if let Err(errno) = pidfd.kill() {
            // Reaped since it was asked: then the one that was raised may be another by that id.
            rest.undo(victim.stat.as_ref().filter(|_| errno != Errno::SRCH));
            return Err((pidfd, refused(errno)));
        }
        moments.signalled = MonoTime::now();
        let id = self.signalled(victim, pidfd, cause, moments);
        self.current = Some(id);
        rest.raise();
        Ok(id)
    }

    /// Takes over a victim that was signalled just now: counted, handed to the reaper, and waited
    /// for unless another is.
    pub fn signalled(
        &mut self,
        victim: Victim,
        pidfd: PidFd,
        cause: Cause,
        moments: Moments,
    ) -> FlightId {
        let place = self.free_place();
        let ticket = self.next_ticket;
        self.next_ticket = self.next_ticket.wrapping_add(1).max(1);
        // Of one whose leader has left, nobody sees what its threads do.
        let may_be_frozen = matches!(victim.state, b'D' | b'Z');
        let (pid, at) = (victim.pid, moments.signalled);
        self.reaper.hand_over(place, &pidfd, Signalled { pid, ticket, may_be_frozen, at });
        self.ledger.count_kill(victim.adj, &moments);
        let flight = Flight { victim, cause, moments, pidfd, ticket, timed_out: false };
        if let Some(slot) = self.flights.get_mut(usize::from(place)) {
            self.evicted = slot.replace(flight);
        }
        let id = FlightId { place, ticket };
        // The one in whose place it is may have been waited for.
        let current = self.current.filter(|current| current.place != place);
        self.current = current.or(Some(id));
        id
    }

    /// The victim that had to make room for the latest one, and how it ended if it has: to be taken
    /// out of the epoll set and given to [`Self::let_go`].
    pub fn take_evicted(&mut self) -> Option<(Flight, Option<Outcome>)> {
        let flight = self.evicted.take()?;
        let outcome = flight.pidfd.exit().map(Outcome::from);
        self.count_proof(outcome);
        Some((flight, outcome))
    }

    /// The victim that has been on watch longest of those that have exited, for the sake of its
    /// descriptors; as [`Self::take_evicted`].
    pub fn take_exited(&mut self) -> Option<(Flight, Option<Outcome>)> {
        let exited = |flight: &Option<Flight>| {
            let flight = flight.as_ref().filter(|flight| flight.moments.exited.is_some())?;
            Some(flight.ticket)
        };
        let (_, place) = self
            .flights
            .iter_mut()
            .filter_map(|flight| Some((exited(flight)?, flight)))
            .min_by_key(|(ticket, _)| *ticket)?;
        self.evicted = place.take();
        self.take_evicted()
    }

    /// Lets a victim go that is no longer on watch. One that has not exited is still known as dying.
    pub fn let_go(&mut self, flight: Flight) {
        self.dying.keep(flight);
    }

    fn count_proof(&mut self, outcome: Option<Outcome>) {
        if outcome == Some(Outcome::Killed) {
            self.ledger.proven = self.ledger.proven.saturating_add(1);
        }
    }

    /// An empty place; if all are taken, that of the victim longest on watch.
    fn free_place(&self) -> u8 {
        let age = |flight: &Option<Flight>| {
            flight.as_ref().map(|flight| (flight.moments.exited.is_none(), flight.ticket))
        };
        let places = (0_u8..).zip(&self.flights);
        places.min_by_key(|(_, flight)| age(flight)).map_or(0, |(place, _)| place)
    }

    /// The pidfd turned readable: the victim has exited. Returns it the first time.
    pub fn exited(&mut self, id: FlightId, now: MonoTime) -> Option<&Flight> {
        if self.current == Some(id) {
            self.current = None;
        }
        let answer = self.reaper.answer(id.place, id.ticket);
        let flight = self.flights.get_mut(usize::from(id.place))?.as_mut()?;
        if flight.ticket != id.ticket || flight.moments.exited.is_some() {
            return None;
        }
        flight.moments.exited = Some(now);
        flight.moments.released = answer.filter(|a| a.result.is_ok()).map(|a| a.at);
        self.ledger.count_exit(&flight.moments);
        Some(flight)
    }

    /// The victim was reaped by its parent: asks the kernel how it ended, and forgets it.
    pub fn prove(&mut self, id: FlightId, now: MonoTime) -> Option<(Flight, Option<Outcome>)> {
        self.flight(id)?;
        let mut flight = self.flights.get_mut(usize::from(id.place))?.take()?;
        if self.current == Some(id) {
            self.current = None;
        }
        let outcome = flight.pidfd.exit().map(Outcome::from);
        if outcome.is_some() {
            flight.moments.proven = Some(now);
        }
        self.count_proof(outcome);
        Some((flight, outcome))
    }

    /// kill_timeout_ms is over: the next victim may be chosen while this one stays on watch.
    pub fn give_up_waiting(&mut self) -> Option<FlightId> {
        let id = self.current.take()?;
        let flight = self.flights.get_mut(usize::from(id.place))?.as_mut()?;
        flight.timed_out = true;
        self.ledger.timeouts = self.ledger.timeouts.saturating_add(1);
        Some(id)
    }

    /// What became of a victim's memory, if the reaper has answered by now.
    #[must_use]
    pub fn release(&self, id: FlightId) -> Option<reaper::Release> {
        self.reaper.answer(id.place, id.ticket)
    }

    /// Memory of victims that were given up on and still hold it, in kilobytes.
    #[must_use]
    pub fn owed(&self) -> Kib {
        let owed = (0_u8..).zip(&self.flights).filter_map(|(place, flight)| {
            let flight = flight.as_ref().filter(|f| f.timed_out && f.moments.exited.is_none())?;
            let release = self.reaper.answer(place, flight.ticket);
            release.is_none_or(|r| !r.is_back()).then_some(flight.victim.rss)
        });
        owed.sum()
    }
}

#[cfg(test)]
mod tests;
