//! A server whose process has no file descriptor left. Alone in its process, as the limit is the
//! process's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use lmkd::control::client::Client;
use lmkd::control::handover;
use lmkd::control::server::Accepted;
use lmkd::control::server::Server;
use rustix::process::getrlimit;
use rustix::process::setrlimit;
use rustix::process::Resource;
use rustix::process::Rlimit;
use std::fs::File;

#[test]
fn without_a_free_descriptor_connections_are_dropped_and_do_not_wake_for_ever() {
    let path = std::env::temp_dir().join(format!("lmkd-fds-{}.sock", std::process::id()));
    let mut server = Server::new(handover::open(&path).unwrap()).unwrap();
    let clients = [(); 3].map(|()| Client::connect(&path).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();

    assert_eq!([(); 3].map(|()| server.accept()), [Ok(Accepted::Refused); 3]);
    assert_eq!(server.accept(), Ok(Accepted::Empty));

    taken.pop();
    drop(clients);
    let _client = Client::connect(&path).unwrap();
    drop(taken);
    assert!(matches!(server.accept(), Ok(Accepted::Client(_))));
    std::fs::remove_file(path).unwrap();
}
