//! The older way to decide: levels of free memory and file cache that a client sends.

use crate::codec::coded_struct;
use crate::kernel::Meminfo;
use crate::kernel::Watermarks;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Pages;

/// The levels of LMK_TARGET: with less memory than a level's pages left, processes from its adj
/// on may be killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinfreeTable {
    levels: [Option<(Pages, OomScoreAdj)>; Self::MAX_LEVELS],
}

coded_struct!(MinfreeTable { levels });

impl MinfreeTable {
    /// As many levels as LMK_TARGET carries.
    pub const MAX_LEVELS: usize = 6;

    /// A table of (pages, adj) pairs in the order sent. What follows the sixth is left out; an adj
    /// outside its range counts as the nearer end, and one below 0 as 0.
    #[must_use]
    pub fn from_pairs(pairs: impl IntoIterator<Item = (i32, i32)>) -> Self {
        let mut table = Self::default();
        for (slot, (pages, adj)) in table.levels.iter_mut().zip(pairs) {
            let adj = OomScoreAdj::saturating(i64::from(adj)).max(OomScoreAdj::FOREGROUND);
            *slot = Some((Pages(i64::from(pages)), adj));
        }
        table
    }

    /// The levels, in the order sent.
    pub fn levels(&self) -> impl Iterator<Item = (Pages, OomScoreAdj)> + '_ {
        self.levels.iter().flatten().copied()
    }

    /// The adj of the first level that both free memory and file cache have fallen below.
    #[must_use]
    pub fn min_adj(&self, meminfo: &Meminfo, watermarks: &Watermarks) -> Option<OomScoreAdj> {
        let free = Self::other_free(meminfo, watermarks);
        let file = Self::other_file(meminfo);
        self.levels().find(|(pages, _)| free < *pages && file < *pages).map(|(_, adj)| adj)
    }

    /// Free pages above what the kernel keeps for itself.
    #[must_use]
    pub fn other_free(meminfo: &Meminfo, watermarks: &Watermarks) -> Pages {
        meminfo.free - watermarks.total_reserve
    }

    /// File pages that can be dropped.
    #[must_use]
    pub fn other_file(meminfo: &Meminfo) -> Pages {
        let file = meminfo.cached + meminfo.swap_cached + meminfo.buffers;
        let bound = meminfo.shmem + meminfo.unevictable + meminfo.swap_cached;
        (file - bound).max(Pages::ZERO)
    }
}
