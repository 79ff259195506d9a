//! `/proc/zoneinfo`: the watermarks of every zone of every node.
//!
//! A zone's text begins with `Node N, zone NAME`. Its pages are lines of name and value, then comes
//! `protection: (n, n, ...)`, what the zone withholds from allocations that could go to each other
//! zone. Per-cpu lists and, in a node's first zone, statistics of the node make up the rest.

use super::scan;
use super::ParseError;
use super::Watermarks;
use crate::units::Pages;

const FILE: &str = "zoneinfo";

scan::keyed_lines! {
    /// The wanted lines of one zone.
    struct Zone of "zoneinfo";
    required {
        min = "min",
        low = "low",
        high = "high",
        present = "present",
    }
    optional {
        boost = "boost",
    }
}

/// Collects zones. Any number of nodes and zones, in any order.
#[derive(Debug, Default)]
pub(super) struct Parser {
    sum: Watermarks,
    boost: Pages,
    /// A zone has not said by how much it is boosted.
    boost_untold: bool,
    zones: u32,
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// Before the first zone, or past all that is wanted of one.
    #[default]
    Outside,
    /// Inside a zone, its `protection` not yet seen.
    Inside(Zone<Option<i64>>),
}

impl Parser {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        if line.starts_with(b"Node ") {
            self.end_of_zone()?;
            self.state = State::Inside(Zone::default());
            return Ok(());
        }
        let State::Inside(zone) = &mut self.state else {
            return Ok(());
        };
        let line = scan::skip_blanks(line);
        match line.strip_prefix(b"protection:") {
            None => zone.line(line),
            Some(list) => {
                let protection = highest(list).ok_or(ParseError::malformed(FILE, "protection:"))?;
                let told = zone.boost.is_some();
                let zone = zone.finish()?;
                if zone.present != 0 {
                    self.boost += Pages(zone.boost);
                    self.boost_untold |= !told;
                }
                self.sum.add_zone(zone.present, [zone.min, zone.low, zone.high], protection);
                self.zones = self.zones.saturating_add(1);
                self.state = State::Outside;
                Ok(())
            }
        }
    }

    /// Every kernel closes a zone's pages with `protection`; without it the file is torn.
    fn end_of_zone(&self) -> Result<(), ParseError> {
        match self.state {
            State::Outside => Ok(()),
            State::Inside(_) => Err(ParseError::missing(FILE, "protection:")),
        }
    }

    pub(super) fn finish(self) -> Result<(Watermarks, Option<Pages>), ParseError> {
        self.end_of_zone()?;
        match self.zones {
            0 => Err(ParseError::missing(FILE, "Node")),
            _ => Ok((self.sum, (!self.boost_untold).then_some(self.boost))),
        }
    }
}

/// The highest of `(n, n, ...)`; None if it is anything else.
fn highest(list: &[u8]) -> Option<i64> {
    let list = scan::skip_blanks(list).strip_prefix(b"(")?.strip_suffix(b")")?;
    list.split(|b| *b == b',')
        .try_fold(0, |most, entry| Some(scan::decimal(scan::skip_blanks(entry))?.max(most)))
}

/// Reads the text of `/proc/zoneinfo`: the watermarks, and how many pages of each of them are a
/// boost, summed over the populated zones; None if the kernel does not print that. Unknown lines are
/// skipped.
///
/// # Errors
///
/// There is no zone; one has no `min`, `low`, `high`, `present` or `protection`; or one of these
/// is not a number.
pub fn parse(text: &[u8]) -> Result<(Watermarks, Option<Pages>), ParseError> {
    let mut parser = Parser::default();
    scan::each_line(text, |line| parser.line(line))?;
    parser.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Problem;

    fn zone(present: i64) -> String {
        format!(
            "Node 0, zone Normal\n  pages free 9\n        min 10\n        low 20\n        \
             high 30\n        present {present}\n        protection: (0, 5, 3)\n  pagesets\n    \
             cpu: 0\n              high: 7\n              low 99\n"
        )
    }

    #[test]
    fn a_zone_counts_with_its_highest_protection() {
        let (marks, _) = parse(zone(100).as_bytes()).unwrap();
        let expected = [Pages(15), Pages(25), Pages(35), Pages(35)];
        assert_eq!([marks.min, marks.low, marks.high, marks.total_reserve], expected);
    }

    #[test]
    fn a_zone_without_pages_counts_only_in_the_reserve() {
        let (marks, _) = parse(format!("{}{}", zone(100), zone(0)).as_bytes()).unwrap();
        assert_eq!((marks.high, marks.total_reserve), (Pages(35), Pages(70)));
    }

    #[test]
    fn any_number_of_nodes_is_summed() {
        let (marks, _) = parse(zone(1).repeat(1000).as_bytes()).unwrap();
        assert_eq!(marks.min, Pages(15_000));
    }

    #[test]
    fn a_boost_is_summed_over_populated_zones_and_unknown_if_one_of_them_does_not_tell() {
        let boosted =
            |present| zone(present).replacen("        min", "        boost 4\n        min", 1);
        let boost = |text: String| parse(text.as_bytes()).unwrap().1;
        assert_eq!(boost(boosted(1).repeat(2) + &boosted(0) + &zone(0)), Some(Pages(8)));
        assert_eq!(boost(boosted(1) + &zone(1)), None);
        let error = parse(boosted(1).replace("boost 4", "boost x").as_bytes()).unwrap_err();
        assert_eq!((error.field, error.problem), ("boost", Problem::Malformed));
    }

    #[test]
    fn an_incomplete_zone_is_an_error_that_names_the_line() {
        let field = |text: &str| parse(text.as_bytes()).unwrap_err().field;
        for name in ["min", "low", "high", "present"] {
            let text = zone(1).replacen(&format!("        {name} "), "        other ", 1);
            assert_eq!(field(&text), name);
        }
        let whole = zone(1);
        let torn = whole.get(..whole.find("        protection").unwrap()).unwrap();
        assert_eq!(field(torn), "protection:");
        assert_eq!(field(&format!("{torn}{}", zone(1))), "protection:");
        assert_eq!(field(""), "Node");
    }

    #[test]
    fn a_malformed_protection_is_an_error() {
        for list in ["()", "(", "(1", "1, 2", "(1, x)", "(1, -2)", "(1,, 2)"] {
            let error = parse(zone(1).replace("(0, 5, 3)", list).as_bytes()).unwrap_err();
            assert_eq!((error.field, error.problem), ("protection:", Problem::Malformed));
        }
    }

    #[test]
    fn sums_saturate() {
        let text = zone(1).replace("high 30", "high 9223372036854775807");
        let (marks, _) = parse(text.repeat(3).as_bytes()).unwrap();
        assert_eq!(marks.high, Pages(i64::MAX));
    }
}
