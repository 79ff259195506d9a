//! The scribe: a thread of ordinary priority that reads the rings for others.
//!
//! ```text
//! loop --writes--> rings --copies--> scribe --> clients of the operator's socket, a file
//!      --bell if somebody wants it-->       <-- requests, each on a connection of its own
//!      <--call: an operator wants the status--
//! ```
//!
//! The loop waits for nothing here. With nobody connected and no kill to be written the scribe
//! sleeps.

pub(super) mod answer;
mod client;
mod file;

use super::frame;
use super::frame::Body;
use super::journal::Interest;
use super::journal::Journal;
use super::journal::Shared;
use super::record::Header;
use super::recording::MAGIC;
use super::ring::Cursor;
use super::wire::PACKET_MAX;
use crate::clock::MonoTime;
use crate::sys::socket;
use client::Client;
use file::RecordFile;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// Most operators at a time.
const CLIENTS_MAX: usize = 8;

/// A status is asked of the loop no more often than this, ms.
const STATUS_SPACING_MS: i64 = 50;

/// When accepting fails, as it does without descriptors, it is not tried again before, ms. The
/// listener stays readable meanwhile.
const DEAF_MS: i64 = 1000;

/// What the scribe is to do.
#[derive(Debug)]
pub struct Duties {
    /// The operator's socket, bound; None if there is none.
    pub listener: Option<OwnedFd>,
    /// Users that may ask, beside root.
    pub users: Vec<u32>,
    /// A file that is kept: written after each kill, rotated.
    pub file: Option<PathBuf>,
    /// Where SIGUSR1 writes to if no file is kept.
    pub dump: Option<PathBuf>,
    /// What recordings begin with; its clock is set for each.
    pub header: Header,
}

/// The thread.
struct Scribe {
    shared: Arc<Shared>,
    duties: Duties,
    clients: [Option<Client>; CLIENTS_MAX],
    file: Option<RecordFile>,
    packet: Packet,
    last_asked: Option<MonoTime>,
    /// Nobody is accepted before: the last attempt failed.
    deaf_until: MonoTime,
}

impl Journal {
    /// Starts the scribe. The thread has the scheduling class of the caller.
    ///
    /// # Errors
    ///
    /// No thread is to be had, or the socket cannot listen.
    pub fn start_scribe(&self, duties: Duties) -> std::io::Result<()> {
        if let Some(listener) = &duties.listener {
            let flags = rustix::fs::fcntl_getfl(listener)?;
            rustix::fs::fcntl_setfl(listener, flags | rustix::fs::OFlags::NONBLOCK)?;
            rustix::net::listen(listener, 8)?;
        }
        let shared = Arc::clone(&self.shared);
        let file = duties.file.clone().map(|path| RecordFile::new(path, shared.history.size()));
        let scribe = Scribe {
            shared,
            duties,
            clients: Default::default(),
            file,
            packet: Packet::default(),
            last_asked: None,
            deaf_until: MonoTime::ZERO,
        };
        std::thread::Builder::new().name("lmkd_scribe".to_owned()).spawn(move || scribe.run())?;
        Ok(())
    }
}

impl Scribe {
    fn run(mut self) {
        if let Some(file) = &mut self.file {
            file.check(&mut self.packet, &self.shared, &self.duties.header);
        }
        loop {
            self.settle();
            if let Err(error) = self.wait() {
                log::error!("the scribe cannot wait, and ends: {error}");
                let _ = self.shared.want(Interest::None);
                return;
            }
            self.shared.silence();
            let ending = self.shared.is_ending();
            self.serve();
            self.shared.passed_on(ending);
        }
    }

    /// Says what the bell is to be rung for, and serves once more if that is news: what was written
    /// until then rang no bell.
    fn settle(&mut self) {
        if self.say_interest() {
            self.serve();
            self.say_interest();
        }
    }

    /// Whether there is more to be told of than before.
    fn say_interest(&self) -> bool {
        let follows = self.clients.iter().flatten().any(Client::follows);
        let interest = match (follows, &self.file) {
            (true, _) => Interest::All,
            (false, Some(_)) => Interest::Kills,
            (false, None) => Interest::None,
        };
        self.shared.want(interest) != interest
    }

    /// Sleeps until there is something to do.
    fn wait(&self) -> Result<(), Errno> {
        let now = MonoTime::now();
        let due = self.clients.iter().flatten().filter_map(Client::due);
        let deaf = Some(self.deaf_until).filter(|until| *until > now);
        let due = due.chain(self.next_question()).chain(deaf).min();
        let timeout = due.map(|due| {
            let millis = due.micros_since(now).div_ceil(1000);
            let millis = i64::try_from(millis).unwrap_or(i64::MAX);
            Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 }
        });
        let bell = PollFd::from_borrowed_fd(self.shared.bell(), PollFlags::IN);
        let listener = self.duties.listener.as_ref().filter(|_| deaf.is_none());
        let listener = listener.map(|listener| PollFd::new(listener, PollFlags::IN));
        let clients = self.clients.iter().flatten().map(|client| {
            let wanted = if client.is_blocked() { PollFlags::OUT } else { PollFlags::IN };
            PollFd::from_borrowed_fd(client.as_fd(), wanted)
        });
        let mut fds: Vec<_> = [Some(bell), listener].into_iter().flatten().chain(clients).collect();
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Does whatever can be done without waiting.
    fn serve(&mut self) {
        self.accept();
        let now = MonoTime::now();
        let (shared, header) = (&self.shared, &self.duties.header);
        let packet = &mut self.packet;
        for place in &mut self.clients {
            if place.as_mut().is_some_and(|client| !client.serve(shared, header, packet, now)) {
                *place = None;
            }
        }
        if self.next_question().is_some_and(|due| due <= now) {
            self.last_asked = Some(now);
            for client in self.clients.iter_mut().flatten() {
                client.question_is_asked();
            }
            self.shared.ask_status();
        }
        let wanted = self.shared.take_file_wanted();
        if let Some(file) = &mut self.file {
            file.follow(&mut self.packet, &self.shared, &self.duties.header, wanted);
        } else if wanted {
            self.dump();
        }
    }

    /// When a status that a client waits for may be asked of the loop.
    fn next_question(&self) -> Option<MonoTime> {
        let waits = self.clients.iter().flatten().any(Client::has_question);
        let due = self.last_asked.map(|at| at.plus_millis(STATUS_SPACING_MS));
        waits.then(|| due.unwrap_or(MonoTime::ZERO))
    }

    fn accept(&mut self) {
        let now = MonoTime::now();
        let Some(listener) = self.duties.listener.as_ref().filter(|_| self.deaf_until <= now)
        else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return,
                // Whoever called has hung up.
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => {
                    log::warn!("an operator is not heard for {DEAF_MS}ms: {error}");
                    self.deaf_until = now.plus_millis(DEAF_MS);
                    return;
                }
            };
            let peer = socket::peer_credentials(socket.as_fd());
            let known =
                peer.is_ok_and(|peer| peer.uid == 0 || self.duties.users.contains(&peer.uid));
            let free = self.clients.iter_mut().find(|place| place.is_none());
            let refusal = match (&free, known) {
                (_, false) => "only root and the daemon's user may ask",
                (None, true) => "too many operators are connected",
                (Some(_), true) => "",
            };
            self.packet.greet(&self.duties.header, refusal);
            let mut client = Client::new(socket);
            if let (true, Some(place)) = (client.greet(&self.packet), free) {
                if refusal.is_empty() {
                    *place = Some(client);
                }
            }
        }
    }

    /// SIGUSR1, where no file is kept.
    fn dump(&mut self) {
        let Some(path) = self.duties.dump.clone() else {
            log::warn!(
                "SIGUSR1: no recording is written, there is no place for one on Android; ask with \
                 lmkctl record, or give a file with --record"
            );
            return;
        };
        let mut file = RecordFile::new(path, self.shared.history.size());
        file.write_once(&mut self.packet, &self.shared, &self.duties.header);
    }
}

/// Frames on their way out, in one buffer that is made when it is first used.
#[derive(Default)]
struct Packet {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Packet {
    /// Room for what precedes a copy of the ring.
    const LEAD: usize = 64;

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or(&[])
    }

    fn make_room(&mut self) {
        self.bytes.resize(PACKET_MAX, 0);
        (self.start, self.end) = (Self::LEAD, Self::LEAD);
    }

    /// The next frames of the ring; before them, how many are missing. False if there are none.
    fn fill(&mut self, ring: &super::ring::Ring, cursor: &mut Cursor) -> bool {
        self.make_room();
        let room = self.bytes.get_mut(Self::LEAD..).unwrap_or(&mut []);
        let mut chunk = ring.read(cursor, room);
        // The writer was faster however often it was tried: there is something all the same.
        while chunk.len == 0 && ring.has_more(cursor) {
            chunk = ring.read(cursor, room);
        }
        self.end = Self::LEAD.saturating_add(chunk.len);
        if chunk.lost > 0 {
            let mut buffer = [0; frame::LONGEST];
            let lost = super::record::Lost { records: chunk.lost };
            let len = frame::seal(&mut buffer, 0, MonoTime::now(), &lost).unwrap_or(0);
            self.start = Self::LEAD.saturating_sub(len);
            if let (Some(to), Some(from)) =
                (self.bytes.get_mut(self.start..Self::LEAD), buffer.get(..len))
            {
                to.copy_from_slice(from);
            }
        }
        chunk.len > 0
    }

    /// How many records it has.
    fn records(&self) -> u64 {
        let mut rest = self.bytes();
        let mut records: u64 = 0;
        while let Ok(frame) = frame::first(rest) {
            records = records.saturating_add(1);
            rest = rest.get(frame.bytes.len()..).unwrap_or(&[]);
        }
        records
    }

    /// What a recording or a connection begins with, or why there is none.
    fn greet(&mut self, header: &Header, refusal: &str) {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let wall_ns = wall.ok().and_then(|wall| u64::try_from(wall.as_nanos()).ok()).unwrap_or(0);
        if refusal.is_empty() {
            self.one(&Header { wall_ns, ..header.clone() });
        } else {
            self.refuse(refusal);
        }
        self.start = self.start.saturating_sub(MAGIC.len());
        let magic = self.bytes.get_mut(self.start..Self::LEAD);
        if let Some(magic) = magic.and_then(|lead| lead.first_chunk_mut()) {
            *magic = MAGIC;
        }
    }

    fn refuse(&mut self, why: &str) {
        self.one(&super::record::Refused { why: super::few::Text::new(why.as_bytes()) });
    }

    /// One record that is in no ring.
    fn one<B: Body>(&mut self, body: &B) {
        self.make_room();
        self.add(0, MonoTime::now(), body);
    }

    /// Another record; one that does not fit is left out.
    fn add<B: Body>(&mut self, seq: u64, at: MonoTime, body: &B) {
        let mut buffer = [0; frame::LONGEST];
        let len = frame::seal(&mut buffer, seq, at, body).unwrap_or(0);
        let end = self.end.saturating_add(len);
        if let (Some(to), Some(from)) = (self.bytes.get_mut(self.end..end), buffer.get(..len)) {
            to.copy_from_slice(from);
            self.end = end;
        }
    }
}

#[cfg(test)]
mod tests;
