//! The kill order over everything that can be killed.

use super::adopt::Adopter;
use super::adopt::Stranger;
use super::ahead::Ahead;
use super::heaviest;
use super::heaviest::Round;
use super::known::Scale;
use super::size;
use super::Pid;
use super::RecordId;
use super::Registry;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
use crate::kernel::vmstat::PageCounters;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Kib;
use crate::units::PageSize;
use crate::units::Pages;
use rustix::process::Resource;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;

/// A process that may be killed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub pid: Pid,
    /// Its user.
    pub uid: u32,
    /// Its place in the order.
    pub adj: OomScoreAdj,
    /// How it is known.
    pub who: Who,
}

/// How a candidate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A client registered it.
    Registered(RecordId),
    /// Nobody did.
    Adopted {
        /// When it started, in clock ticks since boot: to be compared once its pidfd is open.
        start_time: u64,
    },
}

/// Yields candidates one after the other, without allocating, until the caller is content.
///
/// Asking for the next one says that the one before could not be killed. It is not yielded again
/// by this search whether or not its record is removed, and the search goes on with the same adj.
#[derive(Debug)]
pub struct Searcher {
    adopter: Option<Adopter>,
    ahead: Ahead,
    round: Round,
    statm_budget: usize,
    first_spare: i32,
    scale: Scale,
    counters: Option<PageCounters>,
    min_adj: OomScoreAdj,
    by_size: bool,
    at: OomScoreAdj,
}

impl Searcher {
    /// A searcher for this machine and this process's limits. To `adopt` takes unregistered
    /// processes into account.
    #[must_use]
    pub fn new(adopt: bool) -> Self {
        let adopter = adopt.then(Adopter::new).and_then(|adopter| {
            let refused = |error| log::warn!("unregistered processes are not adopted: {error}");
            adopter.map_err(refused).ok()
        });
        let page = PageSize::of_this_kernel();
        let descriptors = rustix::process::getrlimit(Resource::Nofile).current;
        let descriptors = descriptors.unwrap_or(u64::MAX);
        let budget = size::statm_budget(descriptors, size::memory(page));
        let spare = size::first_spare_descriptor(descriptors);
        Self { first_spare: spare, ..Self::with(adopter, page, budget) }
    }

    /// A searcher that holds up to `statm_budget` files open (see [`super::statm_budget`]).
    #[must_use]
    pub fn with(adopter: Option<Adopter>, page: PageSize, statm_budget: usize) -> Self {
        Self {
            adopter,
            ahead: Ahead::new(),
            round: Round::default(),
            statm_budget,
            first_spare: i32::MAX,
            scale: Scale::new(page),
            counters: None,
            min_adj: OomScoreAdj::MAX,
            by_size: false,
            at: OomScoreAdj::MAX,
        }
    }

    /// Whether unregistered processes are candidates.
    #[must_use]
    pub const fn adopts(&self) -> bool {
        self.adopter.is_some()
    }

    /// Reads the size of a process that was registered or moved, and holds the file that tells it,
    /// where sizes decide: at or below adj 200, or everywhere if searches go `by_size`. Does nothing
    /// beyond the budget, or if it is held already.
    pub fn hold_size(&self, registry: &mut Registry, proc: &ProcDir, id: RecordId, by_size: bool) {
        let Some(record) = registry.get(id) else { return };
        let decides = by_size || record.adj() <= OomScoreAdj::PERCEPTIBLE;
        if !decides || record.statm.is_some() || registry.held_statm() >= self.statm_budget {
            return;
        }
        let Ok(statm) = proc.open_statm(record.pid().get()) else { return };
        // The kernel's buffer is made by the first read: now, not when memory is short.
        if let Ok(resident) = ProcDir::held_rss(&statm) {
            let swapped = self.scale.swap_used;
            self.scale.note(registry, id, (resident, swapped), false);
        }
        if self.may_keep(&statm) {
            registry.hold_statm(id, statm);
        }
    }

    /// Whether a descriptor may stay with a registered process: enough are left for a kill.
    #[must_use]
    pub fn may_keep(&self, descriptor: impl AsFd) -> bool {
        descriptor.as_fd().as_raw_fd() < self.first_spare
    }

    /// What the machine has moved until now, for the search that is about to start. Without it no
    /// size known from earlier rules a process out.
    pub fn know(&mut self, counters: Option<PageCounters>) {
        self.counters = counters;
    }

    /// Victims that have not exited, which the searches from now on do not take for processes that
    /// nobody registered.
    pub fn leave_out(&mut self, dying: impl Iterator<Item = i32>) {
        if let Some(adopter) = &mut self.adopter {
            adopter.leave_out(dying);
        }
    }

    /// Begins a new search from adj 1000 down to `min_adj`, never below 0. `by_size` takes the
    /// heaviest of every adj; `swap_used` is all that is swapped out.
    pub fn start(&mut self, min_adj: OomScoreAdj, by_size: bool, swap_used: Kib) {
        let swap_used = swap_used.to_pages(self.scale.page);
        self.scale.begin(swap_used, self.counters.take());
        self.min_adj = min_adj.max(OomScoreAdj::FOREGROUND);
        self.by_size = by_size;
        self.at = OomScoreAdj::MAX;
        if let Some(adopter) = &mut self.adopter {
            adopter.start(self.min_adj, by_size);
        }
    }

    /// The next candidate, or None when there is none left.
    pub fn next(&mut self, registry: &mut Registry, proc: &ProcDir) -> Option<Candidate> {
        loop {
            let stranger = match &mut self.adopter {
                Some(adopter) => adopter.peek(registry, proc, &self.scale),
                None => None,
            };
            let own = registry.highest_adj(self.at, self.min_adj);
            let adj = own.max(stranger.map(|stranger| stranger.adj))?;
            let stranger = stranger.filter(|stranger| stranger.adj == adj);
            let registered =
                if own == Some(adj) { self.registered(registry, proc, adj) } else { None };
            match (registered, stranger) {
                (Some((id, standing)), stranger)
                    if !stranger.is_some_and(|stranger| standing.is_behind(&stranger)) =>
                {
                    self.at = adj;
                    let record = registry.get_mut(id)?;
                    record.tried = self.scale.reading;
                    let (pid, uid) = (record.pid(), record.uid);
                    return Some(Candidate { pid, uid, adj, who: Who::Registered(id) });
                }
                (_, Some(stranger)) => {
                    self.at = adj;
                    if let Some(adopter) = &mut self.adopter {
                        adopter.pop();
                    }
                    if let Some(candidate) = stranger.candidate(proc) {
                        return Some(candidate);
                    }
                }
                // All here were tried.
                _ => self.at = OomScoreAdj::new(adj.get().checked_sub(1)?)?,
            }
        }
    }

    /// The first `n` in kill order, for the eyes of the operator. Allocates.
    pub fn first(&mut self, registry: &mut Registry, proc: &ProcDir, n: usize) -> Vec<Candidate> {
        std::iter::from_fn(|| self.next(registry, proc)).take(n).collect()
    }

    /// Begins to read the sizes of those ahead who are next by size.
    pub fn read_ahead(&mut self, registry: &Registry, by_size: bool) {
        if let Some(adj) = registry.next_by_size(by_size) {
            self.ahead.begin(registry, adj, &mut self.scale);
        }
    }

    /// Whether there are sizes to be read ahead.
    #[must_use]
    pub fn is_reading_ahead(&self) -> bool {
        self.ahead.is_going_on()
    }

    /// Reads a few of them. Not during a search.
    pub fn read_some_ahead(&mut self, registry: &mut Registry, proc: &ProcDir) {
        self.ahead.go_on(registry, proc, &mut self.scale);
    }

    /// Takes the sizes that are known, however old, for what they are worth.
    pub fn guess_heaviest(&mut self, registry: &Registry, by_size: bool) {
        if let Some(adj) = registry.next_by_size(by_size) {
            self.ahead.guess(registry, adj);
        }
    }

    /// Who is likely to be the next victim among those whose size decides.
    #[must_use]
    pub fn likely_heaviest(&self) -> Option<RecordId> {
        self.ahead.heaviest()
    }

    fn registered(
        &mut self,
        registry: &mut Registry,
        proc: &ProcDir,
        adj: OomScoreAdj,
    ) -> Option<(RecordId, Standing)> {
        if self.by_size || adj <= OomScoreAdj::PERCEPTIBLE {
            let (scale, round) = (&mut self.scale, &mut self.round);
            let (id, size) = heaviest::heaviest(registry, proc, adj, scale, round)?;
            return Some((id, Standing::Size(size)));
        }
        let search = self.scale.reading;
        let id = registry
            .at(adj)
            .find(|&id| registry.get(id).is_some_and(|record| record.tried != search))?;
        let since = registry.get(id)?.since();
        Some((id, Standing::Since(since)))
    }
}

/// What decides between a registered and an adopted candidate of the same adj.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Size(Pages),
    Since(MonoTime),
}

impl Standing {
    fn is_behind(&self, stranger: &Stranger) -> bool {
        match self {
            Self::Size(size) => *size < stranger.size,
            Self::Since(since) => *since > stranger.started,
        }
    }
}

#[cfg(test)]
mod tests;
