//! The registered processes.

use super::record::ClientId;
use super::record::Record;
use super::record::RecordId;
use super::slots::Slots;
use super::slots::NIL;
use super::Pid;
use crate::clock::MonoTime;
use crate::oom_score_adj::OomScoreAdj;
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// Every registered process, in one list per `oom_score_adj`, most recently registered first.
///
/// Inserting, moving, removing and finding the next victim take the same time whatever the number
/// of records. Memory grows only while a record is inserted, and is kept for the next.
#[derive(Debug)]
pub struct Registry {
    entries: Vec<Entry>,
    /// First of the unused entries, which are linked by `next`.
    free: u32,
    slots: Slots,
    by_pid: HashMap<Pid, u32>,
    held_statm: usize,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    prev: u32,
    next: u32,
    record: Option<Record>,
}

impl Registry {
    /// A registry that holds `capacity` records before its memory grows.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            entries: Vec::with_capacity(capacity),
            free: NIL,
            slots: Slots::new(),
            by_pid: HashMap::with_capacity(capacity),
            held_statm: 0,
        }
    }

    /// How many processes are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// How many are registered at `adj`.
    #[must_use]
    pub fn len_at(&self, adj: OomScoreAdj) -> usize {
        usize::try_from(self.slots.list(adj).len).unwrap_or(usize::MAX)
    }

    /// Adds a process as the most recently registered of its adj. A record of the same pid, which
    /// can only be that of a process that is gone, makes way.
    pub fn insert(&mut self, record: Record) -> RecordId {
        if let Some(old) = self.by_pid(record.pid()) {
            self.remove(old);
        }
        let pid = record.pid();
        let adj = record.adj;
        let index = self.free;
        let index = if let Some(entry) = self.entry_mut(index) {
            let next_free = entry.next;
            entry.record = Some(record);
            self.free = next_free;
            index
        } else {
            // One entry a pid at most, so that the number always fits.
            let index = u32::try_from(self.entries.len()).unwrap_or(NIL);
            let record = Some(record);
            self.entries.push(Entry { generation: 0, prev: NIL, next: NIL, record });
            index
        };
        self.by_pid.insert(pid, index);
        self.link(index, adj);
        RecordId { index, generation: self.entry(index).map_or(0, |entry| entry.generation) }
    }

    /// The record of a pid.
    #[must_use]
    pub fn by_pid(&self, pid: Pid) -> Option<RecordId> {
        self.id(*self.by_pid.get(&pid)?)
    }

    /// The record, unless it has been removed since.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<&Record> {
        let entry = self.entry(id.index)?;
        entry.record.as_ref().filter(|_| entry.generation == id.generation)
    }

    /// The record, unless it has been removed since.
    #[must_use]
    pub fn get_mut(&mut self, id: RecordId) -> Option<&mut Record> {
        let entry = self.entry_mut(id.index)?;
        entry.record.as_mut().filter(|_| entry.generation == id.generation)
    }

    /// Registers a known process again, at `adj`, which makes it the most recently registered
    /// there. Does nothing if the record is gone.
    pub fn set_adj(&mut self, id: RecordId, adj: OomScoreAdj, now: MonoTime) {
        let Some(old) = self.get(id).map(Record::adj) else { return };
        self.unlink(id.index, old);
        if let Some(record) = self.get_mut(id) {
            record.adj = adj;
            record.since = now;
        }
        self.link(id.index, adj);
    }

    /// Takes a record out, with its descriptors.
    pub fn remove(&mut self, id: RecordId) -> Option<Record> {
        let adj = self.get(id)?.adj;
        self.unlink(id.index, adj);
        let free = self.free;
        let entry = self.entry_mut(id.index)?;
        let record = entry.record.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = free;
        self.free = id.index;
        self.by_pid.remove(&record.pid());
        if record.statm.is_some() {
            self.held_statm = self.held_statm.saturating_sub(1);
        }
        Some(record)
    }

    /// Removes every record that `keep` refuses and returns how many.
    pub fn retain(&mut self, mut keep: impl FnMut(&Record) -> bool) -> usize {
        let before = self.len();
        for index in 0..self.entries.len() {
            let Some(id) = u32::try_from(index).ok().and_then(|index| self.id(index)) else {
                continue;
            };
            if !self.get(id).is_some_and(&mut keep) {
                self.remove(id);
            }
        }
        before.saturating_sub(self.len())
    }

    /// Takes the claim of a client that has left from its records; they stay registered.
    pub fn release_claims(&mut self, client: ClientId) {
        for record in self.entries.iter_mut().filter_map(|entry| entry.record.as_mut()) {
            if record.claim == Some(client) {
                record.claim = None;
            }
        }
    }

    /// The least recently registered at `adj`: the next victim there.
    #[must_use]
    pub fn oldest(&self, adj: OomScoreAdj) -> Option<RecordId> {
        self.id(self.slots.list(adj).tail)
    }

    /// The one of the same adj that was registered next after `id`.
    #[must_use]
    pub fn newer(&self, id: RecordId) -> Option<RecordId> {
        self.get(id)?;
        self.id(self.entry(id.index)?.prev)
    }

    /// The highest adj within `min..=max` at which a process is registered.
    #[must_use]
    pub fn highest_adj(&self, max: OomScoreAdj, min: OomScoreAdj) -> Option<OomScoreAdj> {
        self.slots.highest(max, min)
    }

    /// The highest adj at which sizes decide and a process is registered: at or below 200, or of all
    /// if searches go `by_size`.
    #[must_use]
    pub fn next_by_size(&self, by_size: bool) -> Option<OomScoreAdj> {
        let max = if by_size { OomScoreAdj::MAX } else { OomScoreAdj::PERCEPTIBLE };
        self.highest_adj(max, OomScoreAdj::FOREGROUND)
    }

    /// All at `adj`, the least recently registered first.
    pub fn at(&self, adj: OomScoreAdj) -> impl Iterator<Item = RecordId> + '_ {
        std::iter::successors(self.oldest(adj), |&id| self.newer(id))
    }

    /// All at or above `min`, from the highest adj down, of one adj the least recently registered
    /// first: the kill order where sizes do not matter.
    pub fn oldest_first(&self, min: OomScoreAdj) -> impl Iterator<Item = RecordId> + '_ {
        let first = self.highest_adj(OomScoreAdj::MAX, min);
        let adjs = std::iter::successors(first, move |adj| {
            let below = OomScoreAdj::new(adj.get().checked_sub(1)?)?;
            self.highest_adj(below, min)
        });
        adjs.flat_map(|adj| self.at(adj))
    }

    /// Keeps a record's `statm` open; see [`super::Searcher::hold_size`].
    pub(super) fn hold_statm(&mut self, id: RecordId, statm: OwnedFd) {
        let Some(record) = self.get_mut(id) else { return };
        if record.statm.replace(statm).is_none() {
            self.held_statm = self.held_statm.saturating_add(1);
        }
    }

    /// How many `statm` files are held open.
    #[must_use]
    pub fn held_statm(&self) -> usize {
        self.held_statm
    }

    fn id(&self, index: u32) -> Option<RecordId> {
        let entry = self.entry(index)?;
        entry.record.as_ref().map(|_| RecordId { index, generation: entry.generation })
    }

    fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(index).ok()?)
    }

    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(index).ok()?)
    }

    /// Puts an entry at the head of its list.
    fn link(&mut self, index: u32, adj: OomScoreAdj) {
        let head = self.slots.list(adj).head;
        if let Some(entry) = self.entry_mut(index) {
            entry.prev = NIL;
            entry.next = head;
        }
        if let Some(entry) = self.entry_mut(head) {
            entry.prev = index;
        }
        self.slots.update(adj, |list| {
            list.head = index;
            if list.tail == NIL {
                list.tail = index;
            }
            list.len = list.len.saturating_add(1);
        });
    }

    /// Takes an entry out of its list.
    fn unlink(&mut self, index: u32, adj: OomScoreAdj) {
        let Some(&Entry { prev, next, .. }) = self.entry(index) else { return };
        if let Some(entry) = self.entry_mut(prev) {
            entry.next = next;
        }
        if let Some(entry) = self.entry_mut(next) {
            entry.prev = prev;
        }
        self.slots.update(adj, |list| {
            if list.head == index {
                list.head = next;
            }
            if list.tail == index {
                list.tail = prev;
            }
            list.len = list.len.saturating_sub(1);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adj(value: i32) -> OomScoreAdj {
        OomScoreAdj::new(value).unwrap()
    }

    fn record(pid: i32, at: i32) -> Record {
        Record::new(Pid::new(pid).unwrap(), 10_000, adj(at), MonoTime::ZERO)
    }

    fn pids(registry: &Registry, ids: impl Iterator<Item = RecordId>) -> Vec<i32> {
        ids.map(|id| registry.get(id).unwrap().pid().get()).collect()
    }

    #[test]
    fn the_least_recently_registered_of_the_highest_adj_dies_first() {
        let mut registry = Registry::with_capacity(8);
        let first = registry.insert(record(11, 900));
        registry.insert(record(12, 900));
        registry.insert(record(13, 0));
        registry.insert(record(14, 1000));
        let order = |registry: &Registry| pids(registry, registry.oldest_first(adj(0)));
        assert_eq!(order(&registry), [14, 11, 12, 13]);
        registry.set_adj(first, adj(900), MonoTime::from_millis(5));
        assert_eq!(order(&registry), [14, 12, 11, 13]);
        assert_eq!(registry.get(first).unwrap().since(), MonoTime::from_millis(5));
        registry.set_adj(first, adj(0), MonoTime::from_millis(6));
        assert_eq!(order(&registry), [14, 12, 13, 11]);
        assert_eq!(registry.len_at(adj(900)), 1);
    }

    #[test]
    fn a_removed_record_is_not_found_under_its_old_id() {
        let mut registry = Registry::with_capacity(1);
        let old = registry.insert(record(20, 500));
        assert_eq!(registry.remove(old).unwrap().pid().get(), 20);
        let new = registry.insert(record(21, 500));
        assert_eq!(old.index, new.index);
        assert!(registry.get(old).is_none());
        assert!(registry.get_mut(old).is_none());
        assert!(registry.remove(old).is_none());
        registry.set_adj(old, adj(1), MonoTime::ZERO);
        assert_eq!(registry.get(new).unwrap().adj(), adj(500));
        assert_eq!(registry.newer(old), None);
    }

    #[test]
    fn a_pid_registered_anew_replaces_the_record_of_its_predecessor() {
        let mut registry = Registry::with_capacity(1);
        let old = registry.insert(record(30, 500));
        let new = registry.insert(record(30, 700));
        assert_eq!(registry.len(), 1);
        assert!(registry.get(old).is_none());
        assert_eq!(registry.by_pid(Pid::new(30).unwrap()), Some(new));
        assert_eq!(registry.oldest(adj(500)), None);
    }

    #[test]
    fn claims_are_released_by_connection_not_by_slot() {
        let mut registry = Registry::with_capacity(2);
        let then = ClientId { slot: 1, generation: 1 };
        let now = ClientId { slot: 1, generation: 2 };
        let a = registry.insert(record(40, 0));
        let b = registry.insert(record(41, 0));
        registry.get_mut(a).unwrap().claim = Some(then);
        registry.get_mut(b).unwrap().claim = Some(now);
        registry.release_claims(then);
        assert_eq!(registry.get(a).unwrap().claim, None);
        assert_eq!(registry.get(b).unwrap().claim, Some(now));
        assert_eq!(registry.len(), 2);
    }

    #[test]
    fn retain_removes_the_refused_and_counts_them() {
        let mut registry = Registry::with_capacity(8);
        for pid in 50..60 {
            registry.insert(record(pid, pid % 3));
        }
        assert_eq!(registry.retain(|record| record.pid().get() % 2 == 0), 5);
        let mut left = pids(&registry, registry.oldest_first(adj(0)));
        left.sort_unstable();
        assert_eq!(left, [50, 52, 54, 56, 58]);
    }

    #[test]
    fn a_record_takes_less_than_200_bytes() {
        let indexed = std::mem::size_of::<Entry>() + std::mem::size_of::<(Pid, u32)>();
        // The index is at most 7/8 full and has a control byte a bucket; a vector doubles.
        assert!(indexed <= 136, "{indexed}");
    }
}
