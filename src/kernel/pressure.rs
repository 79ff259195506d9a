//! `/proc/pressure/*`: the share of time that tasks stalled, as the kernel averages it.
//!
//! Two lines, `some` and `full`: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. The file of the
//! CPU had no `full` before Linux 5.13.

use super::scan;
use super::ParseError;

const FILE: &str = "pressure";

/// The averages over ten seconds in hundredths of a percent, the kernel's own resolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Averages {
    /// At least one task stalled.
    pub some_centi: i64,
    /// All tasks stalled at once; None if the file has no such line.
    pub full_centi: Option<i64>,
}

/// Stalls on everything the kernel accounts, for the record of a kill: ten-second averages in
/// hundredths of a percent, 0 where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureInfo {
    /// Some tasks on memory.
    pub mem_some: i64,
    /// All tasks on memory.
    pub mem_full: i64,
    /// Some tasks on input and output.
    pub io_some: i64,
    /// All tasks on input and output.
    pub io_full: i64,
    /// Some tasks on the CPU.
    pub cpu_some: i64,
}

/// Collects the two lines.
#[derive(Debug, Default)]
pub(super) struct Parser {
    some: Option<i64>,
    full: Option<i64>,
}

impl Parser {
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        let (key, value) = scan::split_word(line);
        let (field, name) = match key {
            b"some" => (&mut self.some, "some avg10="),
            b"full" => (&mut self.full, "full avg10="),
            _ => return Ok(()),
        };
        *field = avg10_centi(value);
        match field {
            Some(_) => Ok(()),
            None => Err(ParseError::malformed(FILE, name)),
        }
    }

    pub(super) fn finish(self) -> Result<Averages, ParseError> {
        let some_centi = self.some.ok_or(ParseError::missing(FILE, "some avg10="))?;
        Ok(Averages { some_centi, full_centi: self.full })
    }
}

/// `avg10=12.34 ...` as 1234.
fn avg10_centi(value: &[u8]) -> Option<i64> {
    let number = scan::split_word(value).0.strip_prefix(b"avg10=")?;
    let point = number.iter().position(|b| *b == b'.')?;
    let (whole, fraction) = number.split_at_checked(point)?;
    let [b'.', tenths @ b'0'..=b'9', hundredths @ b'0'..=b'9'] = fraction else {
        return None;
    };
    let fraction = scan::decimal(&[*tenths, *hundredths])?;
    scan::decimal(whole)?.checked_mul(100)?.checked_add(fraction)
}

/// Reads the text of a pressure file, the machine's or a cgroup's.
///
/// # Errors
///
/// There is no `some` line, or an average is not a number with two decimals.
pub fn parse(text: &[u8]) -> Result<Averages, ParseError> {
    let mut parser = Parser::default();
    scan::each_line(text, |line| parser.line(line))?;
    parser.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_are_hundredths_of_a_percent() {
        let text = b"some avg10=12.34 avg60=0.11 avg300=0.27 total=8540104\n\
            full avg10=100.00 avg60=0.00 avg300=0.00 total=0\n";
        let expected = Averages { some_centi: 1234, full_centi: Some(10_000) };
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn a_file_without_full_is_an_old_kernels_cpu_file() {
        let averages = parse(b"some avg10=0.05 avg60=0.11 avg300=0.27 total=1\n").unwrap();
        assert_eq!(averages, Averages { some_centi: 5, full_centi: None });
    }

    #[test]
    fn what_the_kernel_never_prints_is_refused() {
        for bad in ["avg10=1", "avg10=1.2", "avg10=1.234", "avg10=.50", "avg10=-1.00", "avg60=1.00"]
        {
            let error = parse(format!("some {bad} avg60=0.00\n").as_bytes()).unwrap_err();
            assert_eq!(error, ParseError::malformed(FILE, "some avg10="), "{bad}");
        }
        assert_eq!(parse(b""), Err(ParseError::missing(FILE, "some avg10=")));
    }
}
