//! A client of the operator's socket: blocking calls, typed.

use super::frame;
use super::frame::TearCause;
use super::record::Entry;
use super::record::Header;
use super::record::Record;
use super::record::Unreadable;
use super::recording::check_magic;
use super::recording::ReadError;
use super::recording::MAGIC;
use super::settings::Settings;
use super::status::Status;
use super::wire::Request;
use super::wire::PACKET_MAX;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than the daemon ever takes to answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens at this path, or it may not be connected to.
    Connect(PathBuf, Errno),
    /// The daemon refuses, and says why.
    Refused(String),
    /// The daemon speaks another version, or is no lmkd.
    Format(ReadError),
    /// A record is damaged.
    Torn(TearCause),
    /// The connection failed.
    Io(Errno),
    /// Nothing came in time.
    Late,
    /// The daemon hung up.
    Closed,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(path, error) => {
                write!(f, "cannot connect to {}: {error}", path.display())?;
                match *error {
                    Errno::NOENT | Errno::CONNREFUSED => write!(f, "; no daemon runs there"),
                    Errno::ACCESS => write!(f, "; it is for root and the daemon's user"),
                    _ => Ok(()),
                }
            }
            Self::Refused(why) => write!(f, "the daemon refuses: {why}"),
            Self::Format(error) => write!(f, "the daemon's answer is not understood: {error}"),
            Self::Torn(cause) => write!(f, "the daemon's answer is damaged: {cause}"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
            Self::Late => write!(
                f,
                "no answer within {} s; the daemon is stopped, stuck or gets no CPU",
                PATIENCE.as_secs()
            ),
            Self::Closed => f.write_str("the daemon closed the connection"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<Errno> for ClientError {
    fn from(error: Errno) -> Self {
        Self::Io(error)
    }
}

/// A connection to the operator's socket.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    greeting: Entry,
    raw_greeting: Vec<u8>,
    packet: Vec<u8>,
    waiting: VecDeque<Entry>,
}

impl Client {
    /// Connects, and reads the daemon's header.
    ///
    /// # Errors
    ///
    /// Nobody listens, the daemon refuses this user, or it speaks another version.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let failed = |error| ClientError::Connect(path.to_owned(), error);
        let flags = SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None);
        let socket = socket.map_err(failed)?;
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        let mut packet = vec![0; PACKET_MAX];
        let len = receive(&socket, &mut packet, Some(PATIENCE))?;
        let bytes = packet.get(..len).unwrap_or(&[]);
        check_magic(bytes).map_err(ClientError::Format)?;
        let mut waiting = entries(bytes.get(MAGIC.len()..).unwrap_or(&[]))?;
        let greeting = waiting.pop_front().ok_or(ClientError::Closed)?;
        match &greeting.record {
            Record::Header(_) => {}
            Record::Refused(refused) => return Err(ClientError::Refused(refused.why.to_string())),
            _ => return Err(ClientError::Format(ReadError::NoHeader(None))),
        }
        let raw_greeting = bytes.to_vec();
        Ok(Self { socket, greeting, raw_greeting, packet, waiting })
    }

    /// What the daemon says of itself, with the moment that its two clocks belong to.
    #[must_use]
    pub fn greeting(&self) -> &Entry {
        &self.greeting
    }

    /// What the daemon says of itself.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        match &self.greeting.record {
            Record::Header(header) => Some(header),
            _ => None,
        }
    }

    /// Asks. What an earlier request has left is thrown away only if its end was read.
    ///
    /// # Errors
    ///
    /// The connection failed.
    pub fn request(&mut self, request: Request) -> Result<(), ClientError> {
        rustix::net::send(&self.socket, &request.encode(), SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next record of an answer; None at its end. Records of kinds that are not known and need
    /// not be are left out.
    ///
    /// # Errors
    ///
    /// The daemon refuses, nothing comes in time, or the connection failed.
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Option<Entry>, ClientError> {
        loop {
            match self.waiting.pop_front() {
                Some(Entry { record: Record::End(_), .. }) => return Ok(None),
                Some(Entry { record: Record::Refused(refused), .. }) => {
                    return Err(ClientError::Refused(refused.why.to_string()));
                }
                Some(entry) => return Ok(Some(entry)),
                None => {
                    let len = receive(&self.socket, &mut self.packet, patience)?;
                    self.waiting = entries(self.packet.get(..len).unwrap_or(&[]))?;
                }
            }
        }
    }

    /// Waits until the daemon has sent something, or the time is up, or nobody can read any more what is written to
    /// `reader`: whether it is that. One who waits in vain would keep a place of the few that the daemon has for
    /// operators.
    ///
    /// # Errors
    ///
    /// Those of poll(2).
    pub fn reader_goes(
        &self,
        reader: BorrowedFd<'_>,
        patience: Option<Duration>,
    ) -> Result<bool, ClientError> {
        let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
        let mut fds = [
            PollFd::new(&self.socket, PollFlags::IN),
            PollFd::from_borrowed_fd(reader, PollFlags::empty()),
        ];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))?;
        let [_, reader] = fds.map(|fd| fd.revents());
        Ok(reader.intersects(PollFlags::ERR | PollFlags::HUP))
    }

    /// The settings in force and the state of the daemon.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub fn status(&mut self) -> Result<(Settings, Status), ClientError> {
        self.request(Request::Status)?;
        let (mut settings, mut status) = (None, None);
        while let Some(entry) = self.next(Some(PATIENCE))? {
            match entry.record {
                Record::Settings(body) => settings = Some(*body),
                Record::Status(body) => status = Some(*body),
                _ => {}
            }
        }
        settings.zip(status).ok_or(ClientError::Closed)
    }

    /// Everything in the ring.
    ///
    /// # Errors
    ///
    /// As [`Self::next`].
    pub fn dump(&mut self) -> Result<Vec<Entry>, ClientError> {
        self.request(Request::Dump)?;
        let mut all = Vec::new();
        while let Some(entry) = self.next(Some(PATIENCE))? {
            all.push(entry);
        }
        Ok(all)
    }

    /// Writes an answer as a recording: with [`Request::Dump`] everything in the ring and the state of
    /// the daemon, with [`Request::Follow`] what the daemon records until it hangs up. Returns how many bytes the
    /// recording has. `reader` is a pipe or terminal that `out` writes to: one whose other end is gone is a broken pipe
    /// at once, not only when there is something to write.
    ///
    /// # Errors
    ///
    /// As [`Self::next`]; or those of the writer, within the `Ok`.
    pub fn copy_to(
        &mut self,
        request: Request,
        out: &mut dyn Write,
        reader: Option<BorrowedFd<'_>>,
    ) -> Result<io::Result<u64>, ClientError> {
        self.request(request)?;
        let patience = (request == Request::Dump).then_some(PATIENCE);
        let mut rest = (request == Request::Dump).then_some(Request::Status);
        let mut written = match out.write_all(&self.raw_greeting) {
            Ok(()) => u64::try_from(self.raw_greeting.len()).unwrap_or(0),
            Err(error) => return Ok(Err(error)),
        };
        loop {
            if let (None, Some(reader)) = (patience, reader) {
                if self.reader_goes(reader, None)? {
                    return Ok(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
            let len = receive(&self.socket, &mut self.packet, patience)?;
            let bytes = self.packet.get(..len).unwrap_or(&[]);
            let end = entries(bytes)?.into_iter().find_map(|entry| match entry.record {
                Record::End(_) => Some(Ok(())),
                Record::Refused(refused) => Some(Err(refused.why.to_string())),
                _ => None,
            });
            match end {
                // The end has a packet of its own.
                Some(Ok(())) => match rest.take() {
                    Some(request) => self.request(request)?,
                    None => return Ok(Ok(written)),
                },
                Some(Err(why)) => return Err(ClientError::Refused(why)),
                None => {
                    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
                        return Ok(Err(error));
                    }
                    written = written.saturating_add(u64::try_from(len).unwrap_or(0));
                }
            }
        }
    }
}

impl AsFd for Client {
    /// Readable when a packet has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(
    socket: &OwnedFd,
    packet: &mut [u8],
    patience: Option<Duration>,
) -> Result<usize, ClientError> {
    let timeout = patience.and_then(|patience| Timespec::try_from(patience).ok());
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, timeout.as_ref()))? == 0 {
        return Err(ClientError::Late);
    }
    match rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut *packet, RecvFlags::empty()))?
    {
        (0, _) => Err(ClientError::Closed),
        (len, _) => Ok(len),
    }
}

fn entries(mut bytes: &[u8]) -> Result<VecDeque<Entry>, ClientError> {
    let mut entries = VecDeque::new();
    while !bytes.is_empty() {
        let frame = frame::first(bytes).map_err(ClientError::Torn)?;
        match Entry::read(&frame) {
            Ok(Some(entry)) => entries.push_back(entry),
            Ok(None) => {}
            Err(Unreadable::Kind(kind)) => {
                return Err(ClientError::Format(ReadError::Kind { kind, offset: 0 }));
            }
            Err(Unreadable::Torn(cause)) => return Err(ClientError::Torn(cause)),
        }
        bytes = bytes.get(frame.bytes.len()..).unwrap_or(&[]);
    }
    Ok(entries)
}
