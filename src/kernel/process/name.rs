//! The name of a process.

use std::fmt;

/// A process's name: at most 127 bytes, the limit of the statistics packet.
#[derive(Clone, Copy)]
pub struct TaskName {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl TaskName {
    /// Longest name kept, in bytes.
    pub const LONGEST: usize = 127;

    /// A name, cut at [`Self::LONGEST`].
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; Self::LONGEST];
        let mut len: u8 = 0;
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { bytes, len }
    }

    /// As the process wrote it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl fmt::Display for TaskName {
    /// Control characters, which could forge a log line, and bytes that are not UTF-8 show as `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        for chunk in self.as_bytes().utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if c.is_control() { '?' } else { c })?;
            }
            for _ in chunk.invalid() {
                f.write_char('?')?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_a_log_line() {
        let name = TaskName::new(b"a\nKill \xff\x1b[1m");
        assert_eq!(name.to_string(), "a?Kill ??[1m");
        assert_eq!(TaskName::new(&[b'x'; 500]).as_bytes().len(), TaskName::LONGEST);
    }
}
