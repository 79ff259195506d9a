//! A record as bytes: length, kind, checksum, and what it says.
//!
//! ```text
//! offset  0        2      3       4                8
//!         | len    | kind | flags | CRC-32         | body: seq, at, fields ... | 0 to 7 zero bytes
//!         | u16 le | u8   | u8    | u32 le         | len bytes                 | up to a multiple of 8
//! ```
//!
//! The checksum is that of zlib and gzip, over the first four bytes and the body. Bit 0 of `flags`:
//! who does not know this kind must not go on reading. The body begins with the record's number,
//! which counts up by one, and its time in nanoseconds of CLOCK_MONOTONIC; see [`crate::codec`] for
//! the form of its fields. New fields are only ever added at the end of a body, and what follows
//! the fields that a reader knows is not looked at.

use crate::clock::MonoTime;
use crate::codec::CodecError;
use crate::codec::Coded;
use crate::codec::Reader;
use crate::codec::Writer;
use std::fmt;

/// Bytes before a body.
const HEAD: usize = 8;

/// Most bytes of a frame, padding included.
pub const LONGEST: usize = 4096;

/// Who does not know the kind must not go on.
const MUST_KNOW: u8 = 1;

/// What a record says.
pub trait Body: Coded {
    /// The number of its kind.
    const KIND: u8;
    /// Whether a reader who does not know this kind must stop: what follows could mean something
    /// else to it.
    const MUST_BE_KNOWN: bool;
}

/// A frame found in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The number of its kind.
    pub kind: u8,
    /// Whether its kind must be known.
    pub must_be_known: bool,
    /// Its number, counted from 1 on; 0 if it was added on the way out of the ring.
    pub seq: u64,
    /// Its time.
    pub at: MonoTime,
    /// The fields.
    pub fields: Reader<'a>,
    /// All of its bytes, padding included.
    pub bytes: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TearCause {
    /// They end in the middle of one.
    CutOff,
    /// No frame is that short or long.
    Length(usize),
    /// The checksum is another.
    Checksum,
    /// The fields are not what the kind has.
    Fields(CodecError),
    /// The records before it take all the memory that is given to a recording.
    Memory,
}

impl fmt::Display for TearCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutOff => write!(f, "it ends in the middle of a record"),
            Self::Length(len) => write!(f, "no record has {len} bytes"),
            Self::Checksum => write!(f, "a record's checksum is wrong"),
            Self::Fields(error) => write!(f, "a record cannot be read: {error}"),
            Self::Memory => write!(f, "the records before it take all memory that is given to one"),
        }
    }
}

/// Writes a record to the start of a buffer. Returns its length, a multiple of 8; None if it does
/// not fit.
pub fn seal<B: Body>(
    buffer: &mut [u8; LONGEST],
    seq: u64,
    at: MonoTime,
    body: &B,
) -> Option<usize> {
    let mut out = Writer::new(buffer.get_mut(HEAD..)?);
    seq.put(&mut out);
    at.put(&mut out);
    body.put(&mut out);
    let len = out.finish()?;
    finish(buffer, B::KIND, if B::MUST_BE_KNOWN { MUST_KNOW } else { 0 }, len)
}

/// A frame around any bytes, for tests of what reads them.
#[doc(hidden)]
pub fn seal_raw(buffer: &mut [u8; LONGEST], kind: u8, body: &[u8]) -> Option<usize> {
    buffer.get_mut(HEAD..)?.get_mut(..body.len())?.copy_from_slice(body);
    finish(buffer, kind, 0, body.len())
}

/// Puts the head before a body of this length, and zeros behind it.
fn finish(buffer: &mut [u8; LONGEST], kind: u8, flags: u8, len: usize) -> Option<usize> {
    let (head, rest) = buffer.split_first_chunk_mut::<HEAD>()?;
    let [l0, l1] = u16::try_from(len).ok()?.to_le_bytes();
    let crc = crc32(crc32(0, &[l0, l1, kind, flags]), rest.get(..len)?);
    let [c0, c1, c2, c3] = crc.to_le_bytes();
    *head = [l0, l1, kind, flags, c0, c1, c2, c3];
    let padded = len.next_multiple_of(8);
    rest.get_mut(len..padded)?.fill(0);
    Some(HEAD.saturating_add(padded))
}

/// How many bytes a frame has that begins with these, padding included.
#[must_use]
pub fn length(first: [u8; 8]) -> usize {
    let [l0, l1, ..] = first;
    usize::from(u16::from_le_bytes([l0, l1])).next_multiple_of(8).saturating_add(HEAD)
}

/// The frame at the start of `bytes`; what follows it begins after its own `bytes`.
///
/// # Errors
///
/// The bytes are no whole frame.
pub fn first(bytes: &[u8]) -> Result<Frame<'_>, TearCause> {
    let head: [u8; HEAD] = *bytes.first_chunk().ok_or(TearCause::CutOff)?;
    let [l0, l1, kind, flags, c0, c1, c2, c3] = head;
    let len = usize::from(u16::from_le_bytes([l0, l1]));
    let whole = length(head);
    if len == 0 || whole > LONGEST {
        return Err(TearCause::Length(len));
    }
    let all = bytes.get(..whole).ok_or(TearCause::CutOff)?;
    let body = all.get(HEAD..HEAD.saturating_add(len)).ok_or(TearCause::CutOff)?;
    let crc = u32::from_le_bytes([c0, c1, c2, c3]);
    if crc32(crc32(0, &[l0, l1, kind, flags]), body) != crc {
        return Err(TearCause::Checksum);
    }
    let mut fields = Reader::new(body);
    let seq = u64::take(&mut fields).map_err(TearCause::Fields)?;
    let at = MonoTime::take(&mut fields).map_err(TearCause::Fields)?;
    Ok(Frame { kind, must_be_known: flags & MUST_KNOW != 0, seq, at, fields, bytes: all })
}

/// CRC-32 as in zlib: polynomial 0x04c11db7, reflected. `crc` is 0 or that of what came before.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    let four = |crc: u32, four: &[u8; 4]| {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes(*four)).to_le_bytes().map(usize::from);
        TABLES[3][a] ^ TABLES[2][b] ^ TABLES[1][c] ^ TABLES[0][d]
    };
    let one = |crc: u32, byte: &u8| {
        let [low, ..] = crc.to_le_bytes();
        TABLES[0][usize::from(low ^ byte)] ^ (crc >> 8)
    };
    let (fours, rest) = bytes.as_chunks::<4>();
    !rest.iter().fold(fours.iter().fold(!crc, four), one)
}

/// What a byte does to the checksum with 0, 1, 2 or 3 bytes after it.
static TABLES: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    let mut entry: u32 = 0;
    while byte < 256 {
        let mut crc = entry;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xedb8_8320 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
        entry += 1;
    }
    let mut after = 1;
    while after < tables.len() {
        let mut byte = 0;
        while byte < 256 {
            let crc: u32 = tables[after - 1][byte];
            let [low, ..] = crc.to_le_bytes();
            tables[after][byte] = tables[0][low as usize] ^ (crc >> 8);
            byte += 1;
        }
        after += 1;
    }
    tables
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::coded_struct;

    #[derive(Debug, PartialEq)]
    struct Number {
        value: u64,
    }
    coded_struct!(Number { value });
    impl Body for Number {
        const KIND: u8 = 200;
        const MUST_BE_KNOWN: bool = true;
    }

    fn sealed(value: u64) -> Vec<u8> {
        let mut buffer = [0xaa; LONGEST];
        let len = seal(&mut buffer, 7, MonoTime::from_nanos(99), &Number { value }).unwrap();
        assert_eq!(len % 8, 0);
        buffer[..len].to_vec()
    }

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(crc32(0, b"1234"), b"56789"), 0xcbf4_3926);
    }

    #[test]
    fn a_sealed_record_is_found_again() {
        let bytes = sealed(12345);
        let mut frame = first(&bytes).unwrap();
        assert_eq!((frame.kind, frame.must_be_known, frame.seq), (200, true, 7));
        assert_eq!(frame.at, MonoTime::from_nanos(99));
        assert_eq!(Number::take(&mut frame.fields), Ok(Number { value: 12345 }));
        assert_eq!(frame.bytes.len(), bytes.len());
    }

    #[test]
    fn a_change_of_any_bit_or_a_missing_byte_is_noticed() {
        let bytes = sealed(u64::MAX);
        let len = usize::from(bytes[0]);
        for bit in 0..(HEAD + len) * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(first(&broken).is_err(), "bit {bit}");
        }
        for short in 0..bytes.len() {
            assert_eq!(first(&bytes[..short]).unwrap_err(), TearCause::CutOff);
        }
    }
}
