//! The daemon's end of the lmkd socket: a listener and up to [`CLIENTS_MAX`] connections.
//!
//! Nothing here waits for a client: accept, receive and send return at once, and a client that
//! does not read loses packets. The caller's loop waits on the descriptors. Sending allocates
//! nothing.

use super::wire::Event;
use super::wire::REQUEST_MAX;
use crate::processes::ClientId;
use crate::sys::inbox;
use crate::sys::socket;
pub use crate::sys::socket::Credentials;
use log::info;
use log::warn;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// Most connections at a time. AOSP has 3, and drops all of them when a fourth comes.
pub const CLIENTS_MAX: usize = 16;
/// AOSP's is 3; more survives a burst of clients while a kill is under way.
const BACKLOG: i32 = 64;

/// Packets that one [`Server::receive`] takes at most.
pub const RECEIVED_MAX: usize = inbox::PACKETS;

/// Where received packets are put.
pub type Inbox = inbox::Inbox<REQUEST_MAX>;

/// The socket and its connections.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    slots: [Slot; CLIENTS_MAX],
    /// Given up for a moment to accept and drop a connection when descriptors have run out: left
    /// in the queue, it would wake the loop for ever.
    spare: Option<OwnedFd>,
    refused: u64,
}

/// A place for a connection.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    client: Option<Client>,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    peer: Credentials,
    subscriptions: u8,
    lost: u64,
}

/// What became of a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is this client now.
    Client(ClientId),
    /// It was dropped: no slot, or no descriptor, is free.
    Refused,
    /// There is none.
    Empty,
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// A packet.
    Packet {
        /// Its bytes.
        datagram: &'a [u8],
        /// Who sent it, as the kernel says.
        from: Credentials,
    },
    /// Nothing ever again: the client hung up and all it had sent was read, or the connection
    /// failed. Or it is gone already.
    Closed,
    /// A packet without credentials. Close the connection.
    NoCredentials,
}

/// What became of a packet for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is in the client's queue.
    Queued,
    /// It is lost: the client does not read.
    Lost,
    /// The client is gone.
    Gone,
}

impl Server {
    /// Serves a bound SOCK_SEQPACKET socket; see [`super::handover`].
    ///
    /// # Errors
    ///
    /// Those of listen(2), setsockopt(2) and fcntl(2).
    pub fn new(listener: OwnedFd) -> Result<Self, Errno> {
        // A flag of the open file, so it has to be set even on a socket that init made.
        let flags = rustix::fs::fcntl_getfl(&listener)?;
        rustix::fs::fcntl_setfl(&listener, flags | OFlags::NONBLOCK)?;
        // Connections inherit it: set before any can come, so that none misses its first packet's.
        rustix::net::sockopt::set_socket_passcred(&listener, true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        Ok(Self { listener, slots: Default::default(), spare: spare(), refused: 0 })
    }

    /// The listening socket; readable when [`Self::accept`] has something to do.
    #[must_use]
    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes one waiting connection.
    ///
    /// # Errors
    ///
    /// Those of accept4(2) that concern the listening socket. One failed connection is no error.
    pub fn accept(&mut self) -> Result<Accepted, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match rustix::net::accept_with(&self.listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(Accepted::Empty),
            Err(Errno::INTR | Errno::CONNABORTED) => return Ok(Accepted::Refused),
            Err(Errno::MFILE | Errno::NFILE) => {
                // The kernel says so even if nobody waits.
                drop(self.spare.take());
                let dropped = rustix::net::accept_with(&self.listener, flags).map(drop);
                self.spare = spare();
                return match dropped {
                    Ok(()) => {
                        self.refuse("no file descriptor is free; raise RLIMIT_NOFILE");
                        Ok(Accepted::Refused)
                    }
                    Err(Errno::AGAIN) => Ok(Accepted::Empty),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let Ok(peer) = socket::peer_credentials(socket.as_fd()) else {
            self.refuse("its credentials cannot be read");
            return Ok(Accepted::Refused);
        };
        let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.client.is_none());
        let Some((index, slot)) = free else {
            self.refuse("all places for clients are taken");
            return Ok(Accepted::Refused);
        };
        slot.generation = slot.generation.wrapping_add(1);
        slot.client = Some(Client { socket, peer, subscriptions: 0, lost: 0 });
        let slot_number = u8::try_from(index).unwrap_or(u8::MAX);
        Ok(Accepted::Client(ClientId { slot: slot_number, generation: slot.generation }))
    }

    /// The client's socket; None if it is gone, whoever has its slot now.
    #[must_use]
    pub fn client(&self, id: ClientId) -> Option<BorrowedFd<'_>> {
        self.get(id).map(|client| client.socket.as_fd())
    }

    /// Who opened the connection.
    #[must_use]
    pub fn peer(&self, id: ClientId) -> Option<Credentials> {
        self.get(id).map(|client| client.peer)
    }

    /// How many packets the client lost because it did not read.
    #[must_use]
    pub fn lost(&self, id: ClientId) -> u64 {
        self.get(id).map_or(0, |client| client.lost)
    }

    /// The connections there are.
    pub fn clients(&self) -> impl Iterator<Item = ClientId> + '_ {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.client.is_some()).map(
            |(index, slot)| ClientId {
                slot: u8::try_from(index).unwrap_or(u8::MAX),
                generation: slot.generation,
            },
        )
    }

    /// Takes up to `most` packets, at most [`RECEIVED_MAX`], with one system call. What does not fit
    /// of one is cut off, as in AOSP. What was queued before a hang-up comes first; if there is
    /// nothing for now, nothing comes.
    pub fn receive<'a>(
        &mut self,
        id: ClientId,
        inbox: &'a mut Inbox,
        most: usize,
    ) -> impl Iterator<Item = Received<'a>> {
        inbox.clear();
        let failed = loop {
            let Some(client) = self.get(id) else { break true };
            match inbox.fill(client.socket.as_fd(), most) {
                Ok(()) | Err(Errno::AGAIN) => break false,
                // A peer that hung up with packets of ours unread: told once, before what it had
                // sent, and the end after that.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(_) => break true,
            }
        };
        let packets = inbox.packets().map(|(datagram, from)| match from {
            Some(from) => Received::Packet { datagram, from },
            // The end has no sender; an empty packet has one.
            None if datagram.is_empty() => Received::Closed,
            None => Received::NoCredentials,
        });
        packets.chain(failed.then_some(Received::Closed))
    }

    /// Copies the next packet without taking it; None if there is none, or the end.
    pub fn peek<'a>(&self, id: ClientId, packet: &'a mut [u8; REQUEST_MAX]) -> Option<&'a [u8]> {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let (len, _) = rustix::net::recv(&self.get(id)?.socket, &mut packet[..], flags).ok()?;
        packet.get(..len).filter(|packet| !packet.is_empty())
    }

    /// Sends one packet, or loses it.
    pub fn send(&mut self, id: ClientId, packet: &[u8]) -> Sent {
        match self.get_mut(id) {
            Some(client) => client.send(id, packet),
            None => Sent::Gone,
        }
    }

    /// Adds a subscription. There is no way to end one but to hang up.
    pub fn subscribe(&mut self, id: ClientId, event: Event) {
        if let Some(client) = self.get_mut(id) {
            client.subscriptions |= event.bit();
        }
    }

    /// Whether anyone subscribed to this.
    #[must_use]
    pub fn has_subscribers(&self, event: Event) -> bool {
        self.slots
            .iter()
            .filter_map(|slot| slot.client.as_ref())
            .any(|client| client.subscriptions & event.bit() != 0)
    }

    /// Sends a packet to all who subscribed to `event`, in slot order. Returns how many have it in
    /// their queue.
    pub fn broadcast(&mut self, event: Event, packet: &[u8]) -> usize {
        let mut queued = 0;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let id = ClientId {
                slot: u8::try_from(index).unwrap_or(u8::MAX),
                generation: slot.generation,
            };
            if let Some(client) = &mut slot.client {
                if client.subscriptions & event.bit() != 0
                    && client.send(id, packet) == Sent::Queued
                {
                    queued += 1;
                }
            }
        }
        queued
    }

    /// Ends a connection. Its registrations are the caller's business. The descriptor leaves every
    /// epoll set by being closed, as it has no copies.
    pub fn close(&mut self, id: ClientId) {
        let Some(slot) = self.slots.get_mut(usize::from(id.slot)) else { return };
        if slot.generation != id.generation {
            return;
        }
        if let Some(client) = slot.client.take() {
            if client.lost > 1 {
                info!(
                    "client {} (pid {}) lost {} packets in all",
                    id.slot, client.peer.pid, client.lost
                );
            }
        }
    }

    fn get(&self, id: ClientId) -> Option<&Client> {
        let slot = self.slots.get(usize::from(id.slot))?;
        slot.client.as_ref().filter(|_| slot.generation == id.generation)
    }

    fn get_mut(&mut self, id: ClientId) -> Option<&mut Client> {
        let slot = self.slots.get_mut(usize::from(id.slot))?;
        slot.client.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Said at the first, second, fourth, eighth ... time: a client that retries in a loop must
    /// not fill the log.
    fn refuse(&mut self, why: &str) {
        self.refused = self.refused.saturating_add(1);
        if self.refused.is_power_of_two() {
            warn!("connection refused ({} so far): {why}", self.refused);
        }
    }
}

impl Client {
    fn send(&mut self, id: ClientId, packet: &[u8]) -> Sent {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            return match rustix::net::send(&self.socket, packet, flags) {
                Ok(_) => Sent::Queued,
                Err(Errno::INTR) => continue,
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => Sent::Gone,
                Err(error) => {
                    self.lost = self.lost.saturating_add(1);
                    if self.lost == 1 {
                        warn!(
                            "client {} (pid {}) loses packets: {error}; it does not read its socket",
                            id.slot, self.peer.pid
                        );
                    }
                    Sent::Lost
                }
            };
        }
    }
}

fn spare() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}
