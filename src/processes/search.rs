//! The kill order over everything that can be killed.

use super::adopt::Adopter;
use super::adopt::Stranger;
use super::size;
use super::size::Allocations;
use super::size::PageSizeOrSmall;
use super::size::Scale;
use super::Pid;
use super::RecordId;
use super::Registry;
use crate::clock::MonoTime;
use crate::kernel::process::ProcDir;
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

/// From this many registered processes on, reading the allocation counter is cheaper than reading
/// the sizes it may save.
const WORTH_COUNTING: usize = 64;

/// Yields candidates one after the other, without allocating, until the caller is content.
///
/// Asking for the next one says that the one before could not be killed. It is not yielded again
/// by this search whether or not its record is removed, and the search goes on with the same adj.
#[derive(Debug)]
pub struct Searcher {
    adopter: Option<Adopter>,
    allocations: Allocations,
    statm_budget: usize,
    first_spare: i32,
    scale: Scale,
    counted: bool,
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
            allocations: Allocations::open(),
            statm_budget,
            first_spare: i32::MAX,
            scale: Scale { page: PageSizeOrSmall(page), ..Scale::default() },
            counted: false,
            min_adj: OomScoreAdj::MAX,
            by_size: false,
            at: OomScoreAdj::MAX,
        }
    }

    /// Holds the size file of a process that was registered or moved, where sizes decide: at or
    /// below adj 200, or everywhere if searches go `by_size`. Does nothing beyond the budget, or if
    /// it is held already.
    pub fn hold_size(&self, registry: &mut Registry, proc: &ProcDir, id: RecordId, by_size: bool) {
        let Some(record) = registry.get(id) else { return };
        let decides = by_size || record.adj() <= OomScoreAdj::PERCEPTIBLE;
        let wanted = decides && record.statm.is_none();
        if !wanted || registry.held_statm() >= self.statm_budget {
            return;
        }
        if let Ok(statm) = proc.open_statm(record.pid().get()) {
            if !self.may_keep(&statm) {
                return;
            }
            // The kernel's buffer is made by the first read: now, not when memory is short.
            let _ = ProcDir::held_rss(&statm);
            registry.hold_statm(id, statm);
        }
    }

    /// Whether a descriptor may stay with a registered process: enough are left for a kill.
    #[must_use]
    pub fn may_keep(&self, descriptor: impl AsFd) -> bool {
        descriptor.as_fd().as_raw_fd() < self.first_spare
    }

    /// Begins a new search from adj 1000 down to `min_adj`, never below 0. `by_size` takes the
    /// heaviest of every adj; `swap_used` is all that is swapped out.
    pub fn start(&mut self, min_adj: OomScoreAdj, by_size: bool, swap_used: Kib) {
        self.scale.search = self.scale.search.checked_add(1).unwrap_or(1);
        self.scale.swap_used = swap_used.to_pages(self.scale.page.0);
        self.scale.allocated = None;
        self.counted = false;
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
                    record.tried = self.scale.search;
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

    fn registered(
        &mut self,
        registry: &mut Registry,
        proc: &ProcDir,
        adj: OomScoreAdj,
    ) -> Option<(RecordId, Standing)> {
        if self.by_size || adj <= OomScoreAdj::PERCEPTIBLE {
            if !self.counted && registry.len_at(adj) >= WORTH_COUNTING {
                self.counted = true;
                self.scale.allocated = self.allocations.read();
            }
            let (id, size) = size::heaviest(registry, proc, adj, &self.scale)?;
            return Some((id, Standing::Size(size)));
        }
        let search = self.scale.search;
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
