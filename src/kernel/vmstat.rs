//! `/proc/vmstat`: counters of the whole machine, one `name value` line each.

use super::scan;
use super::ParseError;
use super::Vmstat;

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

/// Collects the wanted lines.
#[derive(Debug, Default)]
pub(super) struct Parser(Counters<Option<i64>>);

impl Parser {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        self.0.line(line)
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
    fn a_line_without_a_value_matters_only_if_it_is_wanted() {
        assert!(with("workingset_refault_file 7\nnr_unknown\n\n").is_ok());
        assert!(with("workingset_refault_file 7\npgrefill\n").is_err());
    }
}
