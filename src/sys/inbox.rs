//! Many packets in one system call, each with its sender.

use super::check;
use super::socket::Credentials;
use rustix::io::Errno;
use std::mem::size_of;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

/// Packets that one call takes at most.
pub const PACKETS: usize = 64;

/// Room for [`PACKETS`] packets of at most `SIZE` bytes; what does not fit of one is cut off.
pub struct Inbox<const SIZE: usize> {
    bytes: [[u8; SIZE]; PACKETS],
    packets: [Packet; PACKETS],
    count: usize,
}

#[derive(Clone, Copy)]
struct Packet {
    len: usize,
    from: Option<Credentials>,
}

/// Room for one `struct ucred`, aligned for its header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

impl<const SIZE: usize> Inbox<SIZE> {
    /// An empty one.
    #[must_use]
    pub const fn new() -> Self {
        let packets = [Packet { len: 0, from: None }; PACKETS];
        Self { bytes: [[0; SIZE]; PACKETS], packets, count: 0 }
    }

    /// Forgets what is in here.
    pub fn clear(&mut self) {
        self.count = 0;
    }

    /// recvmmsg(2) without waiting: takes up to `most` packets in place of those that were here.
    /// Descriptors that come with them are dropped.
    ///
    /// # Errors
    ///
    /// EAGAIN if nothing is there; else those of recvmsg(2). Nothing is in here then.
    pub fn fill(&mut self, socket: BorrowedFd<'_>, most: usize) -> Result<(), Errno> {
        self.clear();
        let mut controls = [Control([0; 64]); PACKETS];
        // SAFETY: all-zero is a valid iovec and a valid mmsghdr: null pointers and no lengths.
        let (mut iovs, mut headers): ([libc::iovec; PACKETS], [libc::mmsghdr; PACKETS]) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: CMSG_SPACE only computes. With room for one ucred and no more, the kernel has
        // none left for descriptors and closes them itself.
        let room =
            unsafe { libc::CMSG_SPACE(u32::try_from(size_of::<libc::ucred>()).unwrap_or(0)) };
        let buffers = self.bytes.iter_mut().zip(&mut controls).zip(&mut iovs);
        for (((bytes, control), iov), header) in buffers.zip(&mut headers) {
            iov.iov_base = bytes.as_mut_ptr().cast();
            iov.iov_len = SIZE;
            header.msg_hdr.msg_iov = iov;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = room as _;
        }
        let most = libc::c_long::try_from(most.min(PACKETS)).unwrap_or(0);
        let flags = libc::c_long::from(libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
        let no_timeout: *const libc::timespec = std::ptr::null();
        // SAFETY: there are at least `most` headers, and each points at buffers that outlive the
        // call, with their true lengths.
        let got = check(unsafe {
            libc::syscall(
                libc::SYS_recvmmsg,
                libc::c_long::from(socket.as_raw_fd()),
                headers.as_mut_ptr(),
                most,
                flags,
                no_timeout,
            )
        })?;
        self.count = usize::try_from(got).unwrap_or(0).min(PACKETS);
        for (packet, header) in self.packets.iter_mut().zip(&headers).take(self.count) {
            let len = usize::try_from(header.msg_len).unwrap_or(0);
            *packet = Packet { len, from: sender(&header.msg_hdr) };
        }
        Ok(())
    }

    /// The packets in the order in which they were sent, each with its sender if the socket has
    /// SO_PASSCRED. 0 bytes are an empty packet, or with no sender the end.
    pub fn packets(&self) -> impl Iterator<Item = (&[u8], Option<Credentials>)> {
        let packets = self.bytes.iter().zip(&self.packets).take(self.count);
        packets.map(|(bytes, packet)| (bytes.get(..packet.len).unwrap_or(&[]), packet.from))
    }
}

impl<const SIZE: usize> Default for Inbox<SIZE> {
    fn default() -> Self {
        Self::new()
    }
}

/// The SCM_CREDENTIALS of a message just received.
fn sender(header: &libc::msghdr) -> Option<Credentials> {
    // SAFETY: the kernel has filled the control buffer and its length, so CMSG_FIRSTHDR is null or
    // points at a whole cmsghdr inside it.
    let message = unsafe { libc::CMSG_FIRSTHDR(header).as_ref()? };
    // SAFETY: CMSG_LEN only computes.
    let whole = unsafe { libc::CMSG_LEN(u32::try_from(size_of::<libc::ucred>()).unwrap_or(0)) };
    let len = u64::try_from(message.cmsg_len).unwrap_or(0);
    let is_ours = message.cmsg_level == libc::SOL_SOCKET
        && message.cmsg_type == libc::SCM_CREDENTIALS
        && len >= u64::from(whole);
    if !is_ours {
        return None;
    }
    // SAFETY: type and length say that a whole ucred follows; it is read without need of alignment,
    // and any bytes are a valid one.
    let ucred = unsafe { libc::CMSG_DATA(message).cast::<libc::ucred>().read_unaligned() };
    Some(Credentials { pid: ucred.pid, uid: ucred.uid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::AddressFamily;
    use rustix::net::SendFlags;
    use rustix::net::SocketFlags;
    use rustix::net::SocketType;
    use std::os::fd::AsFd;
    use std::os::fd::OwnedFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        (ours, theirs)
    }

    fn send(socket: &OwnedFd, bytes: &[u8]) {
        rustix::net::send(socket, bytes, SendFlags::NOSIGNAL).unwrap();
    }

    #[test]
    fn packets_come_in_order_with_their_lengths_and_their_sender() {
        let (ours, theirs) = pair();
        for len in [4_u8, 0, 60] {
            send(&theirs, &vec![len; usize::from(len)]);
        }
        let mut inbox = Inbox::<52>::new();
        inbox.fill(ours.as_fd(), PACKETS).unwrap();
        let got: Vec<_> = inbox.packets().map(|(bytes, _)| bytes.to_vec()).collect();
        assert_eq!(got, [vec![4; 4], vec![], vec![60; 52]]);
        let me = Credentials {
            pid: std::process::id().cast_signed(),
            uid: rustix::process::geteuid().as_raw(),
        };
        assert!(inbox.packets().all(|(_, from)| from == Some(me)));
        assert_eq!(inbox.fill(ours.as_fd(), PACKETS), Err(Errno::AGAIN));
        assert_eq!(inbox.packets().count(), 0);
    }

    #[test]
    fn no_more_are_taken_than_asked_for_or_than_there_is_room() {
        let (ours, theirs) = pair();
        for _ in 0..PACKETS + 5 {
            send(&theirs, &[1]);
        }
        let mut inbox = Inbox::<52>::new();
        for (most, taken) in [(2, 2), (usize::MAX, PACKETS), (PACKETS, 3)] {
            inbox.fill(ours.as_fd(), most).unwrap();
            assert_eq!(inbox.packets().count(), taken);
        }
    }

    #[test]
    fn the_end_comes_after_what_was_sent_before_it_and_has_no_sender() {
        let (ours, theirs) = pair();
        send(&theirs, &[1]);
        drop(theirs);
        let mut inbox = Inbox::<52>::new();
        inbox.fill(ours.as_fd(), PACKETS).unwrap();
        let mut packets = inbox.packets();
        assert_eq!(packets.next().unwrap().0, [1]);
        assert_eq!(packets.next(), Some((&[][..], None)));
    }
}
