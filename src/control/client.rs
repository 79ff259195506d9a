//! A client of the daemon: blocking calls, typed.
//!
//! ```
//! # use lmkd::control::{handover, server::*, wire};
//! # let path = std::env::temp_dir().join(format!("lmkd-doc-{}.sock", std::process::id()));
//! # let mut server = Server::new(handover::open(&path)?)?;
//! # let daemon = std::thread::spawn(move || {
//! #     let id = loop {
//! #         match server.accept().unwrap() {
//! #             Accepted::Client(id) => break id,
//! #             _ => std::thread::yield_now(),
//! #         }
//! #     };
//! #     let mut inbox = Inbox::new();
//! #     loop {
//! #         let received: Vec<_> = server.receive(id, &mut inbox, RECEIVED_MAX).collect();
//! #         for received in received {
//! #             let Received::Packet { datagram, .. } = received else { return };
//! #             if let Ok(wire::Request::GetKillCnt(_)) = wire::Request::decode(datagram) {
//! #                 server.send(id, &wire::reply(wire::Command::GetKillCnt, 7));
//! #             }
//! #         }
//! #         std::thread::yield_now();
//! #     }
//! # });
//! use lmkd::control::client::Client;
//! use lmkd::control::wire::{KillCount, ProcPrio, ProcType};
//! use lmkd::oom_score_adj::OomScoreAdj;
//! use lmkd::processes::Pid;
//!
//! let mut client = Client::connect(&path)?;
//! let cached = OomScoreAdj::new(900).ok_or("not an oom_score_adj")?;
//! let pid = Pid::new(1234).ok_or("not a pid")?;
//! client.register(&ProcPrio { pid, uid: 10_001, adj: cached, kind: ProcType::App })?;
//! // A question with an answer: once it is here, all commands before it have been executed.
//! assert_eq!(client.kill_count(KillCount::Total)?, 7);
//! client.unregister(pid)?;
//! # drop(client);
//! # daemon.join().unwrap();
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::wire::Command;
use super::wire::Event;
use super::wire::KillCount;
use super::wire::KillNotice;
use super::wire::KillStat;
use super::wire::Message;
use super::wire::Packet;
use super::wire::ProcPrio;
use super::wire::Request;
use super::wire::Targets;
use super::wire::BATCH_MAX;
use crate::processes::Pid;
use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

/// Longer than any packet there is, so that none is cut: the widest known form of the statistics
/// packet has 230 bytes.
const MESSAGE_MAX: usize = 256;
/// Events kept while a reply is awaited; the oldest goes first.
const EVENTS_MAX: usize = 1024;

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// The daemon cannot be reached at this path.
    Connect(PathBuf, Errno),
    /// The command could not be sent.
    Send(Errno),
    /// The reply could not be received; with a timeout, EAGAIN says that it ended.
    Receive(Errno),
    /// The daemon hung up.
    Closed,
    /// What came is nothing that a daemon sends.
    Format(Vec<u8>),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(path, error) => {
                write!(f, "cannot connect to {}: {error}", path.display())
            }
            Self::Send(error) => write!(f, "cannot send: {error}"),
            Self::Receive(Errno::AGAIN) => f.write_str("no answer in time"),
            Self::Receive(error) => write!(f, "cannot receive: {error}"),
            Self::Closed => f.write_str("the daemon closed the connection"),
            Self::Format(bytes) => write!(f, "unexpected packet {bytes:02x?}"),
        }
    }
}

impl std::error::Error for ClientError {}

/// A packet that comes unasked, after [`Client::subscribe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillEvent {
    /// A process was killed.
    Killed(KillNotice),
    /// Statistics of a kill.
    Stat {
        /// The numbers.
        stat: KillStat,
        /// The process's name.
        name: Vec<u8>,
    },
}

/// The answer to [`Client::boot_completed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootAnswer {
    /// Done.
    Done,
    /// It was done before.
    AlreadyHandled,
    /// The daemon does not see a booted device.
    NotBooted,
}

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    events: VecDeque<KillEvent>,
    /// What was asked and not answered yet, in order, as the daemon answers.
    asked: VecDeque<Command>,
}

impl Client {
    /// Connects to the daemon's socket; [`super::handover::default_path`] says where it is.
    ///
    /// # Errors
    ///
    /// There is no such socket, nobody answers, or it is not for this user.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let failed = |error| ClientError::Connect(path.to_owned(), error);
        let address = SocketAddrUnix::new(path).map_err(failed)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(failed)?;
        rustix::net::connect(&socket, &address).map_err(failed)?;
        Ok(Self { socket, events: VecDeque::new(), asked: VecDeque::new() })
    }

    /// Waits at most this long for the daemon in every later call; None, the default, waits for
    /// ever.
    ///
    /// # Errors
    ///
    /// EINVAL for a zero duration.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> Result<(), Errno> {
        use rustix::net::sockopt::set_socket_timeout;
        use rustix::net::sockopt::Timeout;
        set_socket_timeout(&self.socket, Timeout::Recv, timeout)?;
        set_socket_timeout(&self.socket, Timeout::Send, timeout)
    }

    /// Registers a process, or changes its oom_score_adj. There is no answer; ask for a kill count
    /// to know that the command has been executed.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`].
    pub fn register(&mut self, process: &ProcPrio) -> Result<(), ClientError> {
        self.send(Request::ProcPrio(*process).encode().as_bytes())
    }

    /// Registers any number of processes, three a packet.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`]; earlier packets may have been sent.
    pub fn register_all(&mut self, processes: &[ProcPrio]) -> Result<(), ClientError> {
        processes
            .chunks(BATCH_MAX)
            .try_for_each(|some| self.send(Packet::procs_prio(some).as_bytes()))
    }

    /// Takes a process out of the kill order.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`].
    pub fn unregister(&mut self, pid: Pid) -> Result<(), ClientError> {
        self.request(&Request::ProcRemove(pid))
    }

    /// Forgets all processes of this connection and all that no connection claims.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`].
    pub fn purge(&mut self) -> Result<(), ClientError> {
        self.request(&Request::ProcPurge)
    }

    /// Sets the minfree levels.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`].
    pub fn set_targets(&mut self, targets: &Targets) -> Result<(), ClientError> {
        self.request(&Request::Target(*targets))
    }

    /// Asks for events; [`Self::next_event`] hands them out.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`].
    pub fn subscribe(&mut self, event: Event) -> Result<(), ClientError> {
        self.request(&Request::Subscribe(event))
    }

    /// Makes the daemon watch memory pressure, if that was put off until after boot.
    ///
    /// # Errors
    ///
    /// [`ClientError::Send`].
    pub fn start_monitoring(&mut self) -> Result<(), ClientError> {
        self.request(&Request::StartMonitoring)
    }

    /// How many processes were killed.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`] but Connect.
    pub fn kill_count(&mut self, which: KillCount) -> Result<u32, ClientError> {
        self.ask(Command::GetKillCnt, &Request::GetKillCnt(which)).map(i32::cast_unsigned)
    }

    /// Makes the daemon read its properties again; whether it could use them.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`] but Connect.
    pub fn update_props(&mut self) -> Result<bool, ClientError> {
        Ok(self.ask(Command::UpdateProps, &Request::UpdateProps)? == 0)
    }

    /// Tells the daemon that the boot is completed.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`] but Connect.
    pub fn boot_completed(&mut self) -> Result<BootAnswer, ClientError> {
        Ok(match self.ask(Command::BootCompleted, &Request::BootCompleted)? {
            0 => BootAnswer::Done,
            1 => BootAnswer::AlreadyHandled,
            _ => BootAnswer::NotBooted,
        })
    }

    /// The next event, in the order of arrival: one that came while a reply was awaited, or else
    /// waits for one.
    ///
    /// # Errors
    ///
    /// Any [`ClientError`] but Connect and Send.
    pub fn next_event(&mut self) -> Result<KillEvent, ClientError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.receive()?;
        }
    }

    fn request(&self, request: &Request<'_>) -> Result<(), ClientError> {
        self.send(request.encode().as_bytes())
    }

    fn send(&self, packet: &[u8]) -> Result<(), ClientError> {
        loop {
            match rustix::net::send(&self.socket, packet, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                result => return result.map(|_| ()).map_err(ClientError::Send),
            }
        }
    }

    /// Sends a request and waits for its answer; late answers to requests that were given up are
    /// dropped.
    fn ask(&mut self, command: Command, request: &Request<'_>) -> Result<i32, ClientError> {
        self.request(request)?;
        self.asked.push_back(command);
        loop {
            match self.receive()? {
                Some(value) if self.asked.is_empty() => return Ok(value),
                _ => {}
            }
        }
    }

    /// Takes one packet: a reply is returned, an event is kept.
    fn receive(&mut self) -> Result<Option<i32>, ClientError> {
        let mut buffer = [0; MESSAGE_MAX];
        let len = loop {
            match rustix::net::recv(&self.socket, &mut buffer, RecvFlags::empty()) {
                Ok((len, _)) => break len,
                // A daemon that died with packets of ours unread: told once, before what it had
                // sent, and the end after that.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(error) => return Err(ClientError::Receive(error)),
            }
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        if bytes.is_empty() {
            return Err(ClientError::Closed);
        }
        let event = match Message::decode(bytes) {
            Some(Message::Reply { command, value }) => {
                // An answer that is missing before this one has been lost.
                if let Some(place) = self.asked.iter().position(|asked| *asked == command) {
                    self.asked.drain(..=place);
                }
                return Ok(Some(value));
            }
            Some(Message::Killed(notice)) => KillEvent::Killed(notice),
            Some(Message::Stat(stat, name)) => KillEvent::Stat { stat, name: name.to_vec() },
            None => return Err(ClientError::Format(bytes.to_vec())),
        };
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
        Ok(None)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
