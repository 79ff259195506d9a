//! A client of the control socket that knows the few commands the scenarios need.

use anyhow::Result;
use rustix::net::connect;
use rustix::net::recv;
use rustix::net::send;
use rustix::net::socket;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketType;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

const PROCPRIO: u32 = 1;
const SUBSCRIBE: u32 = 5;
const PROCKILL: u32 = 6;
const KILL_EVENTS: u32 = 0;

/// A connection to the daemon.
pub struct Client(OwnedFd);

impl Client {
    /// Connects and subscribes to kill events.
    pub fn connect(path: &str) -> Result<Self> {
        let fd = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
        connect(&fd, &SocketAddrUnix::new(path)?)?;
        let client = Self(fd);
        client.send(&[SUBSCRIBE, KILL_EVENTS])?;
        Ok(client)
    }

    /// Registers `pid`, or moves it to another importance.
    pub fn procprio(&self, pid: u32, uid: u32, adj: i32) -> Result<()> {
        self.send(&[PROCPRIO, pid, uid, adj.cast_unsigned()])
    }

    /// The pid of one kill event, if one is waiting.
    pub fn kill_event(&self) -> Option<u32> {
        let mut packet = [0u8; 256];
        let (length, _) = recv(&self.0, &mut packet, RecvFlags::DONTWAIT).ok()?;
        let word = |index: usize| -> Option<u32> {
            let bytes = packet.get(..length)?.get(index * 4..index * 4 + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        (word(0)? == PROCKILL).then(|| word(1))?
    }

    fn send(&self, words: &[u32]) -> Result<()> {
        let packet: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        send(&self.0, &packet, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
