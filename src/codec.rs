//! Values as bytes: how state and records are kept in a recording.
//!
//! Unsigned numbers are in the base-128 form of LEB128 (seven bits a byte, the lowest first, the
//! high bit set on all but the last), signed ones zigzag-mapped to unsigned first. A structure is
//! its fields in order, an option a byte (0 or 1) and then its value, an enum a byte that names the
//! variant and then its fields. Nothing here allocates, and decoding trusts no byte.

use crate::clock::MonoTime;
use crate::oom_score_adj::OomScoreAdj;
use crate::units::Kib;
use crate::units::PageSize;
use crate::units::Pages;
use std::fmt;

/// What can be put into bytes and taken out again.
pub trait Coded: Sized {
    /// Appends this value.
    fn put(&self, out: &mut Writer<'_>);

    /// Takes a value out.
    ///
    /// # Errors
    ///
    /// The bytes end early, or are not what [`Self::put`] writes.
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError>;
}

/// Why bytes are not the value that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// They end in the middle of it.
    Short,
    /// They say something that this type has no value for.
    Invalid(&'static str),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "it ends in the middle of a value"),
            Self::Invalid(what) => write!(f, "it holds no valid {what}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// Fills a buffer from its start. What does not fit is noticed at the end, in [`Self::finish`].
#[derive(Debug)]
pub struct Writer<'a> {
    buffer: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    /// An empty one.
    pub fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0, full: false }
    }

    /// How many bytes were written; None if some did not fit.
    #[must_use]
    pub const fn finish(self) -> Option<usize> {
        if self.full {
            None
        } else {
            Some(self.len)
        }
    }

    /// One byte.
    pub fn byte(&mut self, byte: u8) {
        match self.buffer.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len = self.len.saturating_add(1);
            }
            None => self.full = true,
        }
    }

    /// A number.
    pub fn unsigned(&mut self, mut value: u64) {
        let Some(room) = self.buffer.get_mut(self.len..) else { return };
        for place in room {
            self.len = self.len.saturating_add(1);
            if value < 0x80 {
                *place = low_byte(value);
                return;
            }
            *place = low_byte(value) | 0x80;
            value >>= 7;
        }
        self.full = true;
    }

    /// Bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        match self.buffer.get_mut(self.len..end) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len = end;
            }
            None => self.full = true,
        }
    }

    /// A number of either sign.
    pub fn signed(&mut self, value: i64) {
        self.unsigned((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }
}

const fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Takes values out of bytes, from the front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What was not taken yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// There is none left.
    pub fn byte(&mut self) -> Result<u8, CodecError> {
        let (first, rest) = self.rest.split_first().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number.
    ///
    /// # Errors
    ///
    /// The bytes end in it, or it has more than 64 bits.
    pub fn unsigned(&mut self) -> Result<u64, CodecError> {
        let mut value: u64 = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Invalid("number of 64 bits"))
    }

    /// A number of either sign.
    ///
    /// # Errors
    ///
    /// As [`Self::unsigned`].
    pub fn signed(&mut self) -> Result<i64, CodecError> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }
}

macro_rules! numbers {
    ($($type:ty: $way:ident, $name:literal;)*) => {
        $(impl Coded for $type {
            fn put(&self, out: &mut Writer<'_>) {
                out.$way((*self).into());
            }
            fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
                Self::try_from(from.$way()?).map_err(|_| CodecError::Invalid($name))
            }
        })*
    };
}

numbers! {
    u16: unsigned, "number of 16 bits";
    u32: unsigned, "number of 32 bits";
    u64: unsigned, "number of 64 bits";
    i32: signed, "number of 32 bits";
    i64: signed, "number of 64 bits";
}

impl Coded for u8 {
    fn put(&self, out: &mut Writer<'_>) {
        out.byte(*self);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        from.byte()
    }
}

impl Coded for bool {
    fn put(&self, out: &mut Writer<'_>) {
        out.byte(u8::from(*self));
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError::Invalid("yes or no")),
        }
    }
}

impl<T: Coded> Coded for Option<T> {
    fn put(&self, out: &mut Writer<'_>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(if bool::take(from)? { Some(T::take(from)?) } else { None })
    }
}

impl<T: Coded + Copy + Default, const N: usize> Coded for [T; N] {
    fn put(&self, out: &mut Writer<'_>) {
        for item in self {
            item.put(out);
        }
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut all = [T::default(); N];
        for item in &mut all {
            *item = T::take(from)?;
        }
        Ok(all)
    }
}

impl<A: Coded, B: Coded> Coded for (A, B) {
    fn put(&self, out: &mut Writer<'_>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl Coded for MonoTime {
    /// Nanoseconds.
    fn put(&self, out: &mut Writer<'_>) {
        out.unsigned(self.as_nanos());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        from.unsigned().map(Self::from_nanos)
    }
}

impl Coded for Pages {
    fn put(&self, out: &mut Writer<'_>) {
        out.signed(self.get());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        from.signed().map(Self)
    }
}

impl Coded for Kib {
    fn put(&self, out: &mut Writer<'_>) {
        out.signed(self.get());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        from.signed().map(Self)
    }
}

impl Coded for PageSize {
    /// Kilobytes.
    fn put(&self, out: &mut Writer<'_>) {
        out.signed(self.kib());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let kib = usize::try_from(from.signed()?).ok();
        let bytes = kib.and_then(|kib| kib.checked_mul(1024)).filter(|bytes| *bytes > 0);
        bytes.map(Self::from_bytes).ok_or(CodecError::Invalid("page size"))
    }
}

impl Coded for OomScoreAdj {
    fn put(&self, out: &mut Writer<'_>) {
        out.signed(self.get().into());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        Self::new(i32::take(from)?).ok_or(CodecError::Invalid("oom_score_adj"))
    }
}

/// Makes a structure [`Coded`] as its fields in the order given. One that is left out does not
/// compile. Those `without` which it is coded have their default afterwards: they were added later,
/// and are kept at the end of the record. Those `at_end` were added later to a structure that is
/// all of a record: where an older record ends before them they have their default.
macro_rules! coded_struct {
    ($type:ty { $($field:ident),* $(,)? }
        $(without { $($later:ident),* })? $(at_end { $($last:ident),* })?) => {
        impl $crate::codec::Coded for $type {
            fn put(&self, out: &mut $crate::codec::Writer<'_>) {
                let Self { $($field,)* $($($later: _,)*)? $($($last,)*)? } = self;
                $($crate::codec::Coded::put($field, out);)*
                $($($crate::codec::Coded::put($last, out);)*)?
            }
            fn take(
                from: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::CodecError> {
                $(let $field = $crate::codec::Coded::take(from)?;)*
                $($(let $last = match from.rest() {
                    [] => Default::default(),
                    _ => $crate::codec::Coded::take(from)?,
                };)*)?
                Ok(Self { $($field,)* $($($later: Default::default(),)*)? $($($last,)*)? })
            }
        }
    };
}

/// Makes an enum [`Coded`] as the variant's number and its fields. Numbers are never reused.
macro_rules! coded_enum {
    ($type:ty, $name:literal {
        $($number:literal => $variant:ident $(($($item:ident),*))? $({$($field:ident),*})?),* $(,)?
    }) => {
        impl $crate::codec::Coded for $type {
            fn put(&self, out: &mut $crate::codec::Writer<'_>) {
                match self {
                    $(Self::$variant $(($($item),*))? $({$($field),*})? => {
                        out.byte($number);
                        $($($crate::codec::Coded::put($item, out);)*)?
                        $($($crate::codec::Coded::put($field, out);)*)?
                    })*
                }
            }
            fn take(
                from: &mut $crate::codec::Reader<'_>,
            ) -> Result<Self, $crate::codec::CodecError> {
                match from.byte()? {
                    $($number => {
                        $($(let $item = $crate::codec::Coded::take(from)?;)*)?
                        $($(let $field = $crate::codec::Coded::take(from)?;)*)?
                        Ok(Self::$variant $(($($item),*))? $({$($field),*})?)
                    })*
                    _ => Err($crate::codec::CodecError::Invalid($name)),
                }
            }
        }
    };
}

pub(crate) use coded_enum;
pub(crate) use coded_struct;

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back<T: Coded + PartialEq + fmt::Debug>(value: T) {
        let mut buffer = [0; 32];
        let mut out = Writer::new(&mut buffer);
        value.put(&mut out);
        let len = out.finish().unwrap();
        let mut from = Reader::new(&buffer[..len]);
        assert_eq!(T::take(&mut from), Ok(value));
        assert!(from.rest().is_empty());
    }

    /// Each power of two with its neighbours, which takes in both ends.
    fn numbers() -> impl Iterator<Item = u64> {
        let near = |one: u64| [one, one - 1, !one, one.wrapping_neg()];
        (0..64).flat_map(move |bit| near(1 << bit))
    }

    #[test]
    fn every_number_comes_back() {
        for unsigned in numbers() {
            let signed = unsigned.cast_signed();
            there_and_back(signed);
            there_and_back(unsigned);
            if let Ok(narrow) = i32::try_from(signed) {
                there_and_back(narrow);
            }
            there_and_back(u32::try_from(unsigned).ok());
            there_and_back(Pages(signed));
            there_and_back(MonoTime::from_nanos(unsigned));
        }
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_refused() {
        for (a, b) in numbers().zip(numbers().skip(17)) {
            let mut bytes = [0; 24];
            bytes[..8].copy_from_slice(&a.to_le_bytes());
            bytes[8..16].copy_from_slice(&b.to_be_bytes());
            bytes[16..].copy_from_slice(&a.wrapping_mul(b | 1).to_le_bytes());
            let _ = u64::take(&mut Reader::new(&bytes));
            let _ = OomScoreAdj::take(&mut Reader::new(&bytes));
            let _ = PageSize::take(&mut Reader::new(&bytes));
            let _ = <Option<[i32; 9]> as Coded>::take(&mut Reader::new(&bytes));
        }
    }

    #[test]
    fn small_numbers_of_either_sign_take_one_byte() {
        let mut buffer = [0; 4];
        let mut out = Writer::new(&mut buffer);
        out.signed(-1);
        out.signed(63);
        out.unsigned(127);
        assert_eq!(out.finish(), Some(3));
        assert_eq!(buffer, [1, 126, 127, 0]);
    }

    #[test]
    fn a_number_of_more_than_64_bits_is_refused() {
        let bytes = [0xff; 10];
        assert!(matches!(Reader::new(&bytes).unsigned(), Err(CodecError::Invalid(_))));
        let most = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(Reader::new(&most).unsigned(), Ok(u64::MAX));
        assert_eq!(Reader::new(&most[..9]).unsigned(), Err(CodecError::Short));
    }

    #[test]
    fn a_value_that_does_not_fit_its_buffer_is_noticed() {
        let mut buffer = [0; 1];
        let mut out = Writer::new(&mut buffer);
        out.unsigned(128);
        assert_eq!(out.finish(), None);
    }
}
