//! Log lines on standard error, dropped rather than waited for.

use super::line::Line;
use crate::clock::MonoTime;
use log::Level;
use log::Log;
use log::Metadata;
use log::Record;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::fs::FileType;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::env;
use std::fmt::Write;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::OnceLock;

/// What stands before the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    /// `<4>`: the journal adds time and name itself and takes the priority from here
    /// (sd-daemon(3)).
    Journal,
    /// Seconds since the monotonic clock's start, as in the kernel's log, name and level.
    Plain,
}

/// The logger of a process whose standard error is read by somebody.
#[derive(Debug)]
struct Stderr {
    prefix: Prefix,
    /// Standard error opened anew, so that no write to it waits.
    own: Option<OwnedFd>,
    lost: AtomicU32,
    /// The last line did not get out to its end.
    torn: AtomicBool,
}

/// Makes standard error the log of this process, unless it has one already.
pub fn install() {
    static LOGGER: OnceLock<Stderr> = OnceLock::new();
    let (stderr, plain) = (std::io::stderr(), Prefix::Plain);
    let prefix = if is_the_journal(stderr.as_fd()) { Prefix::Journal } else { plain };
    let logger = LOGGER.get_or_init(|| Stderr::new(prefix, open_anew(stderr.as_fd())));
    // An error means that a logger is there already, in tests the harness's.
    let _ = log::set_logger(logger);
}

/// Whether this is the stream that systemd names in `JOURNAL_STREAM`, as `device:inode`.
fn is_the_journal(fd: BorrowedFd<'_>) -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM").ok() else { return false };
    rustix::fs::fstat(fd).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// A description of our own of a terminal or pipe, which can be told not to wait without telling
/// everybody who writes to it. poll(2) is no help with a terminal: it has room with room for a byte.
fn open_anew(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd).ok()?.st_mode);
    if kind != FileType::Fifo && !fd.is_terminal() {
        return None;
    }
    let path = Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).ok()
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let (now, stderr) = (MonoTime::now(), std::io::stderr());
            let out = self.own.as_ref().map_or(stderr.as_fd(), AsFd::as_fd);
            self.log_to(out, now, record);
        }
    }

    fn flush(&self) {}
}

impl Stderr {
    const fn new(prefix: Prefix, own: Option<OwnedFd>) -> Self {
        Self { prefix, own, lost: AtomicU32::new(0), torn: AtomicBool::new(false) }
    }

    fn log_to(&self, out: BorrowedFd<'_>, now: MonoTime, record: &Record<'_>) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let said = self.write_line(
                out,
                now,
                Level::Warn,
                format_args!("{lost} log lines lost: their reader was too slow"),
            );
            if !said {
                self.lost.fetch_add(lost.saturating_add(1), Ordering::Relaxed);
                return;
            }
        }
        if !self.write_line(out, now, record.level(), *record.args()) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the line got out.
    fn write_line(
        &self,
        out: BorrowedFd<'_>,
        now: MonoTime,
        level: Level,
        message: std::fmt::Arguments<'_>,
    ) -> bool {
        let mut line = Line::new();
        let (letter, priority) = match level {
            Level::Error => ('E', 3),
            Level::Warn => ('W', 4),
            Level::Info => ('I', 6),
            Level::Debug | Level::Trace => ('D', 7),
        };
        let micros = now.micros_since(MonoTime::ZERO);
        let (secs, micros) = (micros / 1_000_000, micros % 1_000_000);
        // Writing to a line cannot fail; a message's own formatting can, and is then cut there.
        let _ = match self.prefix {
            Prefix::Journal => write!(line, "<{priority}>{message}"),
            Prefix::Plain => write!(line, "[{secs:5}.{micros:06}] lmkd {letter} {message}"),
        };
        takes_a_line(out) && self.write(out, line.finish())
    }

    /// A terminal takes as much of a line as it has room for; what follows begins a line of its own.
    fn write(&self, out: BorrowedFd<'_>, line: &[u8]) -> bool {
        if self.torn.load(Ordering::Relaxed) && rustix::io::write(out, b"\n").is_err() {
            return false;
        }
        let written = rustix::io::write(out, line);
        let torn = matches!(written, Ok(length) if length < line.len());
        self.torn.store(torn, Ordering::Relaxed);
        written.is_ok() && !torn
    }
}

/// Whether a write would not block now.
fn takes_a_line(out: BorrowedFd<'_>) -> bool {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut wait = [PollFd::from_borrowed_fd(out, PollFlags::OUT)];
    rustix::event::poll(&mut wait, Some(&AT_ONCE)).is_ok()
        && wait.iter().all(|fd| fd.revents().contains(PollFlags::OUT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::io::Read;

    fn logger(prefix: Prefix) -> Stderr {
        Stderr::new(prefix, None)
    }

    fn log(to: &Stderr, out: BorrowedFd<'_>, level: Level, message: &str) {
        let now = MonoTime::from_nanos(12_345_678_999);
        to.log_to(
            out,
            now,
            &Record::builder().level(level).args(format_args!("{message}")).build(),
        );
    }

    #[test]
    fn a_line_has_time_name_and_level() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        log(&logger(Prefix::Plain), writer.as_fd(), Level::Info, "hello");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "[   12.345678] lmkd I hello\n");
    }

    #[test]
    fn the_journal_gets_the_priority_and_adds_the_rest_itself() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        log(&logger(Prefix::Journal), writer.as_fd(), Level::Error, "hello");
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "<3>hello\n");
    }

    #[test]
    fn a_reader_that_stops_costs_lines_and_no_time_and_learns_how_many() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let logger = logger(Prefix::Plain);
        let message = "x".repeat(900);
        for _ in 0..1000 {
            log(&logger, writer.as_fd(), Level::Info, &message);
        }
        let lost = logger.lost.load(Ordering::Relaxed);
        assert!(lost > 0);

        let mut page = vec![0; 65536];
        let read = reader.read(&mut page).unwrap();
        assert!(read > 0);
        log(&logger, writer.as_fd(), Level::Info, "there again");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(&format!("lmkd W {lost} log lines lost")), "{rest}");
        assert!(rest.ends_with("lmkd I there again\n"));
    }

    #[test]
    fn a_pipe_is_opened_anew_and_one_that_is_full_is_not_waited_for() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let own = open_anew(writer.as_fd()).unwrap();
        let full = (0..1_000_000).find_map(|_| rustix::io::write(&own, &[0; 1000]).err());
        assert_eq!(full, Some(Errno::AGAIN));
        let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK), "others may still want to wait");
        // Nothing that stays where it is, which a second description would write over.
        assert!(open_anew(std::fs::File::open("/proc/self/stat").unwrap().as_fd()).is_none());
    }

    #[test]
    fn a_reader_that_is_gone_costs_nothing_but_the_line() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let logger = logger(Prefix::Plain);
        log(&logger, writer.as_fd(), Level::Info, "anybody?");
        assert_eq!(logger.lost.load(Ordering::Relaxed), 1);
    }
}
