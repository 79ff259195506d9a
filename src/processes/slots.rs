//! One list a value of `oom_score_adj`, and a bitmap of those that are not empty.

use crate::oom_score_adj::OomScoreAdj;

/// No record.
pub(super) const NIL: u32 = u32::MAX;

/// The ends of a list whose links are in the records.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// Most recently registered.
    pub head: u32,
    /// Least recently registered.
    pub tail: u32,
    pub len: u32,
}

impl List {
    const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };
}

const WORDS: usize = OomScoreAdj::COUNT.div_ceil(64);

/// The 2001 lists: 24 kB, the same for any number of records.
#[derive(Debug)]
pub(super) struct Slots {
    lists: Box<[List; OomScoreAdj::COUNT]>,
    /// Bit `slot % 64` of word `slot / 64`: that list is not empty.
    used: [u64; WORDS],
}

impl Slots {
    pub fn new() -> Self {
        Self { lists: Box::new([List::EMPTY; OomScoreAdj::COUNT]), used: [0; WORDS] }
    }

    pub fn list(&self, adj: OomScoreAdj) -> &List {
        &self.lists[adj.slot()]
    }

    /// Changes one list, and the bitmap with it.
    pub fn update(&mut self, adj: OomScoreAdj, change: impl FnOnce(&mut List)) {
        let slot = adj.slot();
        let list = &mut self.lists[slot];
        change(list);
        let bit = 1 << (slot % 64);
        if list.len == 0 {
            self.used[slot / 64] &= !bit;
        } else {
            self.used[slot / 64] |= bit;
        }
    }

    /// The highest adj within `min..=max` whose list is not empty. Looks at 32 words at most.
    pub fn highest(&self, max: OomScoreAdj, min: OomScoreAdj) -> Option<OomScoreAdj> {
        let top = max.slot();
        // The words from the one of `max` down; in that one, only bits up to `max`.
        let mut mask = u64::MAX >> (63 - top % 64);
        for word in (0..=top / 64).rev() {
            let bits = self.used[word] & mask;
            if let Some(bit) = bits.checked_ilog2() {
                let slot = word * 64 + usize::try_from(bit).unwrap_or(0);
                return OomScoreAdj::from_slot(slot).filter(|&adj| adj >= min);
            }
            mask = u64::MAX;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adj(value: i32) -> OomScoreAdj {
        OomScoreAdj::new(value).unwrap()
    }

    fn with(values: &[i32]) -> Slots {
        let mut slots = Slots::new();
        for &value in values {
            slots.update(adj(value), |list| list.len = 1);
        }
        slots
    }

    #[test]
    fn the_highest_used_slot_is_found_between_both_ends_included() {
        let slots = with(&[-1000, -937, -936, 0, 199, 200, 1000]);
        let highest = |max, min| slots.highest(adj(max), adj(min)).map(OomScoreAdj::get);
        assert_eq!(highest(1000, 0), Some(1000));
        assert_eq!(highest(999, 0), Some(200));
        assert_eq!(highest(199, 199), Some(199));
        assert_eq!(highest(198, 1), None);
        assert_eq!(highest(198, 0), Some(0));
        assert_eq!(highest(-1, -1000), Some(-936));
        assert_eq!(highest(-937, -1000), Some(-937));
        assert_eq!(highest(-938, -1000), Some(-1000));
        assert_eq!(Slots::new().highest(adj(1000), adj(-1000)), None);
    }

    #[test]
    fn every_slot_is_found_alone() {
        for slot in 0..OomScoreAdj::COUNT {
            let value = OomScoreAdj::from_slot(slot).unwrap();
            let slots = with(&[value.get()]);
            assert_eq!(slots.highest(OomScoreAdj::MAX, OomScoreAdj::MIN), Some(value));
            assert_eq!(slots.highest(value, value), Some(value));
        }
    }
}
