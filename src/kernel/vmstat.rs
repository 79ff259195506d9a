//! `/proc/vmstat`: counters of the whole machine, one `name value` line each.

use super::reader::HeldFile;
use super::scan;
use super::ParseError;
use super::Vmstat;
use std::path::Path;

scan::keyed_lines! {
    struct Counters of "vmstat";
    required {
        nr_free_pages = "nr_free_pages",
        nr_inactive_file = "nr_inactive_file",
        nr_active_file = "nr_active_file",
        pgscan_kswapd = "pgscan_kswapd",
        pgscan_direct = "pgscan_direct",
    }
    optional {
        workingset_refault = "workingset_refault",
        workingset_refault_file = "workingset_refault_file",
        pgscan_direct_throttle = "pgscan_direct_throttle",
        pgrefill = "pgrefill",
    }
}

/// Pages that the whole machine has moved since boot: how much a process can have grown between
/// two readings is bounded by their differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounters {
    /// Allocated: `pgalloc_*`, all zones together.
    pub allocated: u64,
    /// Swapped out: `pswpout`, and from newer kernels `zswpout` and `swpout_zero`.
    pub swapped_out: u64,
    /// In swap and in memory at once, now: `nr_swapcached`. Only such pages can leave memory
    /// without being counted as swapped out. None before Linux 5.12.
    pub swap_cached: Option<u64>,
}

/// Sums what belongs to [`PageCounters`].
#[derive(Clone, Copy, Debug, Default)]
struct PageSums {
    counters: PageCounters,
    any: bool,
}

impl PageSums {
    fn line(&mut self, line: &[u8]) {
        let (key, value) = scan::split_word(line);
        let zone = key.starts_with(b"pgalloc_");
        let out = matches!(key, b"pswpout" | b"zswpout" | b"swpout_zero");
        let cached = key == b"nr_swapcached";
        if !(zone || out || cached) {
            return;
        }
        let number = std::str::from_utf8(value.trim_ascii()).ok();
        let Some(number) = number.and_then(|text| text.parse::<u64>().ok()) else { return };
        let of = &mut self.counters;
        if zone {
            of.allocated = of.allocated.saturating_add(number);
            self.any = true;
        } else if out {
            of.swapped_out = of.swapped_out.saturating_add(number);
        } else {
            of.swap_cached = Some(number);
        }
    }

    /// None without a single zone: every kernel has one.
    fn finish(self) -> Option<PageCounters> {
        self.any.then_some(self.counters)
    }
}

/// `/proc/vmstat`, held open for its [`PageCounters`] alone.
#[derive(Debug)]
pub struct PageCounterFile(HeldFile);

impl PageCounterFile {
    /// Opens it.
    #[must_use]
    pub fn open() -> Self {
        Self(HeldFile::open(
            Path::new("/proc/vmstat"),
            "sizes of processes are asked for anew each time",
        ))
    }

    /// The counters now; None if they cannot be read. Does not allocate.
    pub fn read(&mut self) -> Option<PageCounters> {
        let mut sums = PageSums::default();
        let mut buffer = [0; 4096];
        let read = self.0.read_lines(&mut buffer, |line| {
            sums.line(line);
            Ok(())
        });
        read.ok().and_then(|()| sums.finish())
    }
}

/// Collects the wanted lines.
#[derive(Debug, Default)]
pub(super) struct Parser(Counters<Option<i64>>, PageSums);

impl Parser {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        self.1.line(line);
        self.0.line(line)
    }

    pub(super) fn page_counters(&self) -> Option<PageCounters> {
        self.1.finish()
    }

    pub(super) fn finish(self) -> Result<Vmstat, ParseError> {
        // Linux 5.9 split the one counter of refaults into anonymous and file pages.
        let refault = match (self.0.workingset_refault, self.0.workingset_refault_file) {
            (None, None) => return Err(ParseError::missing("vmstat", "workingset_refault_file")),
            (Some(0) | None, Some(of_files)) => of_files,
            (Some(of_all), _) => of_all,
        };
        let counters = self.0.finish()?;
        Ok(Vmstat {
            nr_free_pages: counters.nr_free_pages,
            nr_inactive_file: counters.nr_inactive_file,
            nr_active_file: counters.nr_active_file,
            refault,
            pgscan_kswapd: counters.pgscan_kswapd,
            pgscan_direct: counters.pgscan_direct,
            pgscan_direct_throttle: counters.pgscan_direct_throttle,
            pgrefill: counters.pgrefill,
        })
    }
}

/// Reads the text of `/proc/vmstat`. Unknown lines are skipped.
///
/// # Errors
///
/// A line that every kernel with PSI prints is missing, or a wanted value is not a number.
/// A counter that read as 0 only once would look like reclaim in the next comparison, so such a
/// file is refused as a whole.
pub fn parse(text: &[u8]) -> Result<Vmstat, ParseError> {
    let mut parser = Parser::default();
    scan::each_line(text, |line| parser.line(line))?;
    parser.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Problem;

    const WITHOUT_REFAULT: &str = "nr_free_pages 1\nnr_inactive_file 2\nnr_active_file 3\n\
        pgscan_kswapd 4\npgscan_direct 5\n";

    fn with(lines: &str) -> Result<Vmstat, ParseError> {
        parse(format!("{WITHOUT_REFAULT}{lines}").as_bytes())
    }

    #[test]
    fn a_name_that_only_begins_like_a_wanted_one_is_another() {
        let vmstat = with("workingset_refault_file 7\npgscan_direct_throttle 8\n").unwrap();
        assert_eq!(vmstat.pgscan_direct, 5);
        assert_eq!(vmstat.pgscan_direct_throttle, 8);
        assert_eq!(vmstat.refault, 7);
    }

    #[test]
    fn refaults_are_read_under_the_name_of_either_kernel() {
        assert_eq!(with("workingset_refault 6\n").unwrap().refault, 6);
        assert_eq!(with("workingset_refault_file 7\n").unwrap().refault, 7);
        assert_eq!(with("workingset_refault 6\nworkingset_refault_file 7\n").unwrap().refault, 6);
        assert_eq!(with("workingset_refault 0\nworkingset_refault_file 7\n").unwrap().refault, 7);
        assert_eq!(with("").unwrap_err().field, "workingset_refault_file");
    }

    #[test]
    fn an_error_names_the_field() {
        let error = with("workingset_refault_file 7\npgrefill 1e3\n").unwrap_err();
        assert_eq!(error, ParseError::malformed("vmstat", "pgrefill"));
        assert_eq!(error.to_string(), "vmstat: no number in line 'pgrefill'");
        let torn = WITHOUT_REFAULT.strip_suffix("5\n").unwrap();
        let error = parse(format!("workingset_refault_file 7\n{torn}").as_bytes()).unwrap_err();
        assert_eq!((error.field, error.problem), ("pgscan_direct", Problem::Missing));
    }

    #[test]
    fn moved_pages_are_summed_over_zones_and_kinds_of_swap() {
        let mut sums = PageSums::default();
        let text = "pgalloc_dma 1\npgalloc_normal 300\npswpout 40\nzswpout 5\nswpout_zero 6\n\
            nr_swapcached 7\npgalloc_movable x\npgallocs 9";
        assert!(sums.finish().is_none());
        text.split('\n').for_each(|line| sums.line(line.as_bytes()));
        let expected = PageCounters { allocated: 301, swapped_out: 51, swap_cached: Some(7) };
        assert_eq!(sums.finish(), Some(expected));
    }

    #[test]
    fn this_kernel_counts_allocations() {
        let mut file = PageCounterFile::open();
        let before = file.read().unwrap();
        let touched = vec![1_u8; 8 << 20];
        assert!(file.read().unwrap().allocated > before.allocated);
        drop(touched);
    }

    #[test]
    fn a_line_without_a_value_matters_only_if_it_is_wanted() {
        assert!(with("workingset_refault_file 7\nnr_unknown\n\n").is_ok());
        assert!(with("workingset_refault_file 7\npgrefill\n").is_err());
    }
}
