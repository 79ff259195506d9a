//! Where event records go: logd's socket on Android, a stream of JSON lines elsewhere if wanted.

use super::killinfo;
use super::text::Text;
use super::KillInfo;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::time::ClockId;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// The socket of logd that takes records from any process.
pub const LOGD_SOCKET: &str = "/dev/socket/logdw";

/// The buffer of binary events: `LOG_ID_EVENTS`.
const LOG_ID_EVENTS: u8 = 2;
/// Log id, thread id, seconds, nanoseconds: `android_log_header_t`, packed.
pub(crate) const HEADER: usize = 1 + 2 + 4 + 4;

/// The longest record as text: names of at most 17 letters, numbers of at most 11, four marks each.
const LONGEST_LINE: usize = killinfo::COUNT * 32 + 2;

/// A sink for records. Writing to it neither blocks nor allocates; a record that does not get out
/// at once is lost.
#[derive(Debug, Default)]
pub enum EventLog {
    /// Nobody wants records.
    #[default]
    Off,
    /// Records go to logd.
    Logd(Logd),
    /// Records go to a file or stream, as a JSON object a line.
    Json(OwnedFd),
}

/// A connection to logd, made anew after logd was restarted.
#[derive(Debug)]
pub struct Logd {
    address: SocketAddrUnix,
    socket: Option<OwnedFd>,
}

impl EventLog {
    /// A log at logd, usually [`LOGD_SOCKET`].
    ///
    /// # Errors
    ///
    /// ENAMETOOLONG if `path` cannot be a socket's. That logd does not listen yet is no error.
    pub fn logd(path: &Path) -> Result<Self, Errno> {
        let address = SocketAddrUnix::new(path)?;
        let socket = connect(&address).ok();
        Ok(Self::Logd(Logd { address, socket }))
    }

    /// Writes the record of a kill.
    ///
    /// # Errors
    ///
    /// What kept it from getting out: EAGAIN if its reader is too slow, ECONNREFUSED or ENOENT if
    /// logd is not there.
    pub fn write(&mut self, info: &KillInfo) -> Result<(), Errno> {
        match self {
            Self::Off => Ok(()),
            Self::Logd(logd) => logd.send(&datagram(info)),
            Self::Json(out) => {
                let mut line = Text::<LONGEST_LINE>::new();
                writeln!(line, "{info}").map_err(|_| Errno::NOBUFS)?;
                rustix::io::write(&*out, line.as_bytes()).map(drop)
            }
        }
    }
}

impl Logd {
    fn send(&mut self, datagram: &[u8]) -> Result<(), Errno> {
        if let Some(socket) = &self.socket {
            match rustix::net::send(socket, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::CONNRESET) => self.socket = None,
                Err(error) => return Err(error),
            }
        }
        let socket = self.socket.insert(connect(&self.address)?);
        rustix::net::send(socket, datagram, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)
    }
}

fn connect(address: &SocketAddrUnix) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    Ok(socket)
}

/// The record with its header.
fn datagram(info: &KillInfo) -> [u8; HEADER + killinfo::SIZE] {
    let mut datagram = [0; HEADER + killinfo::SIZE];
    let (head, record) = datagram.split_at_mut(HEADER);
    head.copy_from_slice(&header(LOG_ID_EVENTS));
    record.copy_from_slice(&info.encode());
    datagram
}

/// The header that logd expects, which is stamped with the wall clock.
pub(crate) fn header(log_id: u8) -> [u8; HEADER] {
    let now = rustix::time::clock_gettime(ClockId::Realtime);
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    header_of(log_id, tid, now.tv_sec, now.tv_nsec)
}

/// Numbers in little-endian order; of the thread's id there is room for 16 bits, as liblog fills
/// them.
fn header_of(log_id: u8, tid: i32, secs: i64, nanos: i64) -> [u8; HEADER] {
    let [low, high, ..] = tid.to_le_bytes();
    let secs = u32::try_from(secs).unwrap_or(0);
    let nanos = u32::try_from(nanos).unwrap_or(0);
    let mut header = [0; HEADER];
    header[..3].copy_from_slice(&[log_id, low, high]);
    header[3..7].copy_from_slice(&secs.to_le_bytes());
    header[7..].copy_from_slice(&nanos.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::super::killinfo::tests::numbered;
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixDatagram;

    /// A socket path that no other test has.
    fn socket_path(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("lmkd-{name}-{}", std::process::id()))
    }

    #[test]
    fn the_header_has_the_bytes_that_liblog_would_send() {
        // 2025-11-23T12:56:24.123456789Z, thread 74565 (0x12345).
        let header = header_of(LOG_ID_EVENTS, 0x12345, 1_763_902_584, 123_456_789);
        assert_eq!(header, *b"\x02\x45\x23\x78\x04\x23\x69\x15\xcd\x5b\x07");
    }

    #[test]
    fn logd_gets_header_and_record_in_one_datagram() {
        let path = socket_path("logdw");
        let server = UnixDatagram::bind(&path).unwrap();
        EventLog::logd(&path).unwrap().write(&numbered()).unwrap();
        let mut bytes = [0; 1024];
        let len = server.recv(&mut bytes).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(len, 207);
        assert_eq!(bytes[0], 2);
        assert_eq!(bytes[11..len], numbered().encode());
    }

    #[test]
    fn a_record_after_a_restart_of_logd_arrives() {
        let path = socket_path("logdw-restart");
        let mut log = EventLog::logd(&path).unwrap();
        assert_eq!(log.write(&numbered()), Err(Errno::NOENT));
        let first = UnixDatagram::bind(&path).unwrap();
        log.write(&numbered()).unwrap();
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        log.write(&numbered()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(second.recv(&mut [0; 1024]).unwrap(), 207);
    }

    #[test]
    fn a_logd_that_does_not_read_loses_records_and_holds_up_nobody() {
        let path = socket_path("logdw-full");
        let server = UnixDatagram::bind(&path).unwrap();
        let mut log = EventLog::logd(&path).unwrap();
        let full = (0..100_000).find_map(|_| log.write(&numbered()).err());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(full, Some(Errno::AGAIN));
        drop(server);
    }

    #[test]
    fn elsewhere_a_record_is_a_line_of_json_and_the_longest_fits() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut log = EventLog::Json(writer.into());
        let longest = KillInfo { page: crate::units::PageSize::from_bytes(1 << 60), ..numbered() };
        log.write(&longest).unwrap();
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert!(text.starts_with('{') && text.ends_with("}\n"), "{text}");
    }
}
