//! The terminal: raw keys in, lines out, and everything as it was at the end.
//!
//! Only what every terminal has had since the VT100, and what comes through adb: cursor home, clear
//! to the end of a line, reverse video, no wrapping at the margin, since letters may be wider than one
//! column; and xterm's alternate screen, which others ignore.

use lmkd::sys::signal::SignalFd;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::termios;
use rustix::termios::OptionalActions;
use rustix::termios::Termios;
use std::io;
use std::io::Stdin;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// To leave: Ctrl-C, the end of input, or a signal that asks for it.
    Leave,
}

/// What ended a wait; nothing if its time is up or the window has another size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Woken {
    /// Keys that were pressed, the first first.
    pub keys: Vec<Key>,
    /// One of the other descriptors is readable.
    pub readable: bool,
}

/// A terminal in raw mode.
pub struct Screen {
    stdin: Stdin,
    before: Termios,
    signals: SignalFd,
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const ESCAPE: u8 = 27;

impl Screen {
    /// Takes the terminal over.
    pub fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        // Ctrl-C is a key here, but others may send SIGINT too, as timeout(1) can.
        let ends = [Signal::INT, Signal::QUIT, Signal::TERM, Signal::HUP, Signal::WINCH];
        let signals = SignalFd::block(&ends.map(Signal::as_raw))?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Flush, &raw)?;
        let screen = Self { stdin, before, signals };
        write("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }

    /// Columns and lines; 80 and 24 where the terminal does not know.
    pub fn size(&self) -> (usize, usize) {
        match termios::tcgetwinsize(&self.stdin) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        }
    }

    /// Shows these lines, cut to the size; a line that begins with `^` in reverse video.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let (columns, rows) = self.size();
        let mut text = String::from("\x1b[H");
        for row in 0..rows {
            let line = lines.get(row).map_or("", String::as_str);
            let (reverse, line) = match line.strip_prefix('^') {
                Some(line) => (true, line),
                None => (false, line),
            };
            let shown: String = line.chars().take(columns).collect();
            match reverse {
                true => text.push_str(&format!("\x1b[7m{shown:columns$}\x1b[0m")),
                false => text.push_str(&format!("{shown}\x1b[K")),
            }
            if row + 1 < rows {
                text.push_str("\r\n");
            }
        }
        write(&text)
    }

    /// Waits for a key, for one of the others, or until the time is up.
    pub fn wait(&self, others: [BorrowedFd<'_>; 2], timeout: Duration) -> io::Result<Woken> {
        let [one, other] = others.map(|other| PollFd::from_borrowed_fd(other, PollFlags::IN));
        let mut fds = [
            PollFd::new(&self.stdin, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            one,
            other,
        ];
        let timeout = Timespec::try_from(timeout).ok();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Woken::default()),
            Err(error) => return Err(error.into()),
        }
        let [keys, signals, one, other] = fds.map(|fd| !fd.revents().is_empty());
        let mut woken = Woken { keys: Vec::new(), readable: one || other };
        if keys {
            woken.keys = self.keys()?;
        }
        if signals && self.signals.take().is_some_and(|number| number != Signal::WINCH.as_raw()) {
            woken.keys.push(Key::Leave);
        }
        Ok(woken)
    }

    /// What was typed.
    fn keys(&self) -> io::Result<Vec<Key>> {
        let mut bytes = [0; 64];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.stdin, &mut bytes))?;
        Ok(keys_of(bytes.get(..read).unwrap_or(&[])))
    }
}

/// The keys that these bytes are: a held key comes as several at once. Arrows and the like, which
/// are escape sequences, are none.
fn keys_of(bytes: &[u8]) -> Vec<Key> {
    if bytes.is_empty() {
        return vec![Key::Leave];
    }
    let mut keys = Vec::new();
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            CTRL_C | CTRL_D => keys.push(Key::Leave),
            // CSI or SS3, parameters, and a last byte from @ to ~.
            ESCAPE if matches!(bytes.next(), Some(b'[' | b'O')) => {
                let _ = bytes.find(|byte| (b'@'..=b'~').contains(byte));
            }
            ESCAPE => {}
            _ => keys.push(Key::Char(char::from(byte))),
        }
    }
    keys
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = write("\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = termios::tcsetattr(&self.stdin, OptionalActions::Flush, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_come_together_are_all_heard() {
        let chars = |text: &str| text.chars().map(Key::Char).collect::<Vec<_>>();
        assert_eq!(keys_of(b"jjj"), chars("jjj"));
        assert_eq!(keys_of(b"j\x1b[Ak\x1b[1;5Be\x1bOPo"), chars("jkeo"));
        assert_eq!(keys_of(b"j\x03"), [Key::Char('j'), Key::Leave]);
        assert_eq!(keys_of(b""), [Key::Leave]);
    }
}
