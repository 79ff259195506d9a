//! What a memory cgroup says that its processes use: `memory.stat`, whose keys differ by version.

use super::memcg::MemcgError;
use super::reader;
use super::reader::ReadError;
use super::scan;
use super::ParseError;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

/// What is read at once of a file.
const PIECE: usize = 4096;

/// A memory cgroup's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Page faults.
    pub pgfault: i64,
    /// Those that waited for a disk.
    pub pgmajfault: i64,
    /// Anonymous memory, bytes.
    pub rss: i64,
    /// File cache, bytes.
    pub cache: i64,
    /// Swapped-out memory, bytes. None if `memory.stat` does not say, as with version 2.
    pub swap: Option<i64>,
}

/// The open files of a group. Reading them opens nothing. Of version 2, and in newer kernels of 1, the
/// kernel takes a page each time to print into.
#[derive(Debug)]
pub struct UsageFiles {
    stat: OwnedFd,
    swap: Option<OwnedFd>,
    parser: Parser,
}

impl UsageFiles {
    pub(super) const STAT: &'static str = "memory.stat";
    pub(super) const SWAP: &'static str = "memory.swap.current";

    pub(super) const fn v1(stat: OwnedFd) -> Self {
        Self { stat, swap: None, parser: Parser::v1() }
    }

    pub(super) const fn v2(stat: OwnedFd, swap: Option<OwnedFd>) -> Self {
        Self { stat, swap, parser: Parser::v2() }
    }

    /// What the group has used until now.
    ///
    /// # Errors
    ///
    /// The group is gone, or its file does not say what it should.
    pub fn read(&self) -> Result<GroupUsage, MemcgError> {
        let mut parser = self.parser.clone();
        read(&self.stat, Self::STAT, |line| parser.line(line))?;
        let mut usage = parser.finish().map_err(MemcgError::Text)?;
        if let (None, Some(swap)) = (usage.swap, &self.swap) {
            let _ = read(swap, Self::SWAP, |line| {
                usage.swap = scan::decimal(line);
                Ok(())
            });
        }
        Ok(usage)
    }
}

fn read(
    file: &OwnedFd,
    name: &'static str,
    line: impl FnMut(&[u8]) -> Result<(), ParseError>,
) -> Result<(), MemcgError> {
    reader::read_lines(file.as_fd(), &mut [0; PIECE], line).map_err(|error| match error {
        ReadError::Os(errno) => MemcgError::File(name, errno),
        ReadError::Parse(error) => MemcgError::Text(error),
    })
}

/// Collects the wanted lines.
#[derive(Clone, Debug)]
struct Parser {
    keys: &'static [&'static str; 5],
    values: [Option<i64>; 5],
}

impl Parser {
    /// With its groups below, as AOSP's daemon reads it.
    const fn v1() -> Self {
        Self::of(&["total_pgfault", "total_pgmajfault", "total_rss", "total_cache", "total_swap"])
    }

    /// Counters of version 2 always are with the groups below, and swap has a file of its own. (A
    /// key that is no word of the file finds nothing.)
    const fn v2() -> Self {
        Self::of(&["pgfault", "pgmajfault", "anon", "file", ""])
    }

    const fn of(keys: &'static [&'static str; 5]) -> Self {
        Self { keys, values: [None; 5] }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ParseError> {
        let (key, value) = scan::split_word(line);
        for (wanted, slot) in self.keys.iter().zip(&mut self.values) {
            if key == wanted.as_bytes() {
                let number = scan::first_decimal(value);
                *slot = Some(number.ok_or(ParseError::malformed("memory.stat", wanted))?);
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<GroupUsage, ParseError> {
        let [pgfault, pgmajfault, rss, cache, swap] = self.values;
        let value = |index: usize, found: Option<i64>| {
            let key = self.keys.get(index).copied().unwrap_or_default();
            found.ok_or(ParseError::missing("memory.stat", key))
        };
        Ok(GroupUsage {
            pgfault: value(0, pgfault)?,
            pgmajfault: value(1, pgmajfault)?,
            rss: value(2, rss)?,
            cache: value(3, cache)?,
            swap,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Excerpts of a Linux 6.18 host's version 1, and of a 6.12 host's version 2.
    const V1: &str = "cache 1351680\nrss 405504\ntotal_cache 11510231040\ntotal_rss 2088091648\n\
                      total_swap 4096\ntotal_pgpgin 340904011\ntotal_pgfault 321114844\n\
                      total_pgmajfault 141350\ntotal_inactive_anon 2071216128\n";
    const V2: &str = "anon 24576\nfile 155648\nkernel 0\nswapcached 0\nfile_mapped 135168\n\
                      pgfault 1234\npgmajfault 5\nworkingset_refault_anon 0\n";

    fn read(mut parser: Parser, text: &str) -> Result<GroupUsage, ParseError> {
        text.lines().try_for_each(|line| parser.line(line.as_bytes()))?;
        parser.finish()
    }

    #[test]
    fn version_1_is_read_by_its_totals() {
        let usage = GroupUsage {
            pgfault: 321_114_844,
            pgmajfault: 141_350,
            rss: 2_088_091_648,
            cache: 11_510_231_040,
            swap: Some(4096),
        };
        assert_eq!(read(Parser::v1(), V1), Ok(usage));
    }

    #[test]
    fn version_2_is_read_by_its_own_keys() {
        let usage =
            GroupUsage { pgfault: 1234, pgmajfault: 5, rss: 24_576, cache: 155_648, swap: None };
        assert_eq!(read(Parser::v2(), V2), Ok(usage));
    }

    #[test]
    fn a_file_of_the_other_version_or_a_torn_one_is_refused_as_a_whole() {
        assert_eq!(
            read(Parser::v1(), V2),
            Err(ParseError::missing("memory.stat", "total_pgfault"))
        );
        assert_eq!(read(Parser::v2(), V1), Err(ParseError::missing("memory.stat", "pgfault")));
        let torn = "pgfault 1\npgmajfault x\n";
        let error = ParseError::malformed("memory.stat", "pgmajfault");
        assert_eq!(read(Parser::v2(), torn), Err(error));
    }
}
