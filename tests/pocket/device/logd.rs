//! logd: takes datagrams, keeps the latest, hands them out.

use anyhow::Context;
use anyhow::Result;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::io::Read;
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

/// Bytes kept: a small device keeps as much.
const KEPT: usize = 512 * 1024;
/// What a reader asks for, in one byte.
pub const DUMP: u8 = b'd';
pub const FOLLOW: u8 = b'f';
pub const CLEAR: u8 = b'c';

#[derive(Default)]
struct Log {
    records: VecDeque<Vec<u8>>,
    size: usize,
    followers: Vec<UnixStream>,
}

static LOG: Mutex<Log> =
    Mutex::new(Log { records: VecDeque::new(), size: 0, followers: Vec::new() });

/// `logd`, with both sockets from init.
pub fn run() -> Result<()> {
    let writers = from_init("logdw")?;
    let readers = UnixListener::from(from_init("logdr")?);
    thread::spawn(move || {
        for reader in readers.incoming().flatten() {
            thread::spawn(move || answer(reader));
        }
    });
    loop {
        let record = receive(&writers)?;
        with_log(|log| log.add(record));
    }
}

fn from_init(name: &str) -> Result<OwnedFd> {
    let number = std::env::var(format!("ANDROID_SOCKET_{name}")).context(name.to_owned())?;
    Ok(lmkd::sys::socket::adopt(number.parse()?)?)
}

fn with_log<T>(act: impl FnOnce(&mut Log) -> T) -> T {
    act(&mut LOG.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A record as it is handed out: length, pid of the writer, datagram.
fn receive(socket: &OwnedFd) -> Result<Vec<u8>> {
    let mut bytes = [0; 5000];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let length = rustix::net::recvmsg(socket, &mut parts, &mut control, flags)?.bytes;
    let pid = control
        .drain()
        .find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(who) => Some(who.pid.as_raw_nonzero().get()),
            _ => None,
        })
        .unwrap_or(0);
    let mut record = u32::try_from(length)?.to_le_bytes().to_vec();
    record.extend(pid.to_le_bytes());
    record.extend(&bytes[..length]);
    Ok(record)
}

impl Log {
    fn add(&mut self, record: Vec<u8>) {
        // A follower that does not read is let go.
        self.followers.retain_mut(|follower| follower.write_all(&record).is_ok());
        self.size += record.len();
        self.records.push_back(record);
        while self.size > KEPT {
            let Some(oldest) = self.records.pop_front() else { break };
            self.size -= oldest.len();
        }
    }
}

fn answer(mut reader: UnixStream) {
    let mut wanted = [0];
    let _ = reader.set_read_timeout(Some(Duration::from_secs(2)));
    let _ = reader.set_write_timeout(Some(Duration::from_secs(2)));
    if reader.read_exact(&mut wanted).is_err() {
        return;
    }
    match wanted[0] {
        CLEAR => with_log(|log| {
            log.records.clear();
            log.size = 0;
        }),
        FOLLOW => with_log(|log| {
            // Under the lock, so that no record is left out or handed out twice.
            if log.records.iter().all(|record| reader.write_all(record).is_ok()) {
                log.followers.push(reader);
            }
        }),
        _ => {
            let all = with_log(|log| log.records.iter().flatten().copied().collect::<Vec<u8>>());
            let _ = reader.write_all(&all);
        }
    }
}
