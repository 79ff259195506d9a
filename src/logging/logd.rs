//! Log lines to logd without bionic's liblog: on a stand-in for a device.

use super::line::Line;
use super::TAG;
use crate::report::event_log;
use crate::report::event_log::LOGD_SOCKET;
use log::Level;
use log::Log;
use log::Metadata;
use log::Record;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

/// The buffer of text lines: `LOG_ID_MAIN`.
const LOG_ID_MAIN: u8 = 0;

/// The longest datagram: header, priority, tag and its end, line.
const LONGEST: usize = event_log::HEADER + 1 + TAG.len() + 1 + Line::SIZE;

/// A logger that gives each line to logd, or loses it at once.
#[derive(Debug)]
struct Logd {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

/// Makes logd the log of this process, unless it has one already. Where no socket can be made
/// there is no log.
pub fn install() {
    static LOGGER: OnceLock<Logd> = OnceLock::new();
    if let Ok(logd) = Logd::new(Path::new(LOGD_SOCKET)) {
        let _ = log::set_logger(LOGGER.get_or_init(|| logd));
    }
}

impl Logd {
    fn new(path: &Path) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, address: SocketAddrUnix::new(path)? })
    }
}

impl Log for Logd {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let mut line = Line::new();
        // Writing to a line cannot fail; a message's own formatting can, and is then cut there.
        let _ = line.write_fmt(*record.args());
        let mut datagram = [0; LONGEST];
        let text = line.finish();
        let length = fill(&mut datagram, priority(record.level()), text);
        // Whoever logs does not wait for logd.
        let _ = rustix::net::sendto(
            &self.socket,
            datagram.get(..length).unwrap_or_default(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            &self.address,
        );
    }

    fn flush(&self) {}
}

/// `ANDROID_LOG_ERROR` and so on.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 6,
        Level::Warn => 5,
        Level::Info => 4,
        Level::Debug => 3,
        Level::Trace => 2,
    }
}

/// Puts header, priority, tag and message together, each text with a NUL at its end; that of the
/// message takes the place of the line's newline.
fn fill(datagram: &mut [u8; LONGEST], priority: u8, line: &[u8]) -> usize {
    let message = line.strip_suffix(b"\n").unwrap_or(line);
    let header = event_log::header(LOG_ID_MAIN);
    let mut length: usize = 0;
    for part in [&header[..], &[priority], TAG.as_bytes(), &[0], message, &[0]] {
        let end = length.saturating_add(part.len());
        if let Some(room) = datagram.get_mut(length..end) {
            room.copy_from_slice(part);
            length = end;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_line_reaches_logd_with_priority_and_tag() {
        let path = std::env::temp_dir().join(format!("lmkd-logdw-text-{}", std::process::id()));
        let server = UnixDatagram::bind(&path).unwrap();
        let logd = Logd::new(&path).unwrap();
        log::set_max_level(log::LevelFilter::Info);
        logd.log(&Record::builder().level(Level::Warn).args(format_args!("hello")).build());
        std::fs::remove_file(&path).unwrap();
        let mut bytes = [0; 100];
        let length = server.recv(&mut bytes).unwrap();
        assert_eq!(bytes[0], 0);
        assert_eq!(&bytes[11..length], b"\x05lowmemorykiller\0hello\0");
    }

    #[test]
    fn the_longest_line_fits() {
        let mut line = Line::new();
        line.write_str(&"x".repeat(2 * Line::SIZE)).unwrap();
        assert_eq!(fill(&mut [0; LONGEST], 4, line.finish()), LONGEST);
    }

    #[test]
    fn without_logd_a_line_is_lost_and_nothing_else_happens() {
        let logd = Logd::new(Path::new("/nowhere/logdw")).unwrap();
        logd.log(&Record::builder().level(Level::Error).args(format_args!("hello")).build());
    }
}
