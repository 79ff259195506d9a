//! Reading a recording, whole or torn.

use super::frame;
use super::frame::TearCause;
use super::record::Entry;
use super::record::Header;
use super::record::Record;
use super::record::Unreadable;
use std::fmt;
use std::io;
use std::io::Read;
use std::path::Path;

/// The first bytes of every recording and of every connection to the operator's socket; the last
/// is the version of the format.
pub const MAGIC: [u8; 8] = *b"LMKDREC\x01";

/// No recording is larger than this many bytes: the daemon's files are bounded far below.
const LARGEST: u64 = 256 * 1024 * 1024;

/// Most bytes of memory that the records of one may take. A record of nothing, as of no registered
/// processes, has 16 bytes in a file and a thousand in memory, so that a file made for it would take
/// 60 times its size. Those of the largest file of a daemon, 80 MiB, take a third of this.
const MOST_MEMORY: usize = 1024 * 1024 * 1024;

/// A recording.
#[derive(Clone, Debug)]
pub struct Recording {
    /// What wrote it.
    pub header: Header,
    /// The header's own entry holds the time that its `wall_ns` belongs to; the rest follows it.
    pub entries: Vec<Entry>,
    /// Where it is torn: nothing after that was read.
    pub tear: Option<Tear>,
    /// Records of kinds that only later versions know and that may be left out.
    pub skipped: u64,
}

/// The point from which on a recording cannot be read: the daemon or the machine stopped while it
/// was written, or it was damaged since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tear {
    /// Bytes before it.
    pub offset: usize,
    /// Bytes from it to the end.
    pub left: usize,
    /// What is wrong.
    pub cause: TearCause,
}

impl fmt::Display for Tear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, left, cause } = self;
        write!(f, "torn at byte {offset} ({cause}); the last {left} bytes were not read")
    }
}

/// Why nothing of a file can be used.
#[derive(Debug)]
pub enum ReadError {
    /// It is no recording.
    NotARecording,
    /// It is of another version of the format.
    Version(u8),
    /// It holds a kind of record that only later versions know, and without which the rest could
    /// be misread.
    Kind {
        /// The number of the kind.
        kind: u8,
        /// Bytes before it.
        offset: usize,
    },
    /// It is torn before its first record.
    NoHeader(Option<TearCause>),
    /// It is larger than any daemon makes.
    TooLarge,
    /// It cannot be read.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecording => write!(f, "this is not a recording of lmkd"),
            Self::Version(version) => write!(
                f,
                "this recording has version {version} of the format, and only version {} is known \
                 here; use the lmkctl of the daemon that made it",
                MAGIC[7]
            ),
            Self::Kind { kind, offset } => write!(
                f,
                "at byte {offset} a record is of kind {kind}, which must be known and is not; use \
                 the lmkctl of the daemon that made it"
            ),
            Self::NoHeader(Some(cause)) => write!(f, "it is torn before its first record: {cause}"),
            Self::NoHeader(None) => write!(f, "its first record is no header"),
            Self::TooLarge => write!(f, "it is larger than any recording of lmkd"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ReadError {}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Looks at the first eight bytes.
///
/// # Errors
///
/// They are not those of a recording, or of another version.
pub fn check_magic(bytes: &[u8]) -> Result<(), ReadError> {
    let [name @ .., version] = bytes.first_chunk::<8>().ok_or(ReadError::NotARecording)?;
    let [known @ .., known_version] = &MAGIC;
    if name != known {
        return Err(ReadError::NotARecording);
    }
    if version != known_version {
        return Err(ReadError::Version(*version));
    }
    Ok(())
}

impl Recording {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// It cannot be read, or nothing of it can be used; a torn one is read up to the tear.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = std::fs::File::open(path)?;
        let mut bytes = Vec::new();
        // What is no recording, as a device that never ends, is not read.
        (&file).take(length(&MAGIC)).read_to_end(&mut bytes)?;
        check_magic(&bytes)?;
        (&file).take(LARGEST).read_to_end(&mut bytes)?;
        if length(&bytes) > LARGEST {
            return Err(ReadError::TooLarge);
        }
        Self::parse(&bytes)
    }

    /// Reads the bytes of a recording.
    ///
    /// # Errors
    ///
    /// Nothing of it can be used; a torn one is read up to the tear, and one whose records take more
    /// memory than any daemon's as far as they fit.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        Self::parse_within(bytes, MOST_MEMORY)
    }

    /// The same with at most so many bytes of memory.
    pub(super) fn parse_within(bytes: &[u8], most: usize) -> Result<Self, ReadError> {
        check_magic(bytes)?;
        let rest = bytes.get(MAGIC.len()..).unwrap_or(&[]);
        let mut entries = Vec::new();
        let mut taken: usize = 0;
        let read = read_while(rest, |entry| {
            taken = taken.saturating_add(entry.memory());
            let fits = taken <= most;
            if fits {
                entries.push(entry);
            }
            fits
        });
        let (skipped, tear) = read.map_err(|error| error.moved(MAGIC.len()))?;
        let tear =
            tear.map(|tear| Tear { offset: tear.offset.saturating_add(MAGIC.len()), ..tear });
        match entries.first().map(|entry| &entry.record) {
            Some(Record::Header(header)) => {
                Ok(Self { header: (**header).clone(), entries, tear, skipped })
            }
            Some(_) => Err(ReadError::NoHeader(None)),
            None => Err(ReadError::NoHeader(tear.map(|tear| tear.cause))),
        }
    }
}

impl ReadError {
    fn moved(self, by: usize) -> Self {
        match self {
            Self::Kind { kind, offset } => Self::Kind { kind, offset: offset.saturating_add(by) },
            other => other,
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Reads frames up to the end or to a tear. Returns how many were of unknown kinds, and the tear.
///
/// # Errors
///
/// [`ReadError::Kind`] alone.
pub fn read_all(
    bytes: &[u8],
    mut each: impl FnMut(Entry),
) -> Result<(u64, Option<Tear>), ReadError> {
    read_while(bytes, |entry| {
        each(entry);
        true
    })
}

/// The same up to the entry that is not taken.
fn read_while(
    bytes: &[u8],
    mut take: impl FnMut(Entry) -> bool,
) -> Result<(u64, Option<Tear>), ReadError> {
    let mut rest = bytes;
    let mut skipped: u64 = 0;
    while !rest.is_empty() {
        let offset = bytes.len().saturating_sub(rest.len());
        let tear = |cause| Some(Tear { offset, left: rest.len(), cause });
        let frame = match frame::first(rest) {
            Ok(frame) => frame,
            Err(cause) => return Ok((skipped, tear(cause))),
        };
        match Entry::read(&frame) {
            Ok(Some(entry)) => {
                if !take(entry) {
                    return Ok((skipped, tear(TearCause::Memory)));
                }
            }
            Ok(None) => skipped = skipped.saturating_add(1),
            Err(Unreadable::Kind(kind)) => return Err(ReadError::Kind { kind, offset }),
            Err(Unreadable::Torn(cause)) => return Ok((skipped, tear(cause))),
        }
        rest = rest.get(frame.bytes.len()..).unwrap_or(&[]);
    }
    Ok((skipped, None))
}
