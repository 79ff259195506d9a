//! How heavy a process is, for as few reads as the choice needs.
//!
//! A size is what is resident plus what is swapped out. `statm` tells the first in a microsecond
//! through a held descriptor; the second stands only in `status`, which takes fifteen, so it is
//! read only of a process that could still win: nobody has more in swap than all have together.
//!
//! A size measured earlier rules a process out as long as it could not have grown past the best
//! one: memory that a process gained since must have been allocated since, so the pages that the
//! whole machine has allocated in between (`pgalloc_*` of `/proc/vmstat`) bound its growth. What
//! that misses, the mapping of file pages that were in memory already, no kill would give back.

use super::record::KnownSize;
use super::Record;
use super::RecordId;
use super::Registry;
use crate::kernel::process::ProcDir;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Kib;
use crate::units::PageSize;
use crate::units::Pages;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::os::fd::OwnedFd;

/// How many `statm` files may be held open: a quarter of the descriptors this process may have,
/// and no more than one for each 256 pages of memory, since the kernel keeps a page for each.
#[must_use]
pub fn statm_budget(descriptors: u64, memory: Pages) -> usize {
    let pages = u64::try_from(memory.get()).unwrap_or(0) / 256;
    usize::try_from((descriptors / 4).min(pages)).unwrap_or(usize::MAX)
}

/// Below this number a descriptor may stay with a registered process; those from it on are for
/// clients, for victims, and for the files that are opened on the way to a kill.
#[must_use]
pub fn first_spare_descriptor(descriptors: u64) -> i32 {
    const SPARE: u64 = 96;
    let spare = SPARE.min(descriptors.div_ceil(2));
    i32::try_from(descriptors.saturating_sub(spare)).unwrap_or(i32::MAX)
}

/// All memory of this machine; 0 if it cannot be read.
pub(super) fn memory(page: PageSize) -> Pages {
    // The first line tells it.
    let mut buffer = [0; 64];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let read = rustix::fs::open("/proc/meminfo", flags, Mode::empty())
        .and_then(|meminfo| rustix::io::read(meminfo, &mut buffer))
        .unwrap_or(0);
    let text = std::str::from_utf8(buffer.get(..read).unwrap_or(&[])).unwrap_or("");
    let total = text.lines().next().and_then(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse().ok());
    kib.map(Kib).unwrap_or_default().to_pages(page)
}

/// What all comparisons of one search have in common.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scale {
    pub page: PageSizeOrSmall,
    /// All that is in swap.
    pub swap_used: Pages,
    /// Pages ever allocated, if known.
    pub allocated: Option<u64>,
    /// The number of the search.
    pub search: u32,
}

/// The page size; 4 KiB until told.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSizeOrSmall(pub PageSize);

impl Default for PageSizeOrSmall {
    fn default() -> Self {
        Self(PageSize::SMALL)
    }
}

impl Scale {
    /// What a record's size cannot exceed, if anything is known of it.
    fn bound(&self, record: &Record) -> Option<KnownSize> {
        let known = record.size?;
        if known.search == self.search {
            return Some(known);
        }
        let grown = self.allocated?.saturating_sub(known.allocated?);
        let grown = Pages(i64::try_from(grown).unwrap_or(i64::MAX));
        Some(KnownSize { pages: known.pages + grown, exact: false, ..known })
    }

    /// Keeps what has just been learnt of a record's size.
    fn note(&self, registry: &mut Registry, id: RecordId, pages: Pages, exact: bool) {
        if let Some(record) = registry.get_mut(id) {
            let (allocated, search) = (self.allocated, self.search);
            record.size = Some(KnownSize { pages, exact, allocated, search });
        }
    }

    /// Resident and swapped pages of a process as `status` has them.
    pub fn with_swap(&self, proc: &ProcDir, pid: i32) -> Option<Pages> {
        let status = proc.status(pid).ok()?;
        let (rss, swap) = proc.memory(pid, &status)?;
        Some((rss + swap).to_pages(self.page.0))
    }
}

/// Resident pages of a process, also of one whose leader has left; 0 if it has none or is gone.
pub(super) fn resident(proc: &ProcDir, pid: i32, held: Option<&OwnedFd>) -> Pages {
    let rss = held.map_or_else(|| proc.rss(pid), ProcDir::held_rss);
    match rss {
        Ok(Pages::ZERO) => {
            let mut found = Pages::ZERO;
            let _ = proc.threads(pid, |tid| {
                found = proc.thread_rss(pid, tid).unwrap_or_default();
                found == Pages::ZERO
            });
            found
        }
        Ok(rss) => rss,
        Err(_) => Pages::ZERO,
    }
}

/// The heaviest at `adj` that this search has not yielded yet. One that is gone or has no memory
/// counts as empty and is yielded last, so that the caller notices.
pub(super) fn heaviest(
    registry: &mut Registry,
    proc: &ProcDir,
    adj: OomScoreAdj,
    scale: &Scale,
) -> Option<(RecordId, Pages)> {
    let mut next = registry.oldest(adj);
    let mut start: Option<(RecordId, Pages)> = None;
    let mut untried = None;
    let mut several = false;
    while let Some(id) = next {
        next = registry.newer(id);
        let Some(record) = registry.get(id).filter(|record| record.tried != scale.search) else {
            continue;
        };
        several |= untried.is_some();
        untried = Some(id);
        let pages = scale.bound(record).map_or(Pages::ZERO, |known| known.pages);
        if start.is_none_or(|(_, most)| pages >= most) {
            start = Some((id, pages));
        }
    }
    let (start, _) = start?;
    if !several {
        // Nothing to compare it with.
        let known = registry.get(start).and_then(|record| scale.bound(record));
        return Some((start, known.map_or(Pages::ZERO, |known| known.pages)));
    }
    // First the one that was heaviest by what is known: it rules out most of the others.
    let mut best = (start, exact_size(registry, proc, start, scale));
    let mut undecided = false;
    let mut next = registry.oldest(adj);
    while let Some(id) = next {
        next = registry.newer(id);
        let Some(bound) = may_exceed(registry, id, scale, best.1) else { continue };
        if bound.is_some_and(|known| known.search == scale.search) {
            // Measured by this very search, when an earlier candidate was chosen.
            if bound.is_some_and(|known| known.exact) {
                best = (id, bound.map_or(Pages::ZERO, |known| known.pages));
            } else {
                undecided = true;
            }
            continue;
        }
        let Some(record) = registry.get(id) else { continue };
        let rss = resident(proc, record.pid().get(), record.statm.as_ref());
        let most = rss + scale.swap_used;
        let most = bound.map_or(most, |known| most.min(known.pages.max(rss)));
        let exact = scale.swap_used == Pages::ZERO;
        scale.note(registry, id, most, exact);
        if most > best.1 {
            if exact {
                best = (id, most);
            } else {
                undecided = true;
            }
        }
    }
    if !undecided {
        return Some(best);
    }
    let mut next = registry.oldest(adj);
    while let Some(id) = next {
        next = registry.newer(id);
        if may_exceed(registry, id, scale, best.1).is_some() {
            let size = exact_size(registry, proc, id, scale);
            if size > best.1 {
                best = (id, size);
            }
        }
    }
    Some(best)
}

/// What is known of a record that may be heavier than `best`; None if it is ruled out.
fn may_exceed(
    registry: &Registry,
    id: RecordId,
    scale: &Scale,
    best: Pages,
) -> Option<Option<KnownSize>> {
    let record = registry.get(id).filter(|record| record.tried != scale.search)?;
    let bound = scale.bound(record);
    bound.is_none_or(|known| known.pages > best).then_some(bound)
}

fn exact_size(registry: &mut Registry, proc: &ProcDir, id: RecordId, scale: &Scale) -> Pages {
    let Some(record) = registry.get(id) else { return Pages::ZERO };
    if let Some(known) = record.size.filter(|known| known.exact && known.search == scale.search) {
        return known.pages;
    }
    let pid = record.pid().get();
    let size = if scale.swap_used == Pages::ZERO {
        resident(proc, pid, record.statm.as_ref())
    } else {
        scale.with_swap(proc, pid).unwrap_or_default()
    };
    scale.note(registry, id, size, true);
    size
}

/// The counter of allocated pages in `/proc/vmstat`.
#[derive(Debug)]
pub(super) struct Allocations {
    vmstat: Option<OwnedFd>,
}

impl Allocations {
    pub fn open() -> Self {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Self { vmstat: rustix::fs::open("/proc/vmstat", flags, Mode::empty()).ok() }
    }

    /// Pages allocated since boot, all zones together.
    pub fn read(&self) -> Option<u64> {
        let mut buffer = [0; 16384];
        let read = rustix::io::pread(self.vmstat.as_ref()?, &mut buffer[..], 0).ok()?;
        allocated_pages(buffer.get(..read)?)
    }
}

fn allocated_pages(vmstat: &[u8]) -> Option<u64> {
    let mut sum: Option<u64> = None;
    for line in vmstat.split_inclusive(|byte| *byte == b'\n') {
        let Some(rest) = line.strip_prefix(b"pgalloc_") else { continue };
        // A line without its end is torn.
        let rest = std::str::from_utf8(rest.strip_suffix(b"\n")?).ok()?;
        let pages: u64 = rest.split_once(' ')?.1.parse().ok()?;
        sum = Some(sum.unwrap_or(0).saturating_add(pages));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocated_pages_are_summed_over_the_zones() {
        let text = b"nr_free_pages 7\npgalloc_dma 1\npgalloc_dma32 20\npgalloc_normal 300\nx 4\n";
        assert_eq!(allocated_pages(text), Some(321));
        assert_eq!(allocated_pages(b"nr_free_pages 7\n"), None);
        assert_eq!(allocated_pages(b"pgalloc_dma 1\npgalloc_normal 30"), None);
    }

    #[test]
    fn this_kernel_counts_allocations() {
        let allocations = Allocations::open();
        let before = allocations.read().unwrap();
        let touched = vec![1_u8; 8 << 20];
        assert!(allocations.read().unwrap() > before);
        drop(touched);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(memory(PageSize::SMALL) > Pages(1 << 12));
    }

    #[test]
    fn held_files_are_bounded_by_descriptors_and_by_memory() {
        assert_eq!(statm_budget(20_000, Pages(1 << 22)), 5000);
        assert_eq!(statm_budget(1 << 20, Pages(1 << 20)), 4096);
        assert_eq!(statm_budget(1024, Pages(-1)), 0);
    }
}
