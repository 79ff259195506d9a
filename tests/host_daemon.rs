//! The daemon as a program: arguments, modes, signals, idleness.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::daemon::Daemon;
use host::daemon::BINARY;
use host::pressure::Pressure;
use lmkd::control::wire::KillCount;
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::time::Duration;

fn lmkd(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).env_remove("ANDROID_SOCKET_lmkd").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn sigterm_and_sigint_end_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&[]);
        let mut client = daemon.client();
        let mut app = App::start("com.example.app");
        client.register(&app.at(900)).unwrap();
        client.kill_count(KillCount::Total).unwrap();
        assert_eq!(daemon.end(signal).code(), Some(0));
        daemon.log.wait_for(1, "ended by a signal, 0 kills");
        assert!(app.is_alive());
    }
}

#[test]
fn wrong_arguments_end_it_with_2_and_name_what_is_wrong() {
    for (args, named) in [
        (&["--frobnicate"][..], "--frobnicate"),
        (&["now"], "now"),
        (&["--socket"], "--socket"),
        (&["--dry-run=yes"], "--dry-run=yes"),
        (&["--set=no_such_tunable=1"], "no_such_tunable"),
        (&["--set=kill_timeout_ms=soon"], "soon"),
        (&["--set=kill_timeout_ms"], "kill_timeout_ms"),
        (&["--props=/no/such/file"], "/no/such/file"),
        (&["--reinit", "--dry-run"], "--reinit"),
    ] {
        let output = lmkd(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", said(&output));
        assert!(said(&output).contains(named), "{args:?}: {}", said(&output));
    }
}

#[test]
fn a_socket_that_cannot_be_made_is_named() {
    let output = lmkd(&["--no-adopt", "--socket=/proc/no/such/dir/lmkd.sock"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/proc/no/such/dir"), "{}", said(&output));
}

#[test]
fn a_second_daemon_does_not_take_the_socket_of_the_first() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket.display().to_string();
    let output = lmkd(&["--no-adopt", "--socket", &socket]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains(&socket));
    daemon.raw().barrier();
}

#[test]
fn reinit_and_boot_completed_speak_to_the_running_daemon() {
    let daemon = Daemon::start(&[]);
    let socket = format!("--socket={}", daemon.socket.display());
    let code = |mode: &str, socket: &str| lmkd(&[mode, socket]).status.code();
    assert_eq!(code("--reinit", &socket), Some(0));
    assert_eq!(code("--boot_completed", &socket), Some(0));
    assert_eq!(code("--boot_completed", &socket), Some(1), "it was completed before");
    let nobody = "--socket=/no/such/socket";
    assert_eq!(code("--reinit", nobody), Some(1));
    assert_eq!(code("--boot_completed", nobody), Some(1));
    daemon.raw().barrier();
}

#[test]
fn help_goes_to_standard_output() {
    for (option, expected) in [
        ("--help", "usage: lmkd"),
        ("--help-tunables", "kill_timeout_ms"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let output = lmkd(&[option]);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stdout).contains(expected));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_missing_pressure_file_costs_the_monitors_and_not_the_daemon() {
    let daemon = Daemon::start(&["--psi=/no/such/memory.pressure"]);
    daemon.log.wait_for(1, "/no/such/memory.pressure");
    daemon.log.wait_for(1, "pressure: memory is sampled every 1000ms");
    daemon.raw().barrier();
}

/// How long is set by `IDLE_SECONDS`, 60 without it.
#[test]
fn an_idle_daemon_does_not_wake_up() {
    // A group without processes has no pressure, whatever other tests do.
    let Some(pressure) = Pressure::prepare("idle") else { return };
    let daemon = Daemon::start(&[&format!("--psi={}", pressure.file())]);
    let mut client = daemon.client();
    let app = App::start("com.example.app");
    client.register(&app.at(900)).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    let seconds = std::env::var("IDLE_SECONDS").map_or(60, |text| text.parse().unwrap());
    // It has answered, and goes back to sleep.
    host::until("the daemon to sleep", || sleeps(daemon.pid()).then_some(()));
    // The watchdog's timer, which the last handler armed for 2 s, fires once and is not set again.
    std::thread::sleep(Duration::from_secs(3));
    let before = daemon.wakeups();
    std::thread::sleep(Duration::from_secs(seconds));
    assert_eq!(daemon.wakeups(), before, "wake-ups in {seconds} idle seconds");
    // The count is worth something: a question does wake it.
    client.kill_count(KillCount::Total).unwrap();
    host::until("the daemon to sleep", || sleeps(daemon.pid()).then_some(()));
    assert!(daemon.wakeups() > before);
}

/// Whether all threads of a process sleep.
fn sleeps(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(|task| state(&task.unwrap().path())).all(|state| state == Some('S'))
}

fn state(task: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(task.join("stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}
