//! The daemon as on a device: properties are init's, and init may take its time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::daemon::Started;
use host::daemon::BINARY;
use host::wire::Raw;
use host::wire::TARGET;
use rustix::process::kill_process;
use rustix::process::Pid;
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::process::Stdio;

#[test]
fn an_init_that_does_not_answer_keeps_the_loop_from_nothing() {
    let test = "an_init_that_does_not_answer_keeps_the_loop_from_nothing";
    let dir = host::own_dir();
    let (dev, props, socket) = (dir.join("dev"), dir.join("props"), dir.join("lmkd.sock"));
    fs::create_dir_all(dev.join("socket")).unwrap();
    fs::create_dir(&props).unwrap();
    fs::write(dev.join("null"), "").unwrap();
    let mounts =
        format!("mount --bind /dev/null {0}/null && mount --rbind {0} /dev", dev.display());
    let unshare = |then: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{mounts} && {then}"), "sh"]);
        command
    };
    if !unshare("true").output().is_ok_and(|output| output.status.success()) {
        return host::skip(test, "no right to mount a /dev of its own");
    }
    let init = UnixListener::bind(dev.join("socket/property_service")).unwrap();
    let daemon = unshare("exec \"$@\"")
        .args([BINARY, "--no-adopt", "--set=use_psi=0", "--socket"])
        .arg(&socket)
        .env("LMKD_STAND_IN_PROPERTIES", &props)
        .env_remove("ANDROID_SOCKET_lmkd")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Started(daemon);

    let (started, property) = request(&init);
    assert_eq!(property, "sys.lmk.reportkills=1");
    grant(started);
    let client = Raw::connect(&socket);
    client.words(&[TARGET, 1024, 0]);
    let (first, property) = request(&init);
    assert_eq!(property, "sys.lmk.minfree_levels=1024:0");
    client.barrier();
    client.words(&[TARGET, 2048, 100]);
    client.barrier();
    grant(first);
    let (second, property) = request(&init);
    assert_eq!(property, "sys.lmk.minfree_levels=2048:100");
    // Nor does the end wait for an answer.
    kill_process(Pid::from_child(&daemon.0), Signal::TERM).unwrap();
    assert!(daemon.0.wait().unwrap().success());
    drop(second);
    fs::remove_dir_all(dir).unwrap();
}

/// The next wish to have a property set, as `name=value`, with the connection that waits for the
/// answer.
fn request(init: &UnixListener) -> (UnixStream, String) {
    let (mut client, _) = init.accept().unwrap();
    let mut word = || {
        let mut word = [0; 4];
        client.read_exact(&mut word).unwrap();
        u32::from_le_bytes(word)
    };
    assert_eq!(word(), 0x0002_0001);
    let mut text = || {
        let mut length = [0; 4];
        client.read_exact(&mut length).unwrap();
        let mut text = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
        client.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let property = format!("{}={}", text(), text());
    (client, property)
}

fn grant(mut client: UnixStream) {
    client.write_all(&0_u32.to_le_bytes()).unwrap();
}
