//! logcat: shows what logd keeps.

use crate::log_record::Record;
use crate::log_record::BUFFERS;
use crate::logd::CLEAR;
use crate::logd::DUMP;
use crate::logd::FOLLOW;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

const READERS: &str = "/dev/socket/logdr";
const USAGE: &str = "usage: logcat [-c] [-d] [-b BUFFER,...] [-v brief|epoch|raw|threadtime] \
                     [-s] [TAG[:PRIORITY]...]";
/// From chatty to grave.
const PRIORITIES: &str = "VDIWEFS";

struct Wanted {
    request: u8,
    buffers: Vec<usize>,
    format: Format,
    /// Tag and least priority, a later one before an earlier.
    filters: Vec<(String, char)>,
    /// The least priority of other tags.
    others: char,
}

#[derive(Clone, Copy)]
enum Format {
    Brief,
    Epoch,
    Raw,
    ThreadTime,
}

/// As Android's, as far as tests use it; says so of what it does not know.
pub fn run(arguments: &[String]) -> Result<ExitCode> {
    let wanted = parse(arguments)?;
    let mut logd = UnixStream::connect(READERS).context(READERS)?;
    logd.write_all(&[wanted.request])?;
    let mut out = std::io::stdout().lock();
    let mut head = [0; 8];
    while logd.read_exact(&mut head).is_ok() {
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let mut datagram = vec![0; usize::try_from(u32::from_le_bytes(word(0)))?];
        logd.read_exact(&mut datagram)?;
        let pid = i32::from_le_bytes(word(4));
        match Record::decode(&datagram) {
            Some(record) if wanted.admits(&record) => {
                writeln!(out, "{}", wanted.format.line(pid, &record))?;
                out.flush()?;
            }
            Some(_) => {}
            None => writeln!(out, "--------- not a log record: {datagram:02x?}")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(arguments: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted {
        request: FOLLOW,
        buffers: Vec::new(),
        format: Format::ThreadTime,
        filters: Vec::new(),
        others: 'V',
    };
    let mut arguments = arguments.iter().map(String::as_str);
    while let Some(argument) = arguments.next() {
        match argument {
            "-d" => wanted.request = DUMP,
            "-c" => wanted.request = CLEAR,
            "-s" => wanted.others = 'S',
            "-b" => {
                for name in arguments.next().context(USAGE)?.split(',') {
                    match BUFFERS.iter().position(|buffer| *buffer == name) {
                        Some(buffer) => wanted.buffers.push(buffer),
                        None if name == "all" => wanted.buffers.extend(0..BUFFERS.len()),
                        None => bail!("there is no buffer '{name}'"),
                    }
                }
            }
            "-v" => {
                wanted.format = match arguments.next() {
                    Some("brief") => Format::Brief,
                    Some("epoch") => Format::Epoch,
                    Some("raw") => Format::Raw,
                    Some("threadtime") => Format::ThreadTime,
                    _ => bail!("{USAGE}"),
                };
            }
            _ if argument.starts_with('-') => bail!("'{argument}' is not known here\n{USAGE}"),
            filter => {
                let (tag, priority) = filter.split_once(':').unwrap_or((filter, "V"));
                let priority = priority.chars().next().unwrap_or('V');
                if tag == "*" {
                    wanted.others = priority;
                } else {
                    wanted.filters.push((tag.to_owned(), priority));
                }
            }
        }
    }
    if wanted.buffers.is_empty() {
        // Main, system, crash.
        wanted.buffers = vec![0, 3, 4];
    }
    Ok(wanted)
}

impl Wanted {
    fn admits(&self, record: &Record) -> bool {
        let filter = self.filters.iter().rev().find(|(tag, _)| *tag == record.tag);
        let least = filter.map_or(self.others, |(_, least)| *least);
        let grave = |priority| PRIORITIES.find(priority);
        self.buffers.contains(&record.buffer) && grave(record.priority) >= grave(least)
    }
}

impl Format {
    fn line(self, pid: i32, record: &Record) -> String {
        let Record { tid, secs, nanos, priority, tag, message, .. } = record;
        match self {
            Self::Raw => message.clone(),
            Self::Brief => format!("{priority}/{tag:<8}({pid:5}): {message}"),
            Self::Epoch => {
                let millis = nanos / 1_000_000;
                format!("{secs:>19}.{millis:03} {pid:5} {tid:5} {priority} {tag:<8}: {message}")
            }
            Self::ThreadTime => {
                format!("{} {pid:5} {tid:5} {priority} {tag:<8}: {message}", time(*secs, *nanos))
            }
        }
    }
}

/// Month, day and time of day, UTC.
fn time(secs: u32, nanos: u32) -> String {
    let (mut day, rest) = (secs / 86_400, secs % 86_400);
    // No other rule matters before 2100.
    let leap = |year: u32| year.is_multiple_of(4);
    let mut year = 1970;
    while day >= 365 + u32::from(leap(year)) {
        day -= 365 + u32::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let millis = nanos / 1_000_000;
    format!("{month:02}-{:02} {hour:02}:{minute:02}:{second:02}.{millis:03}", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(line: &str) -> Result<Wanted> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn record(buffer: usize, priority: char, tag: &str) -> Record {
        let (tag, message) = (tag.to_owned(), "hello".to_owned());
        Record { buffer, tid: 7, secs: 1_793_000_000, nanos: 5_000_000, priority, tag, message }
    }

    #[test]
    fn filters_are_logcats() {
        let admits = |line, buffer, priority, tag| {
            wanted(line).unwrap().admits(&record(buffer, priority, tag))
        };
        assert!(admits("-d", 0, 'D', "x"));
        assert!(!admits("-d", 2, 'I', "killinfo"));
        assert!(admits("-d -b all", 2, 'I', "killinfo"));
        assert!(!admits("-d -s x", 0, 'E', "y"));
        assert!(admits("-d -s x:W", 0, 'E', "x"));
        assert!(!admits("-d -s x:W", 0, 'I', "x"));
        assert!(!admits("-d x:I *:S", 0, 'I', "y"));
        assert!(wanted("-z").is_err());
    }

    #[test]
    fn a_line_looks_as_on_android() {
        let record = record(0, 'I', "lowmemorykiller");
        assert_eq!(
            Format::ThreadTime.line(42, &record),
            "10-26 07:33:20.005    42     7 I lowmemorykiller: hello"
        );
        assert_eq!(Format::Brief.line(42, &record), "I/lowmemorykiller(   42): hello");
    }
}
