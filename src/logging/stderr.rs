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
use std::env;
use std::fmt::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
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
    lost: AtomicU32,
}

/// Makes standard error the log of this process, unless it has one already.
pub fn install() {
    static LOGGER: OnceLock<Stderr> = OnceLock::new();
    let prefix =
        if is_the_journal(std::io::stderr().as_fd()) { Prefix::Journal } else { Prefix::Plain };
    let logger = LOGGER.get_or_init(|| Stderr { prefix, lost: AtomicU32::new(0) });
    // An error means that a logger is there already, in tests the harness's.
    let _ = log::set_logger(logger);
}

/// Whether this is the stream that systemd names in `JOURNAL_STREAM`, as `device:inode`.
fn is_the_journal(fd: BorrowedFd<'_>) -> bool {
    let Some(stream) = env::var("JOURNAL_STREAM").ok() else { return false };
    rustix::fs::fstat(fd).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.log_to(std::io::stderr().as_fd(), MonoTime::now(), record);
        }
    }

    fn flush(&self) {}
}

impl Stderr {
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
        takes_a_line(out) && rustix::io::write(out, line.finish()).is_ok()
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
    use std::io::Read;

    fn logger(prefix: Prefix) -> Stderr {
        Stderr { prefix, lost: AtomicU32::new(0) }
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
    fn a_reader_that_is_gone_costs_nothing_but_the_line() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let logger = logger(Prefix::Plain);
        log(&logger, writer.as_fd(), Level::Info, "anybody?");
        assert_eq!(logger.lost.load(Ordering::Relaxed), 1);
    }
}
