//! The operator's socket: what is asked and how it is answered.
//!
//! SOCK_SEQPACKET beside lmkd's socket, for root and the daemon's own user (on Android also the
//! user system). The daemon speaks first: one packet of [`MAGIC`] and a [`Header`], or of
//! [`MAGIC`] and a [`Refused`]. Then each request is a packet of four bytes, and its answer is
//! packets of whole frames up to an [`End`] or [`Refused`]; only [`Request::Follow`] has no end
//! but the client's hanging up. One request at a time: a second one ends the first.
//!
//! | byte | holds |
//! | --- | --- |
//! | 0 | version of the requests, 1 |
//! | 1 | 1 status, 2 dump, 3 follow |
//! | 2 | of follow: 1 if it begins with what is in the ring already, else 0 |
//! | 3 | 0 |
//!
//! [`MAGIC`]: super::MAGIC
//! [`Header`]: super::Header
//! [`Refused`]: super::Refused
//! [`End`]: super::End

use std::fmt;
use std::path::Path;
use std::path::PathBuf;

/// The version of the requests.
pub const VERSION: u8 = 1;

/// Most bytes of an answer's packet.
pub const PACKET_MAX: usize = 16 * 1024;

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The settings and the state now: one `Settings` and one `Status`.
    Status,
    /// Everything in the ring.
    Dump,
    /// Records as they are made.
    Follow {
        /// Whether what is in the ring already comes first.
        history: bool,
    },
}

/// Why a packet is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongRequest {
    /// It is of another version.
    Version(u8),
    /// There is no such request.
    Unknown,
}

impl fmt::Display for WrongRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(theirs) => {
                write!(f, "requests of version {theirs} are not known, those of {VERSION} are")
            }
            Self::Unknown => write!(f, "this is no request"),
        }
    }
}

impl Request {
    /// As a packet.
    #[must_use]
    pub fn encode(self) -> [u8; 4] {
        match self {
            Self::Status => [VERSION, 1, 0, 0],
            Self::Dump => [VERSION, 2, 0, 0],
            Self::Follow { history } => [VERSION, 3, u8::from(history), 0],
        }
    }

    /// From a packet.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn decode(packet: &[u8]) -> Result<Self, WrongRequest> {
        match packet {
            [VERSION, 1, 0, 0] => Ok(Self::Status),
            [VERSION, 2, 0, 0] => Ok(Self::Dump),
            [VERSION, 3, history @ (0 | 1), 0] => Ok(Self::Follow { history: *history == 1 }),
            [version, ..] if *version != VERSION => Err(WrongRequest::Version(*version)),
            _ => Err(WrongRequest::Unknown),
        }
    }
}

/// The variable in which init hands over the operator's socket.
pub const VARIABLE: &str = "ANDROID_SOCKET_lmkctl";
/// Where init binds the operator's socket.
pub const ANDROID_PATH: &str = "/dev/socket/lmkctl";

/// Where the operator's socket is that belongs to an lmkd socket: on Android `/dev/socket/lmkctl`,
/// elsewhere beside it, with `.ctl` after its name.
#[must_use]
pub fn path_beside(lmkd: &Path) -> PathBuf {
    if lmkd == Path::new(crate::control::handover::ANDROID_PATH) {
        return PathBuf::from(ANDROID_PATH);
    }
    let mut path = lmkd.as_os_str().to_owned();
    path.push(".ctl");
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back() {
        for request in [
            Request::Status,
            Request::Dump,
            Request::Follow { history: true },
            Request::Follow { history: false },
        ] {
            assert_eq!(Request::decode(&request.encode()), Ok(request));
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        assert_eq!(Request::decode(&[2, 1, 0, 0]), Err(WrongRequest::Version(2)));
        for packet in [&[][..], &[1], &[1, 9, 0, 0], &[1, 3, 2, 0], &[1, 1, 0, 0, 0]] {
            assert_eq!(Request::decode(packet), Err(WrongRequest::Unknown));
        }
    }

    #[test]
    fn each_lmkd_socket_has_its_own_beside_it() {
        assert_eq!(path_beside(Path::new("/run/a.sock")), Path::new("/run/a.sock.ctl"));
        assert_eq!(path_beside(Path::new("/dev/socket/lmkd")), Path::new("/dev/socket/lmkctl"));
    }
}
