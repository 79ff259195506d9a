//! The watchdog of the real daemon, whose handler is made to stick by the seam of debug builds.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::pressure::Pressure;
use host::wire::Raw;
use host::wire::PROCPRIO;
use host::wire::PROCPURGE;
use host::wire::PROCREMOVE;
use host::wire::UPDATE_PROPS;
use lmkd::control::client::Client;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::ProcPrio;
use lmkd::control::wire::ProcType;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::net::AddressFamily;
use rustix::net::RecvFlags;
use rustix::net::SendFlags;
use rustix::net::SocketAddrUnix;
use rustix::net::SocketType;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use rustix::process::WaitOptions;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

struct Daemon {
    child: Child,
    dir: PathBuf,
}

impl Daemon {
    fn start(stuck_ms: u32, args: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("lmkd-watchdog-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let deaf = ["--set=psi_partial_stall_ms=0", "--set=psi_complete_stall_ms=0"];
        let watches = args.iter().any(|arg| arg.starts_with("--psi"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_lmkd"))
            .arg("--no-adopt")
            .args(deaf.iter().filter(|_| !watches))
            .arg("--socket")
            .arg(dir.join("socket"))
            .arg("--kill-log")
            .arg(dir.join("kills"))
            .args(args)
            .env("LMKD_TEST_STUCK_HANDLER_MS", stuck_ms.to_string())
            .env("LMKD_TEST_STUCK_UNTIL", dir.join("enough"))
            .env_remove("ANDROID_SOCKET_lmkd")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The last of what it says at its start. The pipe holds what it says later.
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("next victims") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0);
        }
        child.stderr = Some(stderr.into_inner());
        Self { child, dir }
    }

    /// Its handler goes on, however long it was to be stuck.
    fn release(&self) {
        std::fs::write(self.dir.join("enough"), "").unwrap();
    }

    fn client(&self) -> Client {
        let client = Client::connect(&self.dir.join("socket")).unwrap();
        client.set_timeout(Some(Duration::from_secs(60))).unwrap();
        client
    }

    /// Ends it; what it said since its start.
    fn end(self) -> String {
        self.end_having_said("")
    }

    /// Ends it once it has said `words`, which a thread of its own may say a little later; all that it
    /// said since its start.
    fn end_having_said(mut self, words: &str) -> String {
        let mut said = self.await_words(words);
        self.child.kill().unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// Waits until it has said `words`; what it has said up to them.
    fn await_words(&mut self, words: &str) -> String {
        let mut said = vec![];
        let stderr = self.child.stderr.as_mut().unwrap();
        // Byte by byte: nothing that comes behind them is taken out of the pipe.
        while !String::from_utf8_lossy(&said).contains(words) {
            let mut byte = [0];
            let count = stderr.read(&mut byte).unwrap();
            assert_ne!(count, 0, "{}", String::from_utf8_lossy(&said));
            said.extend(byte);
        }
        String::from_utf8(said).unwrap()
    }

    /// Its first `count` records, once they are written.
    fn event_records(&self, count: usize) -> Vec<serde_json::Value> {
        let text = host::until("the records", || {
            let text = std::fs::read_to_string(self.dir.join("kills")).ok()?;
            (text.matches('\n').count() >= count).then_some(text)
        });
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct App(Child);

impl App {
    fn start() -> Self {
        let app = Self(Command::new("sleep").arg("600").spawn().unwrap());
        // It gets its new name a little after its new program.
        host::until("the name", || {
            let name = std::fs::read(format!("/proc/{}/cmdline", app.pid())).ok()?;
            name.starts_with(b"sleep").then_some(())
        });
        app
    }

    fn register(&self, client: &mut Client, adj: i32) {
        let (pid, uid) = (Pid::new(self.pid()).unwrap(), 10_001);
        let adj = OomScoreAdj::new(adj).unwrap();
        client.register(&ProcPrio { pid, uid, adj, kind: ProcType::App }).unwrap();
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Waits for its end: whether SIGKILL was it, and how long it took.
    fn killed_after(&mut self, since: Instant) -> Duration {
        let pid = rustix::process::Pid::from_child(&self.0);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
        let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
        let mut ended = [PollFd::new(&pidfd, PollFlags::IN)];
        assert_eq!(
            rustix::event::poll(&mut ended, Some(&limit)).unwrap(),
            1,
            "nobody kills {pid:?}"
        );
        assert_eq!(self.0.wait().unwrap().signal(), Some(9));
        since.elapsed()
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stuck_handler_costs_one_victim_each_two_seconds_and_clients_are_told_afterwards() {
    let daemon = Daemon::start(60_000, &[]);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let [mut third, mut first, mut second, mut system] = [(); 4].map(|()| App::start());
    for (app, adj) in [(&third, 200), (&first, 900), (&second, 900), (&system, -900)] {
        app.register(&mut client, adj);
    }
    let mut asking = daemon.client();
    asking.kill_count(KillCount::Total).unwrap();

    let start = Instant::now();
    let answer = std::thread::spawn(move || asking.update_props());
    let after = first.killed_after(start);
    assert!(after >= Duration::from_secs(2), "{after:?}");
    assert!(second.is_alive());
    let after = second.killed_after(start);
    daemon.release();
    assert!(after >= Duration::from_secs(4), "{after:?}");
    answer.join().unwrap().unwrap();
    assert!(third.is_alive() && system.is_alive());

    for app in [&first, &second] {
        let KillEvent::Killed(notice) = client.next_event().unwrap() else { panic!() };
        assert_eq!((notice.pid, notice.uid), (app.pid(), 10_001));
        assert!(notice.rss_kb > 0);
    }
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 2);
    let adj = |value| OomScoreAdj::new(value).unwrap();
    assert_eq!(client.kill_count(KillCount::Between(adj(900), adj(900))).unwrap(), 2);
    let records = daemon.event_records(2);
    let told: Vec<_> =
        records.iter().map(|r| (&r["Pid"], &r["OomAdj"], &r["kill_reasons"])).collect();
    assert_eq!(records.len(), 2, "{told:?}");
    for (record, app) in records.iter().zip([&first, &second]) {
        assert_eq!(record["Pid"], app.pid());
        assert_eq!((&record["OomAdj"], &record["kill_reasons"]), (&900.into(), &(-1).into()));
    }

    let said = daemon.end_having_said(&format!("Kill 'sleep' ({})", second.pid()));
    // By the watchdog's own clock: the test may have heard of the deaths late.
    let ran = said.split("lmkd watchdog timed out: one handler has been running for ").skip(1);
    let ran: Vec<u32> = ran.map(|rest| rest.split("ms").next().unwrap().parse().unwrap()).collect();
    assert!(matches!(ran[..], [2000..3500, second] if second >= 4000), "{ran:?}");
    // Where it is stuck.
    assert_eq!(said.matches("ms; the loop is in state S, system call ").count(), 2, "{said}");
    for app in [&first, &second] {
        assert!(said.contains(&format!("Kill 'sleep' ({})", app.pid())), "{said}");
        // Gone or proven, as the kernel can tell.
        assert!(said.contains(&format!("'sleep' ({}) ", app.pid())), "{said}");
    }
}

#[test]
fn a_dry_run_names_the_watchdogs_victim_and_spares_it() {
    let mut daemon = Daemon::start(60_000, &["--dry-run"]);
    let mut client = daemon.client();
    let mut app = App::start();
    app.register(&mut client, 900);
    client.kill_count(KillCount::Total).unwrap();
    let mut asking = daemon.client();
    let answer = std::thread::spawn(move || asking.update_props());
    daemon.await_words(&format!("dry run, would: Kill 'sleep' ({})", app.pid()));
    daemon.release();
    answer.join().unwrap().unwrap();
    assert!(app.is_alive());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
}

#[test]
fn a_handler_that_ends_in_time_costs_nobody() {
    let daemon = Daemon::start(1500, &[]);
    let mut client = daemon.client();
    let mut app = App::start();
    app.register(&mut client, 900);
    // Together they take longer than one may.
    for _ in 0..2 {
        client.update_props().unwrap();
    }
    assert!(app.is_alive());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
    let said = daemon.end();
    assert!(!said.contains("watchdog"), "{said}");
}

#[test]
fn many_commands_that_each_end_in_time_cost_nobody() {
    let daemon = Daemon::start(900, &[]);
    let mut client = daemon.client();
    let mut app = App::start();
    app.register(&mut client, 900);
    // What comes while the first is executed is served in one turn.
    let updates = daemon.client();
    let update = 7_i32.to_be_bytes();
    for _ in 0..5 {
        rustix::net::send(&updates, &update, SendFlags::NOSIGNAL).unwrap();
    }
    for _ in 0..5 {
        let mut answer = [0; 16];
        rustix::net::recv(&updates, &mut answer, RecvFlags::empty()).unwrap();
        assert_eq!(answer[..8], [7_i32, 0].map(i32::to_be_bytes).concat());
    }
    assert!(app.is_alive());
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
    let said = daemon.end();
    assert!(!said.contains("watchdog"), "{said}");
}

#[test]
fn a_subscriber_that_never_reads_does_not_rouse_the_watchdog() {
    let daemon = Daemon::start(0, &[]);
    let mut asking = daemon.client();
    let mut app = App::start();
    app.register(&mut asking, 900);
    let deaf = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let address = SocketAddrUnix::new(daemon.dir.join("socket")).unwrap();
    rustix::net::connect(&deaf, &address).unwrap();
    // Answers that are not taken fill its queue, for longer than a handler may run.
    let question = [4_i32, 0, 0].map(i32::to_be_bytes).concat();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        for _ in 0..100 {
            rustix::net::send(&deaf, &question, SendFlags::empty()).unwrap();
        }
        asking.kill_count(KillCount::Total).unwrap();
    }
    assert!(app.is_alive());
    assert_eq!(asking.kill_count(KillCount::Total).unwrap(), 0);
    let said = daemon.end();
    assert!(!said.contains("watchdog"), "{said}");
}

/// What the loop has learnt in the very turn in which it is stuck holds for the watchdog as well.
#[test]
fn whom_a_client_has_just_protected_or_taken_back_the_watchdog_spares() {
    let daemon = Daemon::start(60_000, &[]);
    let client = Raw::connect(&daemon.dir.join("socket"));
    let [mut shielded, mut raised, mut removed, mut next] = [(); 4].map(|()| App::start());
    let register = |app: &App, adj| client.words(&[PROCPRIO, app.pid(), 10_001, adj]);
    for (app, adj) in [(&shielded, 900), (&raised, 800), (&removed, 700), (&next, 600)] {
        register(app, adj);
    }
    client.barrier();
    let pid = rustix::process::Pid::from_child(&daemon.child);
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
    register(&shielded, -900);
    register(&raised, 0);
    client.words(&[PROCREMOVE, removed.pid()]);
    client.words(&[UPDATE_PROPS]);
    // One turn serves what waits for it.
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    next.killed_after(Instant::now());
    daemon.release();
    client.receive();
    assert!(shielded.is_alive() && raised.is_alive() && removed.is_alive());
}

#[test]
fn after_a_purge_the_watchdog_has_nobody_to_kill() {
    let mut daemon = Daemon::start(60_000, &[]);
    let client = Raw::connect(&daemon.dir.join("socket"));
    let mut app = App::start();
    client.words(&[PROCPRIO, app.pid(), 10_001, 900]);
    client.barrier();
    let pid = rustix::process::Pid::from_child(&daemon.child);
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    rustix::process::waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
    client.words(&[PROCPURGE]);
    client.words(&[UPDATE_PROPS]);
    rustix::process::kill_process(pid, Signal::CONT).unwrap();
    daemon.await_words("lmkd watchdog has nobody to kill");
    daemon.release();
    client.receive();
    assert!(app.is_alive());
}

/// The loop has no time for pressure: what it would have killed for it, the watchdog kills.
#[test]
fn under_pressure_a_stuck_handler_costs_victims_in_kill_order_each_of_them_once() {
    let Some(mut pressure) = Pressure::prepare("stuck under pressure") else { return };
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(60_000, &args);
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let mut apps = [100, 900, 500].map(|adj| (adj, App::start()));
    for (adj, app) in &apps {
        app.register(&mut client, *adj);
    }
    let mut asking = daemon.client();
    asking.kill_count(KillCount::Total).unwrap();
    let start = Instant::now();
    let answer = std::thread::spawn(move || asking.update_props());
    pressure.rise();
    apps.sort_by_key(|(adj, _)| -adj);
    let mut pids = vec![];
    for (index, (_, app)) in apps.iter_mut().enumerate() {
        let after = app.killed_after(start);
        let least = [2, 4, 4][index];
        assert!(after >= Duration::from_secs(least), "the kill no. {index} after {after:?}");
        if index == 1 {
            // The watchdog's are written by a thread of their own, later than the loop's if that has the CPU.
            daemon.event_records(2);
            daemon.release();
        }
        pids.push(app.pid());
    }
    answer.join().unwrap().unwrap();
    for pid in &pids {
        let KillEvent::Killed(notice) = client.next_event().unwrap() else { panic!() };
        assert_eq!(notice.pid, *pid);
    }
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 3);
    // By whom: the watchdog, which gives no reason, and then the loop.
    let records = daemon.event_records(3);
    let told: Vec<_> =
        records.iter().map(|r| (r["Pid"].as_i64(), r["kill_reasons"] == -1)).collect();
    let pid = |n: usize| Some(i64::from(pids[n]));
    assert_eq!(told, [(pid(0), true), (pid(1), true), (pid(2), false)]);
}

/// Its command line is the victim's own memory, and could keep whoever reads it waiting.
#[test]
fn the_watchdog_names_its_victim_without_reading_its_memory() {
    let script = "$0 = 'as.prepared'; $SIG{USR1} = sub { $0 = 'changed'; print qq(changed\n) }; \
        $| = 1; print qq(ready\n); sleep 1 while 1";
    let child = Command::new("perl").args(["-e", script]).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        host::skip("the watchdog's victim's name", "no perl");
        return;
    };
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut app = App(child);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let mut daemon = Daemon::start(60_000, &["--set=debug=true"]);
    let mut client = daemon.client();
    app.register(&mut client, 900);
    daemon.await_words(&format!("process {} is called 'as.prepared'", app.pid()));
    // The watchdog knows by the next turn.
    client.kill_count(KillCount::Total).unwrap();
    let mut asking = daemon.client();
    let answer = std::thread::spawn(move || asking.update_props());
    let start = Instant::now();
    let pid = rustix::process::Pid::from_raw(app.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "changed\n");
    app.killed_after(start);
    daemon.release();
    answer.join().unwrap().unwrap();
    daemon.end_having_said(&format!("Kill 'as.prepared' ({})", app.pid()));
}
