//! The socket without our own codec: words and bytes as the protocol has them.

use super::PATIENCE;
use rustix::io::retry_on_intr;
use rustix::net::recv;
use rustix::net::send;
use rustix::net::socket_with;
use rustix::net::sockopt::set_socket_timeout;
use rustix::net::sockopt::Timeout;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::Shutdown;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

pub const TARGET: i32 = 0;
pub const PROCPRIO: i32 = 1;
pub const PROCREMOVE: i32 = 2;
pub const PROCPURGE: i32 = 3;
pub const GETKILLCNT: i32 = 4;
pub const SUBSCRIBE: i32 = 5;
pub const PROCKILL: i32 = 6;
pub const UPDATE_PROPS: i32 = 7;
pub const STAT: i32 = 8;
pub const START_MONITORING: i32 = 9;
pub const BOOT_COMPLETED: i32 = 10;
pub const PROCS_PRIO: i32 = 11;

pub struct Raw(OwnedFd);

impl Raw {
    pub fn connect(path: &Path) -> Self {
        let fd =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::connect(&fd, &SocketAddrUnix::new(path).unwrap()).unwrap();
        set_socket_timeout(&fd, Timeout::Recv, Some(PATIENCE)).unwrap();
        set_socket_timeout(&fd, Timeout::Send, Some(PATIENCE)).unwrap();
        Self(fd)
    }

    pub fn send(&self, bytes: &[u8]) {
        let sent = retry_on_intr(|| send(&self.0, bytes, SendFlags::NOSIGNAL));
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Sends what fits, without waiting; whether it did.
    pub fn try_send(&self, bytes: &[u8]) -> bool {
        send(&self.0, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
    }

    pub fn words(&self, words: &[i32]) {
        self.send(&bytes(words));
    }

    /// Says that nothing more will be sent, or taken.
    pub fn shutdown(&self, how: Shutdown) {
        rustix::net::shutdown(&self.0, how).unwrap();
    }

    /// The next packet; empty when the daemon has hung up.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        let mut buffer = vec![0; 512];
        let received = retry_on_intr(|| recv(&self.0, &mut buffer, RecvFlags::empty()));
        let len = match received {
            Ok((len, _)) => len,
            Err(rustix::io::Errno::CONNRESET) => 0,
            Err(error) => panic!("no packet: {error}"),
        };
        buffer.truncate(len);
        buffer
    }

    /// Waits for a packet, and leaves it where it is.
    #[track_caller]
    pub fn wait(&self) {
        let peeked = retry_on_intr(|| recv(&self.0, &mut [0; 4], RecvFlags::PEEK));
        assert_ne!(peeked.map(|(len, _)| len), Ok(0));
    }

    /// A packet that is there within this time.
    pub fn receive_within(&self, time: Duration) -> Option<Vec<u8>> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(time)).unwrap();
        let mut buffer = vec![0; 512];
        let len = recv(&self.0, &mut buffer, RecvFlags::empty()).map(|(len, _)| len);
        set_socket_timeout(&self.0, Timeout::Recv, Some(PATIENCE)).unwrap();
        buffer.truncate(len.ok()?);
        Some(buffer)
    }

    /// Asks for the kill count. The next packet must be the answer: all commands before have been
    /// executed then, and none of them was answered.
    #[track_caller]
    pub fn barrier(&self) -> i32 {
        self.words(&[GETKILLCNT, 1001, 1001]);
        let answer = self.receive();
        assert_eq!(answer.len(), 8, "{answer:02x?}");
        assert_eq!(answer[..4], bytes(&[GETKILLCNT]), "{answer:02x?}");
        word(&answer, 1)
    }
}

pub fn bytes(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

pub fn word(packet: &[u8], index: usize) -> i32 {
    i32::from_be_bytes(packet[4 * index..][..4].try_into().unwrap())
}

/// Bytes written as in a protocol's description.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
