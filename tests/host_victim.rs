//! What becomes of a victim between its SIGKILL and its end: frozen, ended by something else,
//! moved to where it gets a CPU.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::daemon::Daemon;
use host::tracer::Brink;
use host::tracer::Tracer;
use lmkd::control::client::Client;
use lmkd::control::client::KillEvent;
use lmkd::control::wire::Event;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::pidfd::Exit;
use lmkd::recorder::client::Client as Operator;
use lmkd::recorder::wire::path_beside;
use lmkd::recorder::Record;
use lmkd::recorder::Status;
use lmkd::recorder::Step;
use lmkd::units::Kib;
use lmkd::units::Pages;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

const SIGKILL: i32 = 9;

/// Every look of it kills once [`kill_from_now_on`] has been told.
fn eager_daemon(launcher: &[String], kill_timeout_ms: u64) -> Daemon {
    let launcher: Vec<&str> = launcher.iter().map(String::as_str).collect();
    let timeout = format!("--set=kill_timeout_ms={kill_timeout_ms}");
    let eager = ["--set=use_psi=false", "--set=use_minfree_levels=true", "--set=debug=true"];
    Daemon::start_under(&launcher, &[&eager[..], &[timeout.as_str()]].concat())
}

/// A client that hears of kills, and has registered these.
fn client_with(daemon: &Daemon, apps: &[(&App, i32)]) -> Client {
    let mut client = daemon.client();
    client.subscribe(Event::Kill).unwrap();
    let records: Vec<_> = apps.iter().map(|(app, adj)| app.at(*adj)).collect();
    client.register_all(&records).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    client
}

/// All memory there is is too little.
fn kill_from_now_on(client: &mut Client) {
    let level = Target { minfree: Pages(i64::from(i32::MAX)), adj: OomScoreAdj::FOREGROUND };
    client.set_targets(&Targets::new(&[level]).unwrap()).unwrap();
}

/// The process of the next kill.
#[track_caller]
fn next_killed(client: &mut Client) -> i32 {
    let KillEvent::Killed(notice) = client.next_event().unwrap() else { panic!() };
    notice.pid
}

fn status(daemon: &Daemon) -> Status {
    Operator::connect(&path_beside(&daemon.socket)).unwrap().status().unwrap().1
}

/// The words before a command that is run where `script` has changed the mounts, for it alone.
/// None, and said so, where that is not permitted.
fn with_own_mounts(test: &str, script: &str) -> Option<Vec<String>> {
    let script = format!("{script} && exec \"$@\"");
    let words = ["unshare", "--mount", "sh", "-c", &script, "sh"];
    let words = words.map(str::to_owned).to_vec();
    let tried = Command::new(&words[0]).args(&words[1..]).arg("true").output();
    match tried {
        Ok(output) if output.status.success() => return Some(words),
        Ok(output) => host::skip(test, String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => host::skip(test, &format!("unshare: {error}")),
    }
    None
}

// ---- ended by something else ----

/// It begins to exit before the decision, and the signal comes before its end.
#[test]
fn a_victim_that_something_else_ended_is_told_apart_from_one_that_sigkill_ended() {
    for (act, exit) in [("exit 3", Exit::Status(3)), ("kill -TERM $$", Exit::Signal(libc::SIGTERM))]
    {
        let daemon = eager_daemon(&[], 30_000);
        let mut app = App::that_will("com.example.leaving", act);
        let mut client = client_with(&daemon, &[(&app, 900)]);
        let pid = app.pid();
        let Some(brink) = Brink::lead(pid, || app.let_go()) else {
            host::skip("ended otherwise", "processes may not be traced here");
            return;
        };
        kill_from_now_on(&mut client);
        assert_eq!(next_killed(&mut client), pid);
        // The signal has been sent, and has changed nothing.
        drop(brink);
        assert_eq!(Exit::from_wait(app.ended().into_raw()), exit);
        let who = format!("'com.example.leaving' ({pid})");
        if !host::kernel_tells_exit() {
            daemon.log.wait_for(1, &format!("Gone: {who} has exited"));
            continue;
        }
        daemon.log.wait_for(1, &format!("Proven: {who} had left by {exit} before our SIGKILL"));
        // It was alive when it was signalled, so that it counts as a kill; but not as proven.
        let status = status(&daemon);
        assert_eq!((status.kills, status.exits, status.proven, status.timeouts), (1, 1, 0, 0));
        let mut operator = Operator::connect(&path_beside(&daemon.socket)).unwrap();
        let steps = operator.dump().unwrap().into_iter().filter_map(|entry| match entry.record {
            Record::Fate(fate) if fate.pid == pid => Some(fate.step),
            _ => None,
        });
        assert_eq!(steps.collect::<Vec<_>>(), [Step::Exited, Step::Otherwise(exit)]);
    }
}

// ---- nameless ----

/// As if it held the lock of its memory for ever: opening a pipe to read waits for a writer.
#[test]
fn one_that_keeps_its_name_from_readers_delays_nobody_and_dies_like_any_other() {
    let apps = ["com.example.mute", "com.example.other"].map(App::start);
    let [mute, other] = &apps;
    let dir = host::own_dir();
    let pipe = dir.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mount = format!("mount --bind {} /proc/{}/cmdline", pipe.display(), mute.pid());
    let Some(launcher) = with_own_mounts("a name that cannot be read", &mount) else { return };
    let daemon = eager_daemon(&launcher, 30_000);
    let mut client = client_with(&daemon, &[(mute, 900), (other, 800)]);
    // Longer than a handler may take.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2500) {
        assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
    }
    kill_from_now_on(&mut client);
    for app in [mute, other] {
        assert_eq!(next_killed(&mut client), app.pid());
        // The kernel's name.
        daemon.log.wait_for(1, &format!("Kill 'sleep' ({})", app.pid()));
    }
    assert_eq!(daemon.log.with("watchdog"), [""; 0]);
    let _ = fs::remove_dir_all(&dir);
}

// ---- without its leader ----

/// Its own status tells of no memory, as if there were nothing to be had.
#[test]
fn a_victim_whose_leader_has_left_is_killed_for_what_its_threads_hold() {
    let name = "without its leader";
    if !Command::new("perl").args(["-Mthreads", "-e1"]).status().is_ok_and(|done| done.success()) {
        host::skip(name, "no perl with threads");
        return;
    }
    // exit(2) for the leader alone.
    let act = format!(
        "exec perl -Mthreads -e 'my $x = \"x\" x (32 << 20); threads->create(sub {{ sleep 600 }}); \
         syscall({}, 0)'",
        libc::SYS_exit
    );
    for before in [true, false] {
        let daemon = eager_daemon(&[], 30_000);
        let (mut app, next) = (App::that_will(name, &act), App::start("com.example.next"));
        let mut registered = vec![(&next, 800)];
        if before {
            registered.push((&app, 900));
        }
        let mut client = client_with(&daemon, &registered);
        app.let_go();
        host::until("its leader to leave", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).ok()?;
            (status.contains("State:\tZ") && status.contains("Threads:\t2")).then_some(())
        });
        if !before {
            client.register(&app.at(900)).unwrap();
        }
        kill_from_now_on(&mut client);
        let KillEvent::Killed(notice) = client.next_event().unwrap() else { panic!() };
        assert_eq!(notice.pid, app.pid());
        assert!(notice.rss_kb >= 32 << 10, "{}", notice.rss_kb);
        assert_eq!(app.ended_by(), Some(SIGKILL));
    }
}

// ---- frozen ----

/// Processes in here do not run. The inner group cannot be thawed alone.
struct Freezer {
    outer: PathBuf,
    inner: PathBuf,
    state: &'static str,
    words: [&'static str; 2],
}

impl Freezer {
    /// Of cgroup v1: what is in it does not even run to die.
    fn v1(test: &str) -> Option<Self> {
        Self::make(test, Path::new("/sys/fs/cgroup/freezer"), "freezer.state", ["FROZEN", "THAWED"])
    }

    /// Of cgroup v2, where SIGKILL alone ends what is frozen.
    fn v2(test: &str) -> Option<Self> {
        Self::make(test, &unified(), "cgroup.freeze", ["1", "0"])
    }

    fn make(test: &str, top: &Path, state: &'static str, words: [&'static str; 2]) -> Option<Self> {
        let outer = top.join(host::own_name());
        let inner = outer.join("inner");
        if let Err(error) = fs::create_dir_all(&inner) {
            host::skip(test, &format!("no freezer: {}: {error}", inner.display()));
            return None;
        }
        let freezer = Self { outer, inner, state, words };
        if !freezer.outer.join(state).exists() {
            host::skip(test, &format!("no {state} in {}", freezer.outer.display()));
            return None;
        }
        Some(freezer)
    }

    fn is_frozen(&self) -> bool {
        let events = fs::read_to_string(self.outer.join("cgroup.events")).unwrap_or_default();
        let state = fs::read_to_string(self.outer.join(self.state)).unwrap();
        state.starts_with("FROZEN") || events.contains("frozen 1")
    }

    fn freeze(&self, pids: &[i32]) {
        for pid in pids {
            fs::write(self.inner.join("cgroup.procs"), pid.to_string()).unwrap();
        }
        fs::write(self.outer.join(self.state), self.words[0]).unwrap();
        host::until("the group to freeze", || self.is_frozen().then_some(()));
    }

    fn thaw(&self) {
        let _ = fs::write(self.outer.join(self.state), self.words[1]);
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        remove(&self.inner);
        remove(&self.outer);
    }
}

/// Removes a group. Who is in it still goes to the one above, unless it is on its way out.
fn remove(group: &Path) {
    for _ in 0..200 {
        if fs::remove_dir(group).is_ok() {
            break;
        }
        let above = group.with_file_name("cgroup.procs");
        for member in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&above, member);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Where cgroup v2 is mounted.
fn unified() -> PathBuf {
    let top = Path::new("/sys/fs/cgroup");
    let beside_v1 = top.join("unified");
    if beside_v1.exists() {
        beside_v1
    } else {
        top.to_owned()
    }
}

/// A frozen victim dies at once, and nobody else in its group is let go.
fn dies_frozen(freezer: impl FnOnce() -> Option<Freezer>) {
    let daemon = eager_daemon(&[], 30_000);
    let mut frozen = App::start("com.example.frozen");
    let mut companion = App::start("com.example.companion");
    let mut client = client_with(&daemon, &[(&frozen, 900)]);
    // Last, so that it is the first to go: frozen apps could not be ended.
    let Some(freezer) = freezer() else { return };
    freezer.freeze(&[frozen.pid(), companion.pid()]);
    kill_from_now_on(&mut client);
    assert_eq!(frozen.ended_by(), Some(SIGKILL));
    daemon.log.wait_for(1, "Process got killed in ");
    assert_eq!(daemon.log.with("has not exited"), [""; 0]);
    assert!(freezer.is_frozen());
    assert!(companion.is_alive());
}

#[test]
fn a_frozen_victim_is_thawed_and_dies_at_once() {
    dies_frozen(|| Freezer::v1("frozen victim"));
}

#[test]
fn a_frozen_victim_that_cannot_be_thawed_costs_one_timeout_and_then_the_next_one_dies() {
    let test = "frozen victim that cannot be thawed";
    let Some(mounts) = with_own_mounts(test, "umount -l /sys/fs/cgroup/freezer") else { return };
    let daemon = eager_daemon(&mounts, 2000);
    let mut frozen = App::start("com.example.frozen");
    let mut next = App::start("com.example.next");
    let mut client = client_with(&daemon, &[(&frozen, 900), (&next, 800)]);
    let Some(freezer) = Freezer::v1(test) else { return };
    freezer.freeze(&[frozen.pid()]);

    kill_from_now_on(&mut client);
    assert_eq!(next_killed(&mut client), frozen.pid());
    assert_eq!(next_killed(&mut client), next.pid());
    assert_eq!(next.ended_by(), Some(SIGKILL));
    // It needs no CPU of the victim's to have its memory back.
    daemon.log.wait_for(1, "has not exited 2000ms after SIGKILL; its memory is back;");

    // Each look would kill, and nobody is left.
    daemon.log.wait_for(1, "a kill is due");
    assert!(frozen.is_alive());
    let told = status(&daemon);
    assert_eq!((told.kills, told.timeouts, told.owed), (2, 1, Kib::ZERO));
    let [first, second] = daemon.signalled()[..] else { panic!() };
    assert!(second.millis_since(first) >= 2000, "{first:?}, {second:?}");
    assert_eq!(daemon.log.with("Kill '").len(), 2);

    // It stayed on watch.
    freezer.thaw();
    assert_eq!(frozen.ended_by(), Some(SIGKILL));
    daemon.log.wait_for(2, "Process got killed in ");
    if host::kernel_tells_exit() {
        let said = format!("Proven: 'com.example.frozen' ({}) was ended by SIGKILL", frozen.pid());
        daemon.log.wait_for(1, &said);
        assert_eq!(status(&daemon).proven, 2);
    }
}

#[test]
fn a_victim_frozen_by_cgroup_v2_dies_of_the_signal_alone() {
    dies_frozen(|| Freezer::v2("victim frozen by cgroup v2"));
}

// ---- moved ----

/// Groups as Android has them, in a hierarchy of this machine: one for what the user sees and one
/// for the rest.
struct Groups(PathBuf);

impl Groups {
    /// In the hierarchy of cgroup v1 that has the controller, else in that of v2.
    fn make(test: &str, controller: &str) -> Option<Self> {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let top = if v1.join("cgroup.procs").exists() { v1 } else { unified() };
        let groups = Self(top.join(host::own_name()));
        if let Err(error) = groups.fill(&top) {
            host::skip(test, &format!("no groups in {}: {error}", top.display()));
            return None;
        }
        Some(groups)
    }

    fn fill(&self, top: &Path) -> std::io::Result<()> {
        for group in [self.0.clone(), self.foreground(), self.background()] {
            fs::create_dir(&group)?;
            // Without these nobody may enter a cpuset of v1. Those of v2 have their parent's.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if group.join("tasks").exists() && group.join(file).exists() {
                    fs::write(group.join(file), fs::read(top.join(file))?)?;
                }
            }
        }
        Ok(())
    }

    fn foreground(&self) -> PathBuf {
        self.0.join("foreground")
    }

    fn background(&self) -> PathBuf {
        self.0.join("background")
    }

    fn are_in(pid: i32, group: &Path) -> bool {
        let members = fs::read_to_string(group.join("cgroup.procs")).unwrap();
        members.lines().any(|member| member == pid.to_string())
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in [self.foreground(), self.background(), self.0.clone()] {
            remove(&group);
        }
    }
}

#[test]
fn a_victim_is_moved_to_the_groups_of_what_the_user_sees() {
    let test = "groups";
    let Some(cpusets) = Groups::make(test, "cpuset") else { return };
    let Some(shares) = Groups::make(test, "cpu") else { return };
    let script = format!(
        "mount -t tmpfs none /dev && mkdir /dev/cpuset /dev/cpuctl && \
         mount --bind {} /dev/cpuset && mount --bind {} /dev/cpuctl",
        cpusets.0.display(),
        shares.0.display()
    );
    let Some(mounts) = with_own_mounts(test, &script) else { return };
    let daemon = eager_daemon(&mounts, 30_000);
    let mut victim = App::start("com.example.background");
    let mut other = App::start("com.example.other");
    for groups in [&cpusets, &shares] {
        for app in [&victim, &other] {
            let members = groups.background().join("cgroup.procs");
            fs::write(members, app.pid().to_string()).unwrap();
        }
    }
    let mut client = client_with(&daemon, &[(&victim, 900), (&other, 800)]);
    let Some(mut tracer) = Tracer::hold(victim.pid()) else {
        host::skip(test, "processes may not be traced here");
        return;
    };
    kill_from_now_on(&mut client);
    assert_eq!(next_killed(&mut client), victim.pid());
    // In the one hierarchy of v2 it can be in one of them only.
    let apart = cpusets.0.parent() != shares.0.parent();
    let moved = || {
        let by_cpuset = !apart || Groups::are_in(victim.pid(), &cpusets.foreground());
        (by_cpuset && Groups::are_in(victim.pid(), &shares.foreground())).then_some(())
    };
    host::until("the move", moved);
    if apart {
        assert!(Groups::are_in(other.pid(), &cpusets.background()));
    }
    assert!(!Groups::are_in(other.pid(), &shares.foreground()));
    assert!(other.is_alive());
    drop(client);
    // Nobody else is to be killed: the daemon goes first.
    drop(daemon);
    tracer.release();
    assert_eq!(victim.ended_by(), Some(SIGKILL));
    other.end();
}
