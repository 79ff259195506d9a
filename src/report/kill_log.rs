//! The file of `--kill-log`.
//!
//! A write to a regular file waits for the disk, whatever its flags say. A thread of its own
//! does that, so that a disk that stalls holds up no kill.

use super::EventLog;
use rustix::fs::OFlags;
use rustix::net::AddressFamily;
use rustix::net::Shutdown;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::JoinHandle;

/// Longer than any record.
const RECORD_MAX: usize = 4096;

/// An open file, and the thread that writes to it if it is one that can stall.
#[derive(Debug)]
pub struct KillLog {
    /// The file, or a socket whose other end the thread has; a write never waits.
    sink: OwnedFd,
    writer: Option<JoinHandle<()>>,
}

impl KillLog {
    /// Opens the file to append to it, and makes it if need be.
    ///
    /// # Errors
    ///
    /// Those of open(2), and what keeps a thread from being started.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            // A pipe or terminal that nobody reads loses records instead of stopping the loop.
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_fifo() || kind.is_char_device() {
            return Ok(Self { sink: file.into(), writer: None });
        }
        Self::behind_a_thread(file)
    }

    fn behind_a_thread(file: File) -> io::Result<Self> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (sink, records) = rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None)?;
        rustix::fs::fcntl_setfl(&sink, OFlags::NONBLOCK)?;
        let writer = std::thread::Builder::new()
            .name("lmkd_kill_log".to_owned())
            .spawn(move || write_all(&records, file))?;
        Ok(Self { sink, writer: Some(writer) })
    }

    /// A sink for records, one of any number.
    ///
    /// # Errors
    ///
    /// EMFILE when descriptors run out.
    pub fn sink(&self) -> io::Result<EventLog> {
        self.sink.try_clone().map(EventLog::Json)
    }

    /// Waits until all records are written. The sinks take no more.
    pub fn finish(self) {
        if let Some(writer) = self.writer {
            let ended = rustix::net::shutdown(&self.sink, Shutdown::Write).is_ok();
            if ended && writer.join().is_err() {
                log::error!("event records of kills may be missing: their writer panicked");
            }
        }
    }
}

/// Writes each record to the file until no more can come.
fn write_all(records: &OwnedFd, mut file: File) {
    let mut buffer = [0; RECORD_MAX];
    let mut failed = false;
    while let Ok(len @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(records, &mut buffer)) {
        let written = file.write_all(buffer.get(..len).unwrap_or(&[]));
        match &written {
            Err(error) if !failed => log::warn!("event records of kills are lost: {error}"),
            _ => {}
        }
        failed = written.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::super::killinfo::tests::numbered;
    use super::*;
    use rustix::io::Errno;
    use std::io::Read;

    #[test]
    fn all_records_of_all_sinks_are_in_the_file_at_the_end() {
        let path = std::env::temp_dir().join(format!("lmkd-kill-log-{}", std::process::id()));
        let log = KillLog::open(&path).unwrap();
        let mut sinks = [log.sink().unwrap(), log.sink().unwrap()];
        for _ in 0..10 {
            for sink in &mut sinks {
                // The thread may be slower than this one.
                while sink.write(&numbered()) == Err(Errno::AGAIN) {
                    std::thread::yield_now();
                }
            }
        }
        log.finish();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text, format!("{}\n", numbered()).repeat(20));
        assert!(sinks[0].write(&numbered()).is_err());
    }

    #[test]
    fn a_file_that_takes_nothing_costs_records_and_no_time() {
        let (mut reader, stalled) = std::io::pipe().unwrap();
        let log = KillLog::behind_a_thread(File::from(OwnedFd::from(stalled))).unwrap();
        let mut sink = log.sink().unwrap();
        let full = (0..100_000).find_map(|_| sink.write(&numbered()).err());
        assert_eq!(full, Some(Errno::AGAIN));
        // It goes on once the file does.
        let rest = std::thread::spawn(move || reader.read_to_end(&mut Vec::new()));
        log.finish();
        assert!(rest.join().unwrap().unwrap() > 0);
    }

    #[test]
    fn a_pipe_is_written_without_a_thread() {
        let log = KillLog::open(Path::new("/dev/null")).unwrap();
        assert!(log.writer.is_none());
        log.sink().unwrap().write(&numbered()).unwrap();
        log.finish();
    }
}
