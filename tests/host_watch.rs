//! `lmkctl watch` on a terminal of 80 columns and 24 lines, beside the real daemon.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::App;
use host::daemon::Daemon;
use host::pressure::Pressure;
use lmkd::control::wire::KillCount;
use operator::run;
use operator::LMKCTL;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::kill_process;
use rustix::process::Pid;
use rustix::process::Signal;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Instant;

/// Where each screen begins.
const HOME: &str = "\x1b[H";
/// What stands on each screen's last line.
const FOOT: &str = " q quit ";

/// lmkctl watch on a terminal, which script(1) makes.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    out: ChildStdout,
    written: Vec<u8>,
    rows: usize,
}

impl Terminal {
    fn open(daemon: &Daemon, every_ms: u32) -> Self {
        Self::of_height(24, daemon, every_ms)
    }

    fn of_height(rows: usize, daemon: &Daemon, every_ms: u32) -> Self {
        let socket = daemon.socket.display();
        let watch = format!("{LMKCTL} watch --every {every_ms} --socket={socket}");
        let mut child = Command::new("script")
            .args(["-qec", &format!("stty rows {rows} cols 80; exec {watch}"), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (keys, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keys, out, written: Vec::new(), rows }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// The screens that are whole, the last first.
    fn screens(&self) -> impl Iterator<Item = String> + '_ {
        let text = String::from_utf8_lossy(&self.written).into_owned();
        let frames: Vec<String> = text.split(HOME).skip(1).map(str::to_owned).collect();
        // The end of a line, reverse video on and off.
        let plain = |frame: String| {
            ["\x1b[K", "\x1b[7m", "\x1b[0m"].iter().fold(frame, |text, part| text.replace(part, ""))
        };
        frames.into_iter().rev().map(plain).filter(|frame| frame.contains(FOOT))
    }

    fn last_screen(&self) -> String {
        self.screens().next().unwrap_or_default()
    }

    /// Waits for a screen that is as wanted.
    #[track_caller]
    fn until(&mut self, what: &str, shown: impl Fn(&str) -> bool) {
        let end = Instant::now() + host::PATIENCE;
        while !shown(&self.last_screen()) {
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).unwrap();
            let mut more = [PollFd::new(&self.out, PollFlags::IN)];
            let ready = rustix::event::poll(&mut more, Some(&left)).unwrap();
            assert_eq!(ready, 1, "no {what} in\n{}", self.last_screen());
            let mut buffer = [0; 65_536];
            let read = self.out.read(&mut buffer).unwrap();
            assert!(read > 0, "no {what} in\n{}", self.last_screen());
            self.written.extend_from_slice(&buffer[..read]);
        }
    }

    #[track_caller]
    fn until_shown(&mut self, text: &str) {
        self.until(text, |screen| screen.contains(text));
    }

    /// Leaves it; every screen fitted, and the terminal is as it was.
    fn leave(mut self) {
        self.press("q");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        self.out.read_to_end(&mut self.written).unwrap();
        let text = String::from_utf8_lossy(&self.written).into_owned();
        let end = "\x1b[?7h\x1b[?25h\x1b[?1049l";
        let shown = text.split_once(end).expect("the terminal is as it was").0.len();
        self.written.truncate(shown);
        for screen in self.screens() {
            assert_eq!(screen.lines().count(), self.rows, "{screen}");
            assert!(!screen.contains('\x1b'), "{screen:?}");
            for line in screen.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
        }
    }
}

/// Registers apps of these names.
fn registered(daemon: &Daemon, names: &[&str]) -> Vec<App> {
    let apps: Vec<App> = names.iter().map(|name| App::start(name)).collect();
    let mut client = daemon.client();
    let all: Vec<_> = apps.iter().map(|app| app.at(900)).collect();
    client.register_all(&all).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    // It ends what it registered with its connection.
    std::mem::forget(client);
    apps
}

#[test]
fn the_state_is_shown_and_keys_lead_to_the_pages_and_set_the_pace() {
    let daemon = Daemon::start(&[]);
    let _apps = registered(&daemon, &["com.example.shown"]);
    let mut terminal = Terminal::open(&daemon, 1000);
    terminal.until_shown("com.example.shown");
    terminal.until_shown("next victims (1 registered)");
    terminal.press("w");
    terminal.until_shown("What keeps each rule from killing now:");
    terminal.press("e");
    terminal.until_shown("No kill since this began to watch");
    terminal.press("o");
    terminal.until_shown("com.example.shown");
    terminal.until_shown("+ - 1000 ms");
    terminal.press("+");
    terminal.until_shown("+ - 500 ms");
    terminal.press("--");
    terminal.until_shown("+ - 2000 ms");
    // Not beyond the ends.
    terminal.press("----------");
    terminal.until_shown("+ - 60000 ms");
    terminal.press("++++++++++++");
    terminal.until_shown("+ - 100 ms");
    // And it is that often that the state is asked for.
    let _more = registered(&daemon, &["com.example.later"]);
    terminal.until_shown("com.example.later");
    terminal.leave();
}

#[test]
fn a_kill_appears_as_it_happens_unless_the_screen_is_held_and_is_explained() {
    let Some(mut pressure) = Pressure::prepare("a_kill_appears_as_it_happens") else { return };
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&args);
    let mut kill = |name: &str| {
        let mut apps = registered(&daemon, &[name]);
        pressure.rise();
        assert_eq!(apps[0].ended_by(), Some(9));
        pressure.fall();
        apps[0].pid()
    };
    // The pace is no matter: the state is asked for once.
    let mut terminal = Terminal::open(&daemon, 60_000);
    terminal.until_shown("kills 0");
    let first = kill("com.example.first");
    let line = format!("  900 {first:>6} NOT_RESPONDING ");
    terminal.until_shown(&line);
    terminal.until("its exit", |screen| {
        screen.lines().any(|l| l.contains(&line) && l.contains(" exit ") && l.contains("first"))
    });

    terminal.press(" ");
    terminal.until_shown("  HELD");
    kill("com.example.second");
    terminal.press("e");
    terminal.until_shown("killed 'com.example.first'");
    terminal.press(" ");
    terminal.until_shown("killed 'com.example.second'");
    assert!(!terminal.last_screen().contains("HELD"));

    terminal.press("o");
    terminal.until_shown("com.example.second");
    terminal.leave();

    // On a smaller one the explanation is scrolled, and back.
    let mut small = Terminal::of_height(12, &daemon, 1000);
    // What is typed before is dropped.
    small.until_shown("kills 2");
    small.press("e");
    small.until_shown("killed 'com.example.second'");
    small.press("jjjj");
    small.until("the screen scrolled", |screen| !screen.contains("killed '"));
    small.press("kkkkkk");
    small.until_shown("killed 'com.example.second'");
    small.press("jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj");
    small.until_shown("exited: the pidfd turned readable");
    small.leave();
}

#[test]
fn keys_are_heard_while_the_daemon_does_not_answer() {
    let daemon = Daemon::start(&[]);
    let mut terminal = Terminal::open(&daemon, 100);
    terminal.until_shown("kills 0");
    daemon.while_stopped(|| {
        let head = |screen: &str| screen.lines().next().map(str::to_owned);
        let first = head(&terminal.last_screen());
        // The time goes on, and with it the questions.
        terminal.until("a later second", |screen| head(screen) != first);
        terminal.press("w");
        terminal.until_shown("What keeps each rule from killing now:");
        terminal.leave();
    });
}

#[test]
fn what_is_no_terminal_and_what_is_no_daemon_is_said_to_be_none() {
    let daemon = Daemon::start(&[]);
    let (code, _, error) = run(&["watch", &format!("--socket={}", daemon.socket.display())]);
    assert!(code == 1 && error.contains("no terminal"), "{error}");
    let there = format!("{LMKCTL} watch {}", operator::NOWHERE);
    let nobody = Command::new("script").args(["-qec", &there, "/dev/null"]).output().unwrap();
    let told = String::from_utf8_lossy(&nobody.stdout);
    assert!(nobody.status.code() == Some(1) && told.contains("no daemon runs"), "{told}");
    assert!(!told.contains(HOME), "the terminal was not touched: {told:?}");
}

#[test]
fn a_signal_that_ends_it_leaves_the_terminal_as_it_was() {
    let daemon = Daemon::start(&[]);
    let mut terminal = Terminal::open(&daemon, 1000);
    terminal.until_shown("kills 0");
    let script = terminal.child.id();
    let children = format!("/proc/{script}/task/{script}/children");
    let watch = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    kill_process(Pid::from_raw(watch).unwrap(), Signal::INT).unwrap();
    assert!(terminal.child.wait().unwrap().success());
    terminal.out.read_to_end(&mut terminal.written).unwrap();
    assert!(terminal.written.ends_with(b"\x1b[?1049l"), "{}", terminal.last_screen());
}
