//! The lmkd socket of the running daemon: what is executed, what is answered, what is refused, and
//! what clients cannot do to it.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::adj_of;
use host::app::App;
use host::app::UID;
use host::daemon::Daemon;
use host::pressure::Pressure;
use host::until;
use host::wire::bytes;
use host::wire::hex;
use host::wire::Raw;
use host::wire::BOOT_COMPLETED;
use host::wire::GETKILLCNT;
use host::wire::PROCPRIO;
use host::wire::PROCPURGE;
use host::wire::PROCREMOVE;
use host::wire::PROCS_PRIO;
use host::wire::START_MONITORING;
use host::wire::SUBSCRIBE;
use host::wire::TARGET;
use host::wire::UPDATE_PROPS;
use lmkd::control::client::BootAnswer;
use lmkd::control::wire::KillCount;
use std::os::unix::fs::PermissionsExt;

const APP_UID: i32 = UID.cast_signed();

fn prio(app: &App, adj: i32) -> [i32; 4] {
    [PROCPRIO, app.pid(), APP_UID, adj]
}

#[test]
fn every_command_is_executed_and_answered_byte_for_byte() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let app = App::start("com.example.app");
    let other = App::start("com.example.other");

    client.words(&prio(&app, 900));
    assert_eq!(client.barrier(), 0);
    assert_eq!(app.adj(), 900);
    // With the type: an app, a service.
    client.words(&[PROCPRIO, app.pid(), APP_UID, 800, 0]);
    client.words(&[PROCPRIO, other.pid(), APP_UID, 500, 1]);
    assert_eq!(client.barrier(), 0);
    assert_eq!((app.adj(), other.adj()), (800, 500));
    // Two records in one packet.
    let (first, second) = (app.pid(), other.pid());
    client.words(&[PROCS_PRIO, first, APP_UID, 700, 0, second, APP_UID, 600, 1]);
    assert_eq!(client.barrier(), 0);
    assert_eq!((app.adj(), other.adj()), (700, 600));
    // As system_server registers itself.
    let server = App::start("system_server");
    let pid = format!("{:08X}", server.pid());
    client.send(&hex(&format!("00000001 {pid} 000003E8 FFFFFC7C")));
    assert_eq!(client.barrier(), 0);
    // Where this machine does not let the daemon lower it, that is said.
    if server.adj() != -900 {
        let kept = format!("oom_score_adj of process {} stays as it is", server.pid());
        daemon.log.wait_for(1, &kept);
    }
    client.send(&hex(&format!("00000002 {pid}")));
    client.send(&hex("00000003"));
    client.send(&hex("00000005 00000000"));
    client.send(&hex("00000005 00000001"));
    client.send(&hex("00000009"));
    client.send(&hex("00000000 00004800 00000000 00013B00 000003B6"));
    assert_eq!(client.barrier(), 0);

    client.send(&hex("00000004 FFFFFC18 000003E8"));
    assert_eq!(client.receive(), hex("00000004 00000000"));
    client.send(&hex("00000007"));
    assert_eq!(client.receive(), hex("00000007 00000000"));
    client.send(&hex("0000000A"));
    assert_eq!(client.receive(), hex("0000000A 00000000"));
    client.send(&hex("0000000A"));
    assert_eq!(client.receive(), hex("0000000A 00000001"));
}

#[test]
fn what_is_no_command_gets_no_answer_and_the_connection_stays() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let app = App::start("com.example.app");
    let before = app.adj();
    let pid = app.pid();
    let wrong: &[&[i32]] = &[
        &[PROCPRIO, pid, APP_UID],
        &[PROCPRIO, pid, APP_UID, 900, 0, 0],
        &[TARGET, 1024, 0, 2048],
        &[TARGET, 1, 0, 2, 1, 3, 2, 4, 3, 5, 4, 6, 5, 7, 6],
        &[TARGET, -1, 0],
        &[TARGET, 1024, 1001],
        &[PROCPURGE, 0],
        &[6, pid, APP_UID, 1],
        &[8],
        &[12],
        &[-1],
        &[i32::MAX],
        &[PROCS_PRIO, pid, APP_UID, 900, 0, pid],
        &[PROCPRIO, pid, APP_UID, 1001],
        &[PROCPRIO, pid, APP_UID, -1001],
        &[PROCPRIO, pid, APP_UID, i32::MIN],
        &[PROCPRIO, pid, APP_UID, 900, 2],
        &[PROCPRIO, pid, APP_UID, 900, -1],
        &[PROCPRIO, 0, APP_UID, 900],
        &[PROCPRIO, -pid, APP_UID, 900],
        &[PROCREMOVE],
        &[PROCREMOVE, 0],
        &[SUBSCRIBE, 2],
        &[SUBSCRIBE, -1],
        &[SUBSCRIBE],
        &[GETKILLCNT],
        &[GETKILLCNT, 0, 1000, 0],
        &[UPDATE_PROPS, 0],
        &[START_MONITORING, 0],
        &[BOOT_COMPLETED, 0],
    ];
    for words in wrong {
        client.words(words);
        assert_eq!(client.barrier(), 0, "after {words:?}");
    }
    for datagram in [&b"\0"[..], b"\0\0\0", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 51], &[0; 4096]] {
        client.send(datagram);
        assert_eq!(client.barrier(), 0, "after {datagram:02x?}");
    }
    assert_eq!(app.adj(), before, "a refused command has changed oom_score_adj");
}

#[test]
fn one_bad_record_does_not_stop_the_others_of_its_packet() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let (app, other) = (App::start("com.example.app"), App::start("com.example.other"));
    let before = app.adj();
    let (pid, last) = (app.pid(), other.pid());
    client.words(&[PROCS_PRIO, pid, APP_UID, 1001, 0, pid, APP_UID, 900, 7, last, APP_UID, 900, 0]);
    client.barrier();
    assert_eq!((app.adj(), other.adj()), (before, 900));
}

#[test]
fn a_datagram_of_60_bytes_counts_as_its_first_52() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let apps = [1, 2, 3].map(|_| App::start("com.example.app"));
    let mut words = vec![PROCS_PRIO];
    for (app, adj) in apps.iter().zip([910, 920, 930]) {
        words.extend([app.pid(), APP_UID, adj, 0]);
    }
    words.extend([0, 0]);
    assert_eq!(bytes(&words).len(), 60);
    client.words(&words);
    client.barrier();
    assert_eq!(apps.each_ref().map(App::adj), [910, 920, 930]);
}

#[test]
fn trailing_bytes_of_a_word_are_ignored() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let app = App::start("com.example.app");
    let mut datagram = bytes(&prio(&app, 900));
    datagram.extend([0xff; 3]);
    client.send(&datagram);
    client.barrier();
    assert_eq!(app.adj(), 900);
}

#[test]
fn a_refused_registration_leaves_oom_score_adj_alone() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();

    let mut gone = App::start("com.example.gone");
    gone.end();
    client.words(&prio(&gone, 900));

    // A process whose user is known already, said to be another's.
    let foreign = App::of_user("com.example.foreign", 12_345);
    let before = foreign.adj();
    client.words(&[PROCPRIO, foreign.pid(), APP_UID, 900]);
    client.barrier();
    assert_eq!(foreign.adj(), before);
    client.words(&[PROCPRIO, foreign.pid(), 12_345, 900]);
    client.barrier();
    assert_eq!(foreign.adj(), 900);
    // Nor once it is registered.
    client.words(&[PROCPRIO, foreign.pid(), APP_UID, 100]);
    client.barrier();
    assert_eq!(foreign.adj(), 900);

    // A thread of this process that is not its leader.
    let own = std::process::id().cast_signed();
    let before = adj_of(own);
    let (stay, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let _ = wait.recv();
    });
    client.words(&[PROCPRIO, told.recv().unwrap(), 0, 900]);
    client.barrier();
    assert_eq!(adj_of(own), before);
    drop(stay);
    waiting.join().unwrap();

    // The daemon, init, and the kernel's own threads.
    let kernel = kernel_thread();
    for pid in [daemon.pid(), 1].into_iter().chain(kernel) {
        let before = adj_of(pid);
        client.words(&[PROCPRIO, pid, 0, 1000]);
        client.barrier();
        let after = adj_of(pid);
        assert_eq!(after, before, "process {pid}");
    }
    daemon.log.wait_for(1, "is not registered");
}

#[test]
fn a_process_of_roots_may_be_registered_for_any_user_and_then_for_another() {
    let daemon = Daemon::start(&[]);
    let client = daemon.raw();
    let app = App::start("com.example.app");
    let socket = format!("--socket={}", daemon.socket.display());
    for (uid, adj) in [(10_001, 900), (10_002, 800), (10_003, 800)] {
        client.words(&[PROCPRIO, app.pid(), uid, adj]);
        client.barrier();
        assert_eq!(app.adj(), adj);
        until("the new user", || {
            let (code, status, _) = operator::run(&["status", "--json", &socket]);
            let status: serde_json::Value =
                serde_json::from_str(&status).ok().filter(|_| code == 0)?;
            (status["next"][0]["uid"] == uid).then_some(())
        });
    }
}

/// A thread of the kernel; None in a pid namespace, where there is none to be seen.
fn kernel_thread() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/2/stat").ok()?;
    stat.contains("(kthreadd)").then_some(2)
}

#[test]
fn another_live_clients_process_is_refused_and_an_unclaimed_one_can_be_taken_over() {
    let daemon = Daemon::start(&[]);
    let (owner, other) = (daemon.raw(), daemon.raw());
    let app = App::start("com.example.app");
    owner.words(&prio(&app, 900));
    owner.barrier();
    other.words(&prio(&app, 100));
    other.words(&[PROCREMOVE, app.pid()]);
    other.words(&[PROCPURGE]);
    other.words(&prio(&app, 200));
    other.barrier();
    assert_eq!(app.adj(), 900, "taken from its owner");

    // Both ends at once: the hang-up and the newcomer's command may come in one batch.
    daemon.while_stopped(|| drop(owner));
    until("the claim to be released", || {
        other.words(&prio(&app, 300));
        other.barrier();
        (app.adj() == 300).then_some(())
    });
    let third = daemon.raw();
    third.words(&prio(&app, 400));
    third.barrier();
    assert_eq!(app.adj(), 300, "it is claimed again");
}

#[test]
fn a_client_that_leaves_releases_its_own_claims_and_no_others() {
    let daemon = Daemon::start(&[]);
    // All of one process; the first leaves its place to one that says nothing.
    let (first, owner, other) = (daemon.raw(), daemon.raw(), daemon.raw());
    let app = App::start("com.example.app");
    first.barrier();
    owner.words(&prio(&app, 900));
    owner.barrier();
    other.barrier();
    let descriptors = daemon.descriptors();
    let left = |count| {
        until("them to be gone", || (daemon.descriptors() == descriptors - count).then_some(()));
    };
    drop(first);
    left(1);
    let silent = daemon.raw();
    left(0);
    drop(silent);
    left(1);
    other.words(&prio(&app, 100));
    other.words(&[PROCREMOVE, app.pid()]);
    other.barrier();
    assert_eq!(app.adj(), 900);
    assert!(daemon.holds(app.pid()));
}

#[test]
fn processes_of_a_client_that_left_can_still_be_killed() {
    let Some(mut pressure) = Pressure::prepare("left alone") else { return };
    let args = pressure.args();
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut app = App::start("com.example.app");
    let client = daemon.raw();
    client.words(&prio(&app, 900));
    client.barrier();
    let descriptors = daemon.descriptors();
    drop(client);
    until("it to be gone", || (daemon.descriptors() < descriptors).then_some(()));
    pressure.rise();
    assert_eq!(app.ended_by(), Some(9));
}

#[test]
fn a_purge_forgets_the_senders_processes_and_those_nobody_claims() {
    let daemon = Daemon::start(&[]);
    let (owner, other, leaver) = (daemon.raw(), daemon.raw(), daemon.raw());
    let apps = ["mine", "yours", "nobody's", "forgotten"].map(App::start);
    let [mine, yours, unclaimed, removed] = &apps;
    let registered = || apps.each_ref().map(|app| daemon.holds(app.pid()));
    let await_registered = |expected| {
        until("the right ones to be forgotten", || (registered() == expected).then_some(()));
    };
    for (client, app) in [(&owner, mine), (&other, yours), (&leaver, unclaimed), (&leaver, removed)]
    {
        client.words(&prio(app, 900));
        client.barrier();
    }
    assert_eq!(registered(), [true; 4]);
    // One that nobody claims can be removed by all.
    drop(leaver);
    until("it to be gone", || {
        owner.words(&[PROCREMOVE, removed.pid()]);
        owner.barrier();
        (!daemon.holds(removed.pid())).then_some(())
    });
    owner.words(&[PROCPURGE]);
    owner.barrier();
    await_registered([false, true, false, false]);
    // Mine is free for the other client now, which has kept what is its own.
    other.words(&prio(mine, 800));
    other.barrier();
    owner.words(&prio(yours, 800));
    owner.barrier();
    assert_eq!((mine.adj(), yours.adj()), (800, 900));
}

#[test]
fn commands_queued_before_a_hang_up_are_executed() {
    let daemon = Daemon::start(&[]);
    let apps: Vec<App> = (0..8).map(|_| App::start("com.example.app")).collect();
    daemon.while_stopped(|| {
        let client = daemon.raw();
        for app in &apps {
            client.words(&prio(app, 777));
        }
    });
    until("the last command", || apps.iter().all(|app| app.adj() == 777).then_some(()));
}

#[test]
fn commands_queued_before_a_hang_up_with_an_answer_unread_are_executed() {
    let daemon = Daemon::start(&[]);
    let app = App::start("com.example.app");
    let client = daemon.raw();
    client.words(&[GETKILLCNT, 1001, 1001]);
    client.wait();
    daemon.while_stopped(|| {
        client.words(&prio(&app, 777));
        drop(client);
    });
    until("the last command", || (app.adj() == 777).then_some(()));
}

#[test]
fn another_user_may_register_and_remove_its_own_processes_and_nothing_else() {
    const USER: u32 = 23_456;
    let daemon = Daemon::start(&[]);
    if !rustix::process::geteuid().is_root() {
        host::skip("another user", "only root can become another user");
        return;
    }
    // The socket is not for others unless the operator opens it.
    let anyone = std::fs::Permissions::from_mode(0o666);
    std::fs::set_permissions(&daemon.socket, anyone).unwrap();
    let own = App::of_user("com.example.own", USER);
    let foreign = App::start("com.example.foreign");
    let foreign_before = foreign.adj();
    let user = USER.cast_signed();
    std::thread::scope(|scope| {
        let as_user = || {
            // Of this thread alone, as the system call has it.
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(USER)).unwrap();
            let client = daemon.raw();
            client.words(&[PROCPRIO, own.pid(), user, 800]);
            client.words(&[PROCPRIO, foreign.pid(), user, 900]);
            client.words(&[PROCPRIO, foreign.pid(), APP_UID, 900]);
            client.words(&[PROCPRIO, foreign.pid(), 0, 900]);
            client.barrier();
            // No answer, no effect.
            client.words(&[UPDATE_PROPS]);
            client.words(&[BOOT_COMPLETED]);
            client.words(&[SUBSCRIBE, 0]);
            client.words(&[TARGET, 1024, 0]);
            client.barrier();
        };
        scope.spawn(as_user).join().unwrap();
    });
    assert_eq!(own.adj(), 800);
    assert_eq!(foreign.adj(), foreign_before);
    // What it asked for has not been done.
    let mut client = daemon.client();
    assert_eq!(client.boot_completed().unwrap(), BootAnswer::Done);
}

#[test]
fn what_system_server_sends_after_boot_and_after_a_restart_of_the_daemon() {
    let mut daemon = Daemon::start(&[]);
    let apps: Vec<App> = (0..7).map(|_| App::start("com.example.app")).collect();
    let levels = [18_432, 0, 23_040, 100, 27_648, 200, 32_256, 250, 55_296, 900, 80_640, 950];
    let mut connection: Option<Raw> = None;
    for _ in 0..2 {
        // It learns of the restart by its old connection, and makes a new one.
        if let Some(old) = connection.take() {
            daemon.restart(&[]);
            assert!(old.receive().is_empty(), "an end");
            assert!(!old.try_send(&bytes(&[PROCPURGE])));
        }
        let server = connection.insert(daemon.raw());
        server.words(&[PROCPURGE]);
        let mut target = vec![TARGET];
        target.extend(levels);
        server.words(&target);
        server.words(&[SUBSCRIBE, 0]);
        server.words(&[SUBSCRIBE, 1]);
        assert_eq!(server.barrier(), 0);
        server.words(&[START_MONITORING]);
        // Three words: the form without a type.
        for (app, adj) in apps[..4].iter().zip([0, 100, 200, 700]) {
            server.words(&prio(app, adj));
        }
        let mut batch = vec![PROCS_PRIO];
        for (app, adj) in apps[4..].iter().zip([900, 910, 920]) {
            batch.extend([app.pid(), APP_UID, adj, 0]);
        }
        server.words(&batch);
        // What is left of a batch may be nothing.
        server.words(&[PROCS_PRIO]);
        assert_eq!(server.barrier(), 0);
        let adjs: Vec<i32> = apps.iter().map(App::adj).collect();
        assert_eq!(adjs, [0, 100, 200, 700, 900, 910, 920]);
        // The user switches to another app.
        server.words(&[PROCS_PRIO, apps[0].pid(), APP_UID, 700, 0, apps[3].pid(), APP_UID, 0, 0]);
        server.words(&[PROCREMOVE, apps[6].pid()]);
        server.words(&[GETKILLCNT, 0, 1000]);
        assert_eq!(server.receive(), bytes(&[GETKILLCNT, 0]));
        assert_eq!((apps[0].adj(), apps[3].adj()), (700, 0));
        // One more of an app that has been removed is a new one.
        server.words(&prio(&apps[6], 999));
        server.barrier();
        assert_eq!(apps[6].adj(), 999);
    }
    // This is the first that is refused.
    connection.unwrap().words(&[12]);
    let refused = daemon.log.wait_for(1, "is refused");
    assert!(daemon.log.lines()[refused].ends_with("unknown command 12"));
}

#[test]
fn what_init_sends_for_its_services() {
    let mut daemon = Daemon::start(&[]);
    let services = [App::start("netd"), App::start("vold")];
    let register =
        |init: &Raw, service: &App| init.try_send(&bytes(&[PROCPRIO, service.pid(), 0, 200, 1]));
    // It never reads.
    let init = daemon.raw();
    assert!(services.iter().all(|service| register(&init, service)));
    until("the services", || services.iter().all(|s| s.adj() == 200).then_some(()));
    init.words(&[PROCREMOVE, services[0].pid()]);
    // A client that asks finds the daemon well.
    daemon.raw().barrier();

    daemon.restart(&[]);
    // The next service finds the connection failed: once more on a new one, all of them before.
    let late = App::start("installd");
    assert!(!register(&init, &late), "the old connection took it");
    let init = daemon.raw();
    for service in services.iter().chain([&late]) {
        assert!(register(&init, service));
    }
    until("the services", || {
        let known = |service: &App| service.adj() == 200 && daemon.holds(service.pid());
        services.iter().chain([&late]).all(known).then_some(())
    });
}

#[test]
fn the_library_speaks_to_the_daemon() {
    let daemon = Daemon::start(&[]);
    let mut client = daemon.client();
    let apps: Vec<App> = (0..7).map(|_| App::start("com.example.app")).collect();
    let records: Vec<_> = apps.iter().map(|app| app.at(950)).collect();
    client.register_all(&records).unwrap();
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
    assert!(apps.iter().all(|app| app.adj() == 950));
    client.purge().unwrap();
    assert!(client.update_props().unwrap());
    assert_eq!(client.boot_completed().unwrap(), BootAnswer::Done);
    assert_eq!(client.boot_completed().unwrap(), BootAnswer::AlreadyHandled);
}
