//! Reading how heavy a process is, and how many descriptors that may take.

use crate::kernel::process::ProcDir;
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
    const SPARE: u64 = 112;
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

/// Resident and swapped pages of a process as `status` has them, also of one whose leader has left.
pub(super) fn with_swap(proc: &ProcDir, pid: i32, page: PageSize) -> Option<(Pages, Pages)> {
    let status = proc.status(pid).ok()?;
    let (rss, swap) = proc.memory(pid, &status).ok()?;
    Some((rss.to_pages(page), swap.to_pages(page)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
