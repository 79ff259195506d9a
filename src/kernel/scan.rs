//! Scanning the kernel's text files as bytes: lines, keys, decimals. Nothing here allocates.

use std::fmt;

/// A line that the daemon needs was not there, or did not hold what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The file's name, without directory.
    pub file: &'static str,
    /// The line's key as the kernel prints it.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It is there, but its value is not a number or does not fit 63 bits.
    Malformed,
}

impl ParseError {
    pub(super) const fn missing(file: &'static str, field: &'static str) -> Self {
        Self { file, field, problem: Problem::Missing }
    }

    pub(super) const fn malformed(file: &'static str, field: &'static str) -> Self {
        Self { file, field, problem: Problem::Malformed }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::Missing => write!(f, "{}: no line '{}'", self.file, self.field),
            Problem::Malformed => write!(f, "{}: no number in line '{}'", self.file, self.field),
        }
    }
}

impl std::error::Error for ParseError {}

/// Hands every complete line of `bytes`, without its newline, to `line`, and says how many bytes
/// those lines were.
///
/// A last line without newline is not handed on: it is torn, and half a number is a wrong number.
pub(super) fn each_line<E>(
    bytes: &[u8],
    mut line: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<usize, E> {
    let mut rest = bytes;
    while let Some((head, tail)) = cut_line(rest) {
        line(head)?;
        rest = tail;
    }
    Ok(bytes.len().saturating_sub(rest.len()))
}

/// The first line of `bytes`, and what follows its newline.
fn cut_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = find_newline(bytes)?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

/// Position of the first newline, looking at eight bytes at a time: `/proc/zoneinfo` is mostly
/// lines nobody wants, and finding their ends is what reading it costs.
fn find_newline(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let (words, tail) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let zero_where_newline = u64::from_le_bytes(*word) ^ (ONES * 0x0a);
        let found = zero_where_newline.wrapping_sub(ONES) & !zero_where_newline & HIGHS;
        if found != 0 {
            // Of several marks only the lowest is sure, and that is the first newline.
            let byte = usize::try_from(found.trailing_zeros() / 8).ok()?;
            return i.checked_mul(8)?.checked_add(byte);
        }
    }
    let in_tail = tail.iter().position(|b| *b == b'\n')?;
    words.len().checked_mul(8)?.checked_add(in_tail)
}

const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` from its first byte that is no space or tab.
pub(super) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|b| !is_blank(*b)).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

/// The first word of a line, and what follows it and its blanks.
pub(super) fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let end = line.iter().position(|b| is_blank(*b)).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    (word, skip_blanks(rest))
}

/// The number that these bytes are, all of them; None if they are anything else or do not fit.
pub(super) fn decimal(bytes: &[u8]) -> Option<i64> {
    let mut digits = bytes.iter().map(|b| b.wrapping_sub(b'0'));
    let first = digits.next().filter(|d| *d <= 9)?;
    digits.try_fold(i64::from(first), |value, digit| {
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

/// The number at the start of a line's value; what follows it after a blank (`kB`) is ignored.
pub(super) fn first_decimal(value: &[u8]) -> Option<i64> {
    decimal(split_word(value).0)
}

/// Declares the wanted lines of a file of `key value` lines: a struct with one member per key.
///
/// `$name<Option<i64>>` collects lines in any order and skips those it does not know;
/// `finish` makes it `$name<i64>`, failing if a required line never came, with 0 for an optional one.
macro_rules! keyed_lines {
    (
        $(#[$meta:meta])*
        struct $name:ident of $file:literal;
        required { $($need:ident = $need_key:literal,)+ }
        optional { $($may:ident = $may_key:literal,)* }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default)]
        struct $name<T> {
            $($need: T,)+
            $($may: T,)*
        }

        impl $name<Option<i64>> {
            fn line(&mut self, line: &[u8]) -> Result<(), $crate::kernel::ParseError> {
                let (key, value) = $crate::kernel::scan::split_word(line);
                let (field, name) = match key {
                    $(_ if key == $need_key.as_bytes() => (&mut self.$need, $need_key),)+
                    $(_ if key == $may_key.as_bytes() => (&mut self.$may, $may_key),)*
                    _ => return Ok(()),
                };
                *field = $crate::kernel::scan::first_decimal(value);
                match field {
                    Some(_) => Ok(()),
                    None => Err($crate::kernel::ParseError::malformed($file, name)),
                }
            }

            fn finish(self) -> Result<$name<i64>, $crate::kernel::ParseError> {
                Ok($name {
                    $($need: self.$need.ok_or(
                        $crate::kernel::ParseError::missing($file, $need_key),
                    )?,)+
                    $($may: self.$may.unwrap_or(0),)*
                })
            }
        }
    };
}
pub(super) use keyed_lines;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(bytes: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut lines = Vec::new();
        let used = each_line(bytes, |line| {
            lines.push(line.to_vec());
            Ok::<(), ()>(())
        });
        (lines, used.unwrap())
    }

    #[test]
    fn a_newline_is_found_at_every_distance() {
        for len in 0..40 {
            for at in 0..len {
                let mut bytes = vec![b'x'; len];
                bytes[at] = b'\n';
                assert_eq!(find_newline(&bytes), Some(at));
                // The byte after a newline, one bit away from it, must not move the find.
                if let Some(next) = bytes.get_mut(at + 1) {
                    *next = b'\n' + 1;
                }
                assert_eq!(find_newline(&bytes), Some(at));
            }
            assert_eq!(find_newline(&vec![0x8a; len]), None);
        }
    }

    #[test]
    fn a_torn_last_line_is_left_over() {
        assert_eq!(lines_of(b"one\ntwo\nthr"), (vec![b"one".to_vec(), b"two".to_vec()], 8));
        assert_eq!(lines_of(b"torn"), (vec![], 0));
        assert_eq!(lines_of(b"\n"), (vec![vec![]], 1));
    }

    #[test]
    fn only_a_whole_number_that_fits_is_a_decimal() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1x", b"x1", b" 1", b"9223372036854775808"] {
            assert_eq!(decimal(bad), None);
        }
        assert_eq!(first_decimal(b"12 kB"), Some(12));
        assert_eq!(first_decimal(b"12kB"), None);
    }
}
