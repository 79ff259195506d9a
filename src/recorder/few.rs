//! Short lists and texts of fixed memory: a record never allocates.

use crate::codec::CodecError;
use crate::codec::Coded;
use crate::codec::Reader;
use crate::codec::Writer;
use std::fmt;

/// At most `N` values. What does not fit is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Few<T, const N: usize> {
    items: [Option<T>; N],
    len: u8,
}

impl<T: Copy, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self { items: [None; N], len: 0 }
    }
}

impl<T: Copy, const N: usize> Few<T, N> {
    /// Appends a value; false if there is no room.
    pub fn push(&mut self, value: T) -> bool {
        match self.items.get_mut(usize::from(self.len)) {
            Some(place) => {
                *place = Some(value);
                self.len = self.len.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is no room for another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() >= N
    }

    /// The values.
    pub fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        self.items.iter().flatten()
    }
}

impl<T: Copy, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut few = Self::default();
        for value in values.into_iter().take(N) {
            few.push(value);
        }
        few
    }
}

impl<T: Copy + fmt::Debug, const N: usize> fmt::Debug for Few<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Coded + Copy, const N: usize> Coded for Few<T, N> {
    /// A byte for the number, then the values.
    fn put(&self, out: &mut Writer<'_>) {
        out.byte(self.len);
        for item in self.iter() {
            item.put(out);
        }
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut few = Self::default();
        for _ in 0..from.byte()? {
            if !few.push(T::take(from)?) {
                return Err(CodecError::Invalid("list, it is too long"));
            }
        }
        Ok(few)
    }
}

/// At most `N` bytes of text (at most 255), as they were found: not necessarily UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> Text<N> {
    /// A text; what does not fit is cut off.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut bytes = [0; N];
        let mut len: u8 = 0;
        for (to, from) in bytes.iter_mut().zip(text).take(usize::from(u8::MAX)) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { bytes, len }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self::new(b"")
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    /// Control characters and what is not UTF-8 show as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() { '?' } else { c })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char('?')?;
            }
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl<const N: usize> Coded for Text<N> {
    /// A byte for the length, then the bytes.
    fn put(&self, out: &mut Writer<'_>) {
        out.byte(self.len);
        out.bytes(self.as_bytes());
    }
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let len = from.byte()?;
        let mut bytes = [0; N];
        let place = bytes.get_mut(..usize::from(len));
        for byte in place.ok_or(CodecError::Invalid("text, it is too long"))? {
            *byte = from.byte()?;
        }
        Ok(Self { bytes, len })
    }
}
