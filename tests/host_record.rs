//! The flight recorder of the real daemon, as an operator gets to it.
#![allow(missing_docs, unsafe_code, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::daemon::Daemon;
use host::pressure::Pressure;
use host::until;
use host::PATIENCE;
use lmkd::control::wire::KillCount;
use lmkd::recorder::client::Client;
use lmkd::recorder::client::ClientError;
use lmkd::recorder::wire::path_beside;
use lmkd::recorder::wire::Request;
use lmkd::recorder::Act;
use lmkd::recorder::Change;
use lmkd::recorder::Entry;
use lmkd::recorder::Fate;
use lmkd::recorder::Kill;
use lmkd::recorder::Look;
use lmkd::recorder::Pressure as Source;
use lmkd::recorder::Record;
use lmkd::recorder::Recording;
use lmkd::recorder::Removal;
use lmkd::recorder::Replayer;
use lmkd::recorder::Step;
use rustix::process::Signal;
use std::path::Path;

fn operator(daemon: &Daemon) -> Client {
    Client::connect(&path_beside(&daemon.socket)).unwrap()
}

/// A daemon that keeps a recording beside its socket.
fn recording_daemon(args: &[&str]) -> (Daemon, std::path::PathBuf) {
    let dir = host::own_dir();
    let file = dir.join("flight.rec");
    let record = format!("--record={}", file.display());
    (Daemon::start(&[args, &[record.as_str()]].concat()), file)
}

/// Kills these apps, one a second at most, and waits for their deaths to be told.
fn kill_all(daemon: &Daemon, pressure: &mut Pressure, apps: &mut [App]) {
    let mut client = daemon.client();
    let records: Vec<_> = apps.iter().map(|app| app.at(900)).collect();
    client.register_all(&records).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    pressure.rise();
    for app in apps.iter_mut() {
        assert_eq!(app.ended_by(), Some(9));
    }
    pressure.fall();
}

fn kills(entries: &[Entry]) -> Vec<&Kill> {
    let kill = |entry| match entry {
        &Entry { record: Record::Kill(ref kill), .. } => Some(&**kill),
        _ => None,
    };
    entries.iter().filter_map(kill).collect()
}

fn fates(entries: &[Entry]) -> Vec<&Fate> {
    let fate = |entry| match entry {
        &Entry { record: Record::Fate(ref fate), .. } => Some(&**fate),
        _ => None,
    };
    entries.iter().filter_map(fate).collect()
}

fn looks(entries: &[Entry]) -> Vec<&Look> {
    let look = |entry| match entry {
        &Entry { record: Record::Look(ref look), .. } => Some(&**look),
        _ => None,
    };
    entries.iter().filter_map(look).collect()
}

/// Runs the decision over a recording; how many looks came out as they were recorded.
fn decided_again(entries: &[Entry]) -> usize {
    let mut replayer = Replayer::new(|_| {});
    let mut same = 0;
    for entry in entries {
        let replayed = replayer.next(entry);
        if let Record::Look(look) = &entry.record {
            let replayed = replayed.expect("a checkpoint before the first look");
            assert!(replayed.equals(look), "{look:#?}\ncame out as\n{replayed:#?}");
            same += 1;
        }
    }
    assert_eq!(replayer.strayed, 0);
    same
}

#[test]
fn an_operator_is_told_the_state_of_the_daemon() {
    let daemon = Daemon::start(&["--set=thrashing_limit=77"]);
    let mut app = App::start("com.example.next");
    let mut client = daemon.client();
    client.register_all(&[app.at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();

    let mut operator = operator(&daemon);
    let header = operator.header().unwrap();
    assert_eq!((header.pid, header.adopt, header.dry_run), (daemon.pid(), false, false));
    assert_eq!(header.version.to_string(), env!("CARGO_PKG_VERSION"));
    let (settings, status) = operator.status().unwrap();
    assert_eq!(settings.tunables.thrashing_limit, 77);
    assert_eq!((status.registered, status.kills, status.clients), (1, 0, 1));
    let next: Vec<_> = status.next.iter().collect();
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].process.pid, next[0].process.adj.get()), (app.pid(), 900));
    assert_eq!(next[0].name.to_string(), "com.example.next");
    let seen = status.seen.expect("memory can be read");
    let signals = seen.verdict.signals.expect("always there in a status");
    assert!(signals.watermarks.high > lmkd::units::Pages::ZERO);
    assert!(status.rss.get() > 100);
    assert_eq!(status.ring.size, 512 * 1024);
    // Those who ask leave the history as it is. What is new in it now and then is of looks, as the
    // machine's kswapd may cause them at any time.
    let mut other = self::operator(&daemon);
    let records = |asking: &mut Client| asking.status().unwrap().1.ring.records;
    let same = (0..20).any(|_| records(&mut operator) == records(&mut other));
    assert!(same, "each status makes records");
    assert!(app.is_alive());
}

/// How often the loop has read anything; None where the kernel does not count.
fn reads_of_the_loop(daemon: &Daemon) -> Option<u64> {
    let pid = daemon.pid();
    let io = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("syscr: ")?.parse().ok())
}

#[test]
fn who_is_next_is_found_out_by_another_thread_than_the_loop() {
    let daemon = Daemon::start(&[]);
    let mut operator = operator(&daemon);
    let mut client = daemon.client();
    let apps: Vec<_> = (0..30).map(|n| App::start(&format!("com.example.many{n}"))).collect();
    let mut reads = |count: usize| {
        let records: Vec<_> = apps.iter().take(count).map(|app| app.at(0)).collect();
        client.register_all(&records).unwrap();
        client.kill_count(KillCount::Total).unwrap();
        // What a registration leaves to be done is done by then.
        operator.status().unwrap();
        // The machine's kswapd may cause looks, which read as well. The least is that of a status alone.
        let mut least = u64::MAX;
        for _ in 0..20 {
            let before = reads_of_the_loop(&daemon)?;
            let next = operator.status().unwrap().1.next;
            assert_eq!(next.len(), count.min(16));
            least = least.min(reads_of_the_loop(&daemon)? - before);
        }
        Some(least)
    };
    let (Some(few), Some(many)) = (reads(1), reads(30)) else {
        host::skip("reads of the loop", "this kernel does not count them");
        return;
    };
    assert!(few > 0 && many < few + 4, "{few} reads with one registered, {many} with 30");
}

#[test]
fn what_was_decided_is_dumped_and_decided_again_to_the_same() {
    let Some(mut pressure) = Pressure::prepare("dump") else { return };
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&args);
    let mut apps: Vec<_> =
        ["com.example.one", "com.example.two"].into_iter().map(App::start).collect();
    kill_all(&daemon, &mut pressure, &mut apps);
    daemon.log.wait_for(2, "Process got killed");
    let mut operator = operator(&daemon);
    let entries = operator.dump().unwrap();

    let seqs: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=u64::try_from(seqs.len()).unwrap()).collect::<Vec<_>>());
    let kills = kills(&entries);
    assert_eq!(kills.len(), 2);
    for (kill, app) in kills.iter().zip(&apps) {
        assert_eq!((kill.pid, kill.adj.get()), (app.pid(), 900));
        assert_eq!(kill.name.to_string(), app.name);
        let moments = kill.moments;
        assert!(moments.woken <= moments.decided && moments.decided <= moments.signalled);
        // The look that it points to says the same.
        let look = &entries[usize::try_from(kill.look).unwrap() - 1];
        let Record::Look(look) = &look.record else { panic!("{look:?}") };
        assert_eq!(look.act, Act::Killed { pid: kill.pid, ticket: kill.ticket });
        assert_eq!(look.seen.as_ref().unwrap().verdict.cause, Some(kill.cause));
        let steps: Vec<_> = fates(&entries)
            .iter()
            .filter(|fate| fate.ticket == kill.ticket)
            .map(|fate| fate.step)
            .collect();
        assert!(steps.contains(&Step::Exited), "{steps:?}");
        let removed = Change::Removed { pid: kill.pid, why: Removal::Killed };
        let is = |entry: &Entry| matches!(&entry.record, Record::Change(c) if **c == removed);
        assert!(entries.iter().any(is));
    }
    assert_eq!(kills[0].next.iter().map(|next| next.pid).collect::<Vec<_>>(), [apps[1].pid()]);
    let monitors = |entry: &Entry| {
        matches!(&entry.record, Record::Sources(s)
        if matches!(s.pressure, Source::Monitors { medium: false, critical: true, .. }))
    };
    assert!(entries.iter().any(monitors));
    assert!(decided_again(&entries) >= 2);

    // The dump as a file is the same.
    let mut file = Vec::new();
    operator.copy_to(Request::Dump, &mut file, None).unwrap().unwrap();
    let recording = Recording::parse(&file).unwrap();
    assert_eq!(recording.tear, None);
    assert_eq!(recording.entries[1..=entries.len()], entries);
    let (_, status) = operator.status().unwrap();
    assert_eq!((status.kills, status.exits, status.to_signal.count), (2, 2, 2));
    let steps = status.steps.unwrap();
    assert_eq!((steps.to_decision.count, steps.to_raise.count), (2, 2));
    assert!(steps.to_decision.max <= status.to_signal.max);
    assert_eq!(status.by_reason.iter().map(|(_, count)| count).sum::<u32>(), 2);
}

#[test]
fn one_who_follows_gets_records_as_they_are_made() {
    let daemon = Daemon::start(&[]);
    let mut operator = operator(&daemon);
    operator.request(Request::Follow { history: false }).unwrap();
    // The status is answered after the request before it was taken.
    self::operator(&daemon).status().unwrap();
    let app = App::start("com.example.followed");
    let mut client = daemon.client();
    client.register_all(&[app.at(700)]).unwrap();
    client.register_all(&[app.at(800)]).unwrap();
    // Looks that the machine's kswapd causes may come in between.
    let mut next = || loop {
        if let Record::Change(change) = operator.next(Some(PATIENCE)).unwrap().unwrap().record {
            return *change;
        }
    };
    assert!(matches!(next(), Change::Added(p) if p.pid == app.pid() && p.adj.get() == 700));
    assert!(matches!(next(), Change::Moved(p) if p.adj.get() == 800));
    let pid = app.pid();
    drop(app);
    assert_eq!(next(), Change::Removed { pid, why: Removal::Exited });
}

#[test]
fn a_signal_has_the_recording_written_beside_the_socket() {
    let daemon = Daemon::start(&[]);
    daemon.signal(Signal::USR1);
    daemon.log.wait_for(1, "a recording was written to");
    let recording =
        Recording::open(Path::new(&format!("{}.rec", daemon.socket.display()))).unwrap();
    assert_eq!((recording.header.pid, recording.tear), (daemon.pid(), None));
    assert!(recording.entries.iter().any(|entry| matches!(entry.record, Record::Checkpoint(_))));
}

#[test]
fn a_recording_is_kept_after_each_kill_and_survives_the_daemon() {
    let Some(mut pressure) = Pressure::prepare("record") else { return };
    let args = pressure.args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (mut daemon, file) = recording_daemon(&args);
    let mut apps = vec![App::start("com.example.recorded")];
    kill_all(&daemon, &mut pressure, &mut apps);
    // The file is written by a thread of its own.
    let read = until("the kill in the file", || {
        let recording = Recording::open(&file).unwrap();
        let exited = fates(&recording.entries).iter().any(|fate| fate.step == Step::Exited);
        exited.then_some(recording)
    });
    assert_eq!(kills(&read.entries)[0].name.to_string(), "com.example.recorded");
    assert!(decided_again(&read.entries) > 0);
    assert!(looks(&read.entries).iter().any(|look| matches!(look.act, Act::Killed { .. })));
    daemon.end(Signal::KILL);
    assert_eq!(kills(&Recording::open(&file).unwrap().entries).len(), 1);
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
}

#[test]
fn a_full_ring_makes_room_and_its_readers_are_told() {
    let daemon = Daemon::start(&["--set=recorder_kb=32"]);
    let app = App::start("com.example.restless");
    let mut client = daemon.client();
    for round in 0..2000 {
        client.register_all(&[app.at(800 + round % 2)]).unwrap();
    }
    client.kill_count(KillCount::Total).unwrap();
    let entries = operator(&daemon).dump().unwrap();
    assert!(entries[0].seq > 100, "{}", entries[0].seq);
    assert!(entries.windows(2).all(|two| two[1].seq == two[0].seq + 1));
    // A replay can start somewhere in it.
    assert!(entries.iter().any(|entry| matches!(entry.record, Record::Checkpoint(_))));
}

#[test]
fn a_client_that_never_reads_keeps_nobody_waiting() {
    let daemon = Daemon::start(&["--set=recorder_kb=64"]);
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let mut client = operator(&daemon);
        client.request(Request::Follow { history: true }).unwrap();
        deaf.push(client);
    }
    let app = App::start("com.example.busy");
    let mut client = daemon.client();
    for round in 0..20_000 {
        client.register_all(&[app.at(800 + round % 2)]).unwrap();
    }
    client.kill_count(KillCount::Total).unwrap();
    assert_eq!(operator(&daemon).status().unwrap().1.registered, 1);
    // One that reads again has what the ring still holds, and a note of what it lost.
    let mut late = deaf.pop().unwrap();
    let mut lost = 0;
    let mut last = 0;
    while last < 20_000 {
        let entry = late.next(Some(PATIENCE)).unwrap().unwrap();
        match entry.record {
            Record::Lost(missing) => lost += missing.records,
            _ => {
                assert!(entry.seq > last || last == 0);
                last = entry.seq;
            }
        }
    }
    assert!(lost > 0);
}

#[test]
fn only_root_and_the_daemons_user_may_ask() {
    if !rustix::process::geteuid().is_root() {
        host::skip("another user", "only root can become another user");
        return;
    }
    let daemon = Daemon::start(&[]);
    let path = path_beside(&daemon.socket);
    let as_nobody = |path: &Path| {
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                // SAFETY: each takes integers; made directly they change this thread alone.
                unsafe {
                    libc::syscall(libc::SYS_setgroups, 0, 0);
                    libc::syscall(libc::SYS_setresgid, 65534, 65534, 65534);
                    libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534);
                }
                Client::connect(path).map(drop).unwrap_err()
            });
            other.join().unwrap()
        })
    };
    let error = as_nobody(&path);
    assert!(matches!(error, ClientError::Connect(..)), "{error}");
    // Even where the file's mode would let it in.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, mode).unwrap();
    let error = as_nobody(&path);
    assert!(matches!(error, ClientError::Refused(_)), "{error}");
    assert!(error.to_string().contains("only root"), "{error}");
    operator(&daemon).status().unwrap();
}
