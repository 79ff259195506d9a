//! A log line in memory of fixed size.

use std::fmt;

/// A line ready to be written at once: at most [`Line::SIZE`] bytes, one newline, at its end.
///
/// Process names and client data end up in lines; a control character in them is shown as `?`, so
/// nobody can forge a line or steer a terminal.
pub struct Line {
    bytes: [u8; Self::SIZE],
    len: usize,
    cut: bool,
}

impl Line {
    /// The length of the longest line, its newline included. Below PIPE_BUF, so a pipe takes all
    /// of it or nothing and lines of several threads do not mix.
    pub const SIZE: usize = 1024;

    /// What ends a line that was too long.
    const CUT: &[u8] = b"[...]";
    /// Where text must end to leave room for that and the newline.
    const TEXT: usize = Self::SIZE - Self::CUT.len() - 1;

    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; Self::SIZE], len: 0, cut: false }
    }

    /// The line with its end.
    pub fn finish(&mut self) -> &[u8] {
        if self.cut {
            self.append(Self::CUT);
        }
        self.append(b"\n");
        self.bytes.get(..self.len).unwrap_or_default()
    }

    fn append(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let letter = if letter.is_control() { '?' } else { letter };
            let mut utf8 = [0; 4];
            let utf8 = letter.encode_utf8(&mut utf8);
            self.cut |= self.len.saturating_add(utf8.len()) > Self::TEXT;
            if self.cut {
                break;
            }
            self.append(utf8.as_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn line(text: &str) -> String {
        let mut line = Line::new();
        line.write_str(text).unwrap();
        String::from_utf8(line.finish().to_vec()).unwrap()
    }

    #[test]
    fn a_line_ends_in_its_only_newline() {
        assert_eq!(line("Kill 'a\nb\x1b[2J' (7)"), "Kill 'a?b?[2J' (7)\n");
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let cut = line(&"x".repeat(5000));
        assert_eq!(cut.len(), Line::SIZE);
        assert!(cut.ends_with("x[...]\n"));
    }

    #[test]
    fn a_line_that_just_fits_is_whole() {
        let text = "x".repeat(Line::TEXT);
        assert_eq!(line(&text), format!("{text}\n"));
    }

    #[test]
    fn a_cut_falls_between_characters() {
        let cut = line(&"\u{20ac}".repeat(2000));
        assert!(cut.ends_with("\u{20ac}[...]\n"));
        assert!(cut.len() <= Line::SIZE);
    }

    #[test]
    fn what_follows_a_cut_is_left_out_even_if_it_would_fit() {
        let mut line = Line::new();
        line.write_str(&"x".repeat(Line::TEXT - 1)).unwrap();
        line.write_str("\u{20ac}").unwrap();
        line.write_str("y").unwrap();
        assert!(line.finish().ends_with(b"x[...]\n"));
    }
}
