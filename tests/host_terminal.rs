//! The daemon in a terminal, as the first command of the README starts it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::daemon::Started;
use host::daemon::BINARY;
use host::wire::bytes;
use host::wire::Raw;
use host::wire::UPDATE_PROPS;
use lmkd::control::client::Client;
use std::io::Read;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;

#[test]
fn a_terminal_that_nobody_reads_costs_lines_and_no_time() {
    let dir = host::own_dir();
    let (socket, props) = (dir.join("lmkd.sock"), dir.join("props"));
    std::fs::write(&props, "").unwrap();
    let (mut screen, terminal) = host::terminal::open();
    let daemon = Command::new(BINARY)
        .args(["--no-adopt", "--set=use_psi=0", "--socket"])
        .args([socket.as_path(), "--props".as_ref(), &props])
        .env_remove("ANDROID_SOCKET_lmkd")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stderr(terminal)
        .spawn()
        .unwrap();
    let _daemon = Started(daemon);
    host::until("the daemon to listen", || Client::connect(&socket).ok());
    let client = Raw::connect(&socket);
    std::fs::write(&props, "kill_timeout_ms=-1").unwrap();
    let refuse = || {
        client.words(&[UPDATE_PROPS]);
        assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, -1]));
    };
    // One line each, far more than a terminal keeps.
    (0..1000).for_each(|_| refuse());
    // Now somebody does.
    let (sender, pages) = mpsc::channel();
    std::thread::spawn(move || {
        let mut page = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut page) {
            let Ok(()) = sender.send(page[..length].to_vec()) else { return };
        }
    });
    let mut said = Vec::new();
    let said = host::until("the number of lines lost", || {
        refuse();
        said.extend(pages.try_iter().flatten());
        let text = String::from_utf8_lossy(&said);
        text.contains("log lines lost").then(|| text.into_owned())
    });
    // A line that was torn has none of another in it.
    assert!(said.lines().all(|line| line.starts_with('[')), "{said}");
    assert!(said.lines().all(|line| line.matches("lmkd ").count() <= 1), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}
