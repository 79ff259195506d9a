use super::*;
use crate::recorder::wire::Request;
use crate::recorder::Change;
use crate::recorder::Record;
use crate::recorder::Removal;
use crate::units::PageSize;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketType;

fn pair() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

/// Of a daemon that nothing is known of but its process.
pub(super) fn header() -> Header {
    Header {
        version: Default::default(),
        kernel: Default::default(),
        page: PageSize::of_this_kernel(),
        boot: Default::default(),
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        started: MonoTime::ZERO,
        wall_ns: 0,
        dry_run: false,
        adopt: false,
    }
}

fn scribe(journal: &Journal, listener: Option<OwnedFd>) -> Scribe {
    Scribe {
        shared: Arc::clone(&journal.shared),
        duties: Duties { listener, users: Vec::new(), file: None, dump: None, header: header() },
        clients: Default::default(),
        file: None,
        packet: Packet::default(),
        last_asked: None,
        deaf_until: MonoTime::ZERO,
    }
}

fn write(journal: &mut Journal) {
    journal.write(MonoTime::ZERO, &Change::Removed { pid: 7, why: Removal::Asked });
    journal.end_turn();
}

/// A scribe that has been asked to tell this operator what comes.
fn followed(journal: &Journal) -> (Scribe, OwnedFd) {
    let mut scribe = scribe(journal, None);
    let (operator, ours) = pair();
    scribe.clients[0] = Some(Client::new(ours));
    let request = Request::Follow { history: false };
    rustix::net::send(&operator, &request.encode(), SendFlags::empty()).unwrap();
    (scribe, operator)
}

#[test]
fn what_is_written_while_one_begins_to_follow_is_told_at_once() {
    let mut journal = Journal::new(0).unwrap();
    let (mut scribe, operator) = followed(&journal);
    scribe.settle();
    scribe.serve();
    // The request is taken; the loop does not know yet that anybody wants to be told.
    write(&mut journal);
    scribe.settle();
    let mut bytes = [0; PACKET_MAX];
    let (len, _) = rustix::net::recv(&operator, &mut bytes[..], RecvFlags::DONTWAIT).unwrap();
    let mut told = Vec::new();
    super::super::read_all(&bytes[..len], |entry| told.push(entry.record)).unwrap();
    assert!(matches!(told.as_slice(), [Record::Change(_)]), "{told:?}");
}

#[test]
fn a_listener_that_fails_is_left_alone_for_a_while() {
    let journal = Journal::new(0).unwrap();
    // It is readable and accepts nobody, as a listener is when descriptors have run out.
    let (hung_up, end) = pair();
    drop(end);
    let mut scribe = scribe(&journal, Some(hung_up));
    scribe.serve();
    let before = MonoTime::now();
    scribe.wait().unwrap();
    assert!(MonoTime::now().millis_since(before) > DEAF_MS / 2);
}

/// The answer to a question that it asked may wait for it, but not the thread for its deadline.
#[test]
fn an_operator_that_asks_and_does_not_read_is_waited_for_without_spinning() {
    let journal = Journal::new(0).unwrap();
    let mut scribe = scribe(&journal, None);
    let (operator, ours) = pair();
    scribe.clients[0] = Some(Client::new(ours));
    rustix::net::send(&operator, &Request::Status.encode(), SendFlags::empty()).unwrap();
    scribe.serve();
    let asked = MonoTime::now();
    let blocked = scribe.clients[0].as_mut().unwrap();
    blocked.has_not_read_since(asked);
    let due = blocked.due().unwrap();
    assert!(due.millis_since(asked) > 20_000, "{}", due.millis_since(asked));
}

#[test]
fn the_daemons_end_waits_until_its_last_record_is_told() {
    let mut journal = Journal::new(0).unwrap();
    let (mut scribe, operator) = followed(&journal);
    scribe.serve();
    scribe.settle();
    journal.write(MonoTime::ZERO, &Change::Removed { pid: 7, why: Removal::Asked });
    std::thread::spawn(move || scribe.run());
    journal.finish();
    let mut bytes = [0; PACKET_MAX];
    let (len, _) = rustix::net::recv(&operator, &mut bytes[..], RecvFlags::DONTWAIT).unwrap();
    assert!(len > 0);
}
