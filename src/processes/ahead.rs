//! Sizes read ahead of the search that will need them, a few at a time.
//!
//! A size rules a process out only while it is fresh ([`super::known`]). So after a kill, while its
//! victim dies, and while pressure lasts, the sizes of those who are next by size are read again,
//! largest first, and none that are ruled out.

use super::heaviest;
use super::heaviest::Round;
use super::known::Scale;
use super::size;
use super::RecordId;
use super::Registry;
use crate::kernel::process::ProcDir;
use crate::kernel::vmstat::PageCounterFile;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Pages;

/// How many sizes are read between two waits for events: a fifth of a millisecond.
const BATCH: usize = 8;

/// After so many the counters that bound growth are read again.
const FRESH: usize = 64;

/// A pass reads no more: its CPU time is the victim's too.
const MOST: usize = 1024;

/// One pass over the processes of one adj.
#[derive(Debug)]
pub(super) struct Ahead {
    counters: PageCounterFile,
    round: Round,
    /// The next of the round.
    at: usize,
    /// None if no pass is going on.
    adj: Option<OomScoreAdj>,
    /// The first reading of this pass: what was read before it is to be read again.
    first: u32,
    read: usize,
    best: Option<(RecordId, Pages)>,
    heaviest: Option<RecordId>,
}

impl Ahead {
    pub fn new() -> Self {
        Self {
            counters: PageCounterFile::open(),
            round: Round::default(),
            at: 0,
            adj: None,
            first: 0,
            read: 0,
            best: None,
            heaviest: None,
        }
    }

    /// Begins a pass.
    pub fn begin(&mut self, registry: &Registry, adj: OomScoreAdj, scale: &mut Scale) {
        self.adj = Some(adj);
        self.read = 0;
        self.best = None;
        scale.begin(scale.swap_used, self.counters.read());
        self.first = scale.reading;
        self.gather(registry, adj, scale);
        self.heaviest = self.round.get(0);
    }

    /// Finds the one at `adj` that was largest when last seen, without reading.
    pub fn guess(&mut self, registry: &Registry, adj: OomScoreAdj) {
        let known = |id: &RecordId| registry.get(*id)?.size.map(|size| size.hint());
        self.heaviest = registry.at(adj).max_by_key(known);
    }

    pub fn is_going_on(&self) -> bool {
        self.adj.is_some()
    }

    /// The heaviest as far as is known.
    pub fn heaviest(&self) -> Option<RecordId> {
        self.heaviest
    }

    /// Reads a few.
    pub fn go_on(&mut self, registry: &mut Registry, proc: &ProcDir, scale: &mut Scale) {
        let Some(adj) = self.adj else { return };
        let mut batch = 0_usize;
        while batch < BATCH {
            let Some(id) = self.round.get(self.at) else {
                self.gather(registry, adj, scale);
                if self.round.is_empty() || self.read >= MOST {
                    self.adj = None;
                    return;
                }
                continue;
            };
            self.at = self.at.saturating_add(1);
            let Some(record) = registry.get(id).filter(|record| record.adj() == adj) else {
                continue;
            };
            if self.is_ruled_out(scale.bound(record)) {
                continue;
            }
            if self.read % FRESH == FRESH - 1 {
                scale.begin(scale.swap_used, self.counters.read());
            }
            // Whole: how much is in swap by now is not known here.
            let parts = size::with_swap(proc, record.pid().get(), scale.page).unwrap_or_default();
            scale.note(registry, id, parts, true);
            let size = parts.0 + parts.1;
            if self.best.is_none_or(|(_, most)| size > most) {
                self.best = Some((id, size));
                self.heaviest = Some(id);
            }
            self.read = self.read.saturating_add(1);
            batch = batch.saturating_add(1);
        }
    }

    fn is_ruled_out(&self, bound: Option<Pages>) -> bool {
        let limit = heaviest::limit(self.best);
        bound.is_some_and(|most| limit.is_some_and(|limit| most <= limit))
    }

    /// Gathers the largest of those that this pass has not read and that are not ruled out.
    fn gather(&mut self, registry: &Registry, adj: OomScoreAdj, scale: &Scale) {
        self.at = 0;
        self.round.clear();
        for id in registry.at(adj) {
            let Some(record) = registry.get(id) else { continue };
            let done = record.size.is_some_and(|known| known.exact && known.reading >= self.first);
            if !done && !self.is_ruled_out(scale.bound(record)) {
                self.round.add(record.size.map_or(Pages::ZERO, |known| known.hint()), id);
            }
        }
        self.round.sort();
    }
}
