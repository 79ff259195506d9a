//! `/proc/meminfo`: sizes in kilobytes, one `Name: value kB` line each.

use super::scan;
use super::Meminfo;
use super::ParseError;
use crate::units::Kib;
use crate::units::PageSize;

scan::keyed_lines! {
    struct Sizes of "meminfo";
    required {
        total = "MemTotal:",
        free = "MemFree:",
        buffers = "Buffers:",
        cached = "Cached:",
        swap_cached = "SwapCached:",
        active_anon = "Active(anon):",
        inactive_anon = "Inactive(anon):",
        active_file = "Active(file):",
        inactive_file = "Inactive(file):",
        swap_total = "SwapTotal:",
        swap_free = "SwapFree:",
        dirty = "Dirty:",
        shmem = "Shmem:",
    }
    optional {
        unevictable = "Unevictable:",
        sreclaimable = "SReclaimable:",
        sunreclaim = "SUnreclaim:",
        kernel_stack = "KernelStack:",
        page_tables = "PageTables:",
        ion_heap = "ION_heap:",
        ion_heap_pool = "ION_heap_pool:",
        cma_free = "CmaFree:",
    }
}

/// Collects the wanted lines.
#[derive(Debug, Default)]
pub(super) struct Parser(Sizes<Option<i64>>);

impl Parser {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        self.0.line(line)
    }

    pub(super) fn finish(self, page: PageSize) -> Result<Meminfo, ParseError> {
        let sizes = self.0.finish()?;
        let pages = |kib| Kib(kib).to_pages(page);
        Ok(Meminfo {
            total: pages(sizes.total),
            free: pages(sizes.free),
            cached: pages(sizes.cached),
            swap_cached: pages(sizes.swap_cached),
            buffers: pages(sizes.buffers),
            shmem: pages(sizes.shmem),
            unevictable: pages(sizes.unevictable),
            swap_total: pages(sizes.swap_total),
            swap_free: pages(sizes.swap_free),
            active_anon: pages(sizes.active_anon),
            inactive_anon: pages(sizes.inactive_anon),
            active_file: pages(sizes.active_file),
            inactive_file: pages(sizes.inactive_file),
            sreclaimable: pages(sizes.sreclaimable),
            sunreclaim: pages(sizes.sunreclaim),
            kernel_stack: pages(sizes.kernel_stack),
            page_tables: pages(sizes.page_tables),
            ion_heap: pages(sizes.ion_heap),
            ion_heap_pool: pages(sizes.ion_heap_pool),
            cma_free: pages(sizes.cma_free),
            dirty: pages(sizes.dirty),
        })
    }
}

/// Reads the text of `/proc/meminfo`. Unknown lines are skipped.
///
/// # Errors
///
/// A line that the decision depends on and that every kernel prints is missing, or a wanted value
/// is not a number.
pub fn parse(text: &[u8], page: PageSize) -> Result<Meminfo, ParseError> {
    let mut parser = Parser::default();
    scan::each_line(text, |line| parser.line(line))?;
    parser.finish(page)
}
