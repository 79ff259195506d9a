//! The server and the client of the lmkd socket against each other, with clients that mean harm.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use lmkd::control::client::Client;
use lmkd::control::client::ClientError;
use lmkd::control::client::KillEvent;
use lmkd::control::handover;
use lmkd::control::handover::HandoverError;
use lmkd::control::server::Accepted;
use lmkd::control::server::Inbox;
use lmkd::control::server::Received;
use lmkd::control::server::Sent;
use lmkd::control::server::Server;
use lmkd::control::server::CLIENTS_MAX;
use lmkd::control::server::RECEIVED_MAX;
use lmkd::control::wire;
use lmkd::control::wire::Command;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::KillNotice;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::ProcType;
use lmkd::control::wire::Request;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::ClientId;
use lmkd::processes::Pid;
use rustix::event::poll;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::net::SendFlags;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// A socket path of its own, removed at the end.
struct Socket(PathBuf);

impl Socket {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lmkd-test-{}-{name}", std::process::id()));
        Self(dir.join("lmkd.sock"))
    }

    fn serve(&self) -> Server {
        Server::new(handover::open(&self.0).unwrap()).unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(&self.0).unwrap()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}

fn wait_for(fd: BorrowedFd<'_>) {
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
}

fn accept(server: &mut Server) -> ClientId {
    wait_for(server.listener());
    match server.accept().unwrap() {
        Accepted::Client(id) => id,
        other => panic!("{other:?}"),
    }
}

/// A server with one client.
fn pair(socket: &Socket) -> (Server, ClientId, Client) {
    let mut server = socket.serve();
    let client = socket.client();
    let id = accept(&mut server);
    (server, id, client)
}

/// The lengths of what is there; None at the end.
fn lengths(server: &mut Server, id: ClientId) -> Vec<Option<usize>> {
    let mut inbox = Inbox::new();
    let received = server.receive(id, &mut inbox, RECEIVED_MAX);
    received
        .map(|received| match received {
            Received::Packet { datagram, .. } => Some(datagram.len()),
            Received::Closed => None,
            Received::NoCredentials => panic!(),
        })
        .collect()
}

fn send(client: &Client, bytes: &[u8]) {
    rustix::net::send(client, bytes, SendFlags::NOSIGNAL).unwrap();
}

fn process(pid: i32) -> ProcPrio {
    let (pid, adj) = (Pid::new(pid).unwrap(), OomScoreAdj::new(900).unwrap());
    ProcPrio { pid, uid: 10_001, adj, kind: ProcType::App }
}

const NOTICE: KillNotice = KillNotice { pid: 77, uid: 10_001, rss_kb: 4096 };

#[test]
fn every_packet_comes_with_its_sender() {
    let socket = Socket::new("sender");
    let (mut server, id, mut client) = pair(&socket);
    client.register(&process(1234)).unwrap();
    let mut inbox = Inbox::new();
    let first = server.receive(id, &mut inbox, RECEIVED_MAX).next();
    let Some(Received::Packet { datagram, from }) = first else { panic!() };
    assert_eq!(Request::decode(datagram), Ok(Request::ProcPrio(process(1234))));
    assert_eq!(from.pid, i32::try_from(std::process::id()).unwrap());
    assert_eq!(from.uid, rustix::process::geteuid().as_raw());
    assert_eq!(server.peer(id), Some(from));
    assert_eq!(lengths(&mut server, id), []);
}

#[test]
fn what_was_queued_before_a_hang_up_is_still_read() {
    let socket = Socket::new("hangup");
    let (mut server, id, mut client) = pair(&socket);
    client.register_all(&[2, 3, 4, 5, 6, 7, 8].map(process)).unwrap();
    drop(client);
    let mut inbox = Inbox::new();
    let mut records = Vec::new();
    for received in server.receive(id, &mut inbox, RECEIVED_MAX) {
        let Received::Packet { datagram, .. } = received else { break };
        let Ok(Request::ProcsPrio(batch)) = Request::decode(datagram) else { panic!() };
        records.extend(batch.map(Result::unwrap));
    }
    assert_eq!(records, [2, 3, 4, 5, 6, 7, 8].map(process));
    assert_eq!(lengths(&mut server, id)[0], None);
}

#[test]
fn an_empty_packet_is_no_hang_up_and_a_long_one_is_cut() {
    let socket = Socket::new("lengths");
    let (mut server, id, client) = pair(&socket);
    send(&client, &[]);
    send(&client, &[0xff; 60]);
    assert_eq!(lengths(&mut server, id), [Some(0), Some(52)]);
}

#[test]
fn one_client_too_many_is_refused_and_the_others_stay() {
    let socket = Socket::new("many");
    let mut server = socket.serve();
    let clients: Vec<_> =
        (0..CLIENTS_MAX).map(|_| (socket.client(), accept(&mut server))).collect();
    let refused = socket.client();
    assert_eq!(server.accept(), Ok(Accepted::Refused));
    wait_for(rustix::fd::AsFd::as_fd(&refused));
    assert_eq!(server.accept(), Ok(Accepted::Empty));
    for (client, id) in &clients {
        send(client, Request::ProcPurge.encode().as_bytes());
        assert_eq!(lengths(&mut server, *id), [Some(4)]);
    }
}

#[test]
fn a_place_taken_again_is_another_client() {
    let socket = Socket::new("again");
    let (mut server, first, _client) = pair(&socket);
    server.close(first);
    let _next = socket.client();
    let second = accept(&mut server);
    assert_eq!(first.slot, second.slot);
    assert_eq!(lengths(&mut server, first), [None]);
    assert_eq!(lengths(&mut server, second), []);
    server.close(first);
    assert!(server.client(second).is_some());
}

#[test]
fn a_subscriber_that_does_not_read_loses_packets_and_others_do_not() {
    let socket = Socket::new("slow");
    let mut server = socket.serve();
    let _slow = socket.client();
    let slow_id = accept(&mut server);
    let mut quick = socket.client();
    let quick_id = accept(&mut server);
    server.subscribe(slow_id, Event::Kill);
    server.subscribe(quick_id, Event::Kill);
    for _ in 0..2000 {
        server.broadcast(Event::Kill, &NOTICE.encode());
        assert_eq!(quick.next_event().unwrap(), KillEvent::Killed(NOTICE));
    }
    assert!(server.lost(slow_id) > 0);
    assert_eq!(server.lost(quick_id), 0);
}

#[test]
fn only_subscribers_are_told_and_one_that_is_gone_does_no_harm() {
    let socket = Socket::new("gone");
    let (mut server, id, client) = pair(&socket);
    assert_eq!(server.broadcast(Event::Stat, &[0; 100]), 0);
    server.subscribe(id, Event::Stat);
    assert!(server.has_subscribers(Event::Stat) && !server.has_subscribers(Event::Kill));
    drop(client);
    assert_eq!(server.broadcast(Event::Stat, &[0; 100]), 0);
    assert_eq!(server.send(id, &[0; 8]), Sent::Gone);
}

#[test]
fn an_event_before_a_reply_is_kept_for_later() {
    let socket = Socket::new("events");
    let (mut server, id, mut client) = pair(&socket);
    server.send(id, &NOTICE.encode());
    server.send(id, &wire::reply(Command::GetKillCnt, 3));
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 3);
    assert_eq!(client.next_event().unwrap(), KillEvent::Killed(NOTICE));
}

#[test]
fn a_late_answer_is_not_taken_for_that_to_the_next_question() {
    let socket = Socket::new("late");
    let (mut server, id, mut client) = pair(&socket);
    client.set_timeout(Some(Duration::from_millis(1))).unwrap();
    let in_vain = |result: Result<u32, ClientError>| {
        assert!(matches!(result, Err(ClientError::Receive(_))), "{result:?}");
    };
    let count = |number| wire::reply(Command::GetKillCnt, number);
    for _ in 0..2 {
        in_vain(client.kill_count(KillCount::Total));
    }
    assert!(client.update_props().is_err());
    client.set_timeout(Some(Duration::from_secs(60))).unwrap();
    for reply in [count(1), count(2), wire::reply(Command::UpdateProps, 0), count(3)] {
        server.send(id, &reply);
    }
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 3);
    // Nor if it comes while an event is waited for.
    client.set_timeout(Some(Duration::from_millis(1))).unwrap();
    in_vain(client.kill_count(KillCount::Total));
    client.set_timeout(Some(Duration::from_secs(60))).unwrap();
    for packet in [&count(4)[..], &NOTICE.encode(), &count(5)] {
        server.send(id, packet);
    }
    assert_eq!(client.next_event().unwrap(), KillEvent::Killed(NOTICE));
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 5);
    // One that was lost is not waited for once a later question is answered.
    client.set_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(client.boot_completed().is_err());
    server.send(id, &count(6));
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 6);
}

#[test]
fn what_the_daemon_sent_before_it_died_still_arrives() {
    let socket = Socket::new("died");
    let (mut server, id, mut client) = pair(&socket);
    server.send(id, &NOTICE.encode());
    server.send(id, &wire::reply(Command::GetKillCnt, 3));
    // Of no use to a daemon that dies now, so that the kernel tells of a reset.
    client.purge().unwrap();
    server.close(id);
    assert_eq!(client.next_event().unwrap(), KillEvent::Killed(NOTICE));
    assert!(matches!(client.next_event(), Err(ClientError::Closed)));
}

#[test]
fn a_burst_of_100_000_packets_is_read_whole_and_in_order() {
    let socket = Socket::new("burst");
    let (mut server, id, mut client) = pair(&socket);
    let sender = thread::spawn(move || {
        for pid in 2..100_002 {
            client.register(&process(pid)).unwrap();
        }
    });
    let mut inbox = Inbox::new();
    let mut next = 2;
    let mut open = true;
    while open {
        let mut empty = true;
        for received in server.receive(id, &mut inbox, RECEIVED_MAX) {
            empty = false;
            let Received::Packet { datagram, .. } = received else {
                open = false;
                break;
            };
            assert_eq!(Request::decode(datagram), Ok(Request::ProcPrio(process(next))));
            next += 1;
        }
        if empty {
            wait_for(server.client(id).unwrap());
        }
    }
    sender.join().unwrap();
    assert_eq!(next, 100_002);
}

#[test]
fn after_10_000_connects_there_is_still_room_and_no_descriptor_more() {
    let socket = Socket::new("connects");
    let mut server = socket.serve();
    for _ in 0..10_000 {
        drop(socket.client());
        let id = accept(&mut server);
        assert_eq!(lengths(&mut server, id)[0], None);
        server.close(id);
    }
    assert_eq!(server.clients().count(), 0);
    let _client = socket.client();
    assert_eq!(accept(&mut server).slot, 0);
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
    let socket = Socket::new("stale");
    drop(socket.serve());
    let server = socket.serve();
    assert!(matches!(handover::open(&socket.0), Err(HandoverError::InUse(_))));
    drop(server);
    fs::remove_file(&socket.0).unwrap();
    fs::write(&socket.0, "a file").unwrap();
    assert!(matches!(handover::open(&socket.0), Err(HandoverError::NotOurs(_))));
    assert_eq!(fs::read(&socket.0).unwrap(), b"a file");
}
