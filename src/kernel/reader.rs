//! Reading the kernel's files again and again without opening them, without allocating, and
//! whatever their size.

use super::scan;
use super::ParseError;
use rustix::fd::AsFd;
use rustix::fd::BorrowedFd;
use rustix::fd::OwnedFd;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Why a file gave no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The kernel refused to open or read it.
    Os(Errno),
    /// Its text was not what it should be.
    Parse(ParseError),
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        Self::Os(errno)
    }
}

impl From<ParseError> for ReadError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Os(errno) => errno.fmt(f),
            Self::Parse(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a file from its start to its end, through `buffer`, and hands every complete line to
/// `line`. A line longer than the buffer is skipped.
///
/// The buffer bounds neither the file nor the number of lines: what has been handed on makes room
/// for what follows. The kernel formats these files in pieces anyway, so reading them in pieces
/// loses no consistency that a larger buffer would have had.
pub(super) fn read_lines(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    mut line: impl FnMut(&[u8]) -> Result<(), ParseError>,
) -> Result<(), ReadError> {
    let mut offset: u64 = 0;
    let mut kept = 0;
    let mut tail_of_long_line = false;
    loop {
        let room = buffer.get_mut(kept..).unwrap_or_default();
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(fd, &mut *room, offset))?;
        if read == 0 {
            return Ok(());
        }
        offset = offset.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        let end = kept.saturating_add(read).min(buffer.len());
        let used = scan::each_line(buffer.get(..end).unwrap_or_default(), |text| {
            if std::mem::take(&mut tail_of_long_line) {
                return Ok(());
            }
            line(text)
        })?;
        buffer.copy_within(used..end, 0);
        kept = end.saturating_sub(used);
        if kept == buffer.len() {
            tail_of_long_line = true;
            kept = 0;
        }
    }
}

/// A file of /proc, held open: opened once and read from offset 0 each time, opened again only
/// after an error.
#[derive(Debug)]
pub(super) struct HeldFile {
    path: CString,
    fd: Option<OwnedFd>,
}

impl HeldFile {
    /// Opens the file, or remembers to try at the next read. Logs one line if it cannot, that ends
    /// with `without_it`: what the daemon then does.
    pub(super) fn open(path: &Path, without_it: &str) -> Self {
        // A path with a NUL cannot be opened, and neither can the empty one.
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let fd = match open(&path) {
            Ok(fd) => Some(fd),
            Err(errno) => {
                log::warn!("{}: {errno}; {without_it}", path.to_string_lossy());
                None
            }
        };
        Self { path, fd }
    }

    /// Hands every line of the file to `line`. Does not allocate.
    pub(super) fn read_lines(
        &mut self,
        buffer: &mut [u8],
        line: impl FnMut(&[u8]) -> Result<(), ParseError>,
    ) -> Result<(), ReadError> {
        let fd = match self.fd.take() {
            Some(fd) => fd,
            None => open(&self.path)?,
        };
        let outcome = read_lines(fd.as_fd(), buffer, line);
        if !matches!(outcome, Err(ReadError::Os(_))) {
            self.fd = Some(fd);
        }
        outcome
    }
}

fn open(path: &CString) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path.as_c_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn lines_through(buffer: usize, text: &str) -> Vec<String> {
        let path = std::env::temp_dir().join(format!(
            "lmkd-reader-{}-{:?}-{buffer}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, text).unwrap();
        let file = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut lines = Vec::new();
        read_lines(file.as_fd(), &mut vec![0; buffer], |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn a_file_larger_than_the_buffer_is_read_to_its_end() {
        let text: String = (0..1000).map(|n| format!("line {n}\n")).collect();
        let expected: Vec<_> = text.lines().map(str::to_owned).collect();
        for buffer in [9, 10, 64, 4096, 100_000] {
            assert_eq!(lines_through(buffer, &text), expected);
        }
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_skipped_and_nothing_else() {
        let text = format!("before\n{}\nafter\n", "x".repeat(1000));
        for buffer in [8, 9, 100, 999] {
            assert_eq!(lines_through(buffer, &text), ["before", "after"]);
        }
        assert_eq!(lines_through(2000, &text).len(), 3);
    }

    #[test]
    fn a_file_that_was_missing_is_opened_when_it_appears() {
        let path = std::env::temp_dir().join(format!("lmkd-held-{}", std::process::id()));
        let mut held = HeldFile::open(&path, "trying again");
        let mut buffer = [0; 64];
        assert_eq!(held.read_lines(&mut buffer, |_| Ok(())), Err(ReadError::Os(Errno::NOENT)));
        std::fs::write(&path, "here\n").unwrap();
        let mut lines = 0;
        let outcome = held.read_lines(&mut buffer, |_| {
            lines += 1;
            Ok(())
        });
        std::fs::remove_file(&path).unwrap();
        assert_eq!((outcome, lines), (Ok(()), 1));
    }

    #[test]
    fn the_descriptor_survives_a_text_error() {
        let mut held = HeldFile::open(Path::new("/proc/self/stat"), "never");
        let error = ParseError::missing("stat", "field");
        let outcome = held.read_lines(&mut [0; 1024], |_| Err(error));
        assert_eq!(outcome, Err(ReadError::Parse(error)));
        assert!(held.fd.is_some());
    }
}
