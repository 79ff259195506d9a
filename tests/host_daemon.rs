//! The daemon as a program: arguments, modes, signals, idleness.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::app::UID;
use host::daemon::Daemon;
use host::daemon::BINARY;
use host::pressure::Pressure;
use host::wire::bytes;
use host::wire::BOOT_COMPLETED;
use host::wire::PROCPRIO;
use host::wire::START_MONITORING;
use host::wire::TARGET;
use host::wire::UPDATE_PROPS;
use lmkd::control::wire::KillCount;
use lmkd::recorder::client::Client as Operator;
use lmkd::recorder::wire::path_beside;
use rustix::process::Signal;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::process::Output;
use std::time::Duration;
use std::time::Instant;

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
        let said = said(&output);
        let (first, usage) = said.split_once('\n').unwrap();
        assert!(first.contains(named) && usage.starts_with("usage: lmkd"), "{args:?}: {said}");
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
    let dir = host::own_dir();
    let props = dir.join("props");
    std::fs::write(&props, "sys.boot_completed=0").unwrap();
    let daemon = Daemon::start(&[&format!("--props={}", props.display())]);
    let socket = format!("--socket={}", daemon.socket.display());
    let run = |mode: &str, socket: &str| {
        let output = lmkd(&[mode, socket]);
        (output.status.code().unwrap(), said(&output))
    };
    let refused = |mode: &str, socket: &str, why: &str| {
        let (code, said) = run(mode, socket);
        assert_eq!(code, 255, "{mode}: {said}");
        assert!(said.contains(why), "{mode}: {said}");
    };
    refused("--boot_completed", &socket, "sys.boot_completed not set");
    std::fs::write(&props, "sys.boot_completed=1").unwrap();
    assert_eq!(run("--reinit", &socket).0, 0);
    assert_eq!(run("--boot_completed", &socket).0, 0);
    refused("--boot_completed", &socket, "knows already");
    std::fs::write(&props, "kill_timeout_ms=-1").unwrap();
    refused("--reinit", &socket, "keeps the old");
    for mode in ["--reinit", "--boot_completed"] {
        refused(mode, "--socket=/no/such/socket", "/no/such/socket");
    }
    daemon.raw().barrier();
    std::fs::remove_dir_all(dir).unwrap();
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

#[test]
fn a_pressure_file_that_goes_and_comes_back_is_watched_again() {
    let Some(pressure) = Pressure::prepare("back again") else { return };
    let mut args = pressure.args();
    args.push("--set=psi_partial_stall_ms=500".to_owned());
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    daemon.log.wait_for(1, "monitors armed");
    pressure.vanish();
    daemon.log.wait_for(1, "the pressure file is gone");
    pressure.come_back();
    daemon.log.wait_for(2, "monitors armed");
    let before = daemon.descriptors();
    pressure.vanish();
    daemon.log.wait_for(2, "the pressure file is gone");
    // Of both monitors nothing is left, nor of the file as samples hold it, which they notice a second
    // later. What is missing has been said once each time.
    host::until("their end", || (daemon.descriptors() == before - 3).then_some(()));
    assert_eq!(daemon.log.with("pressure file is gone").len(), 2);
    assert!(daemon.log.with("No such file").is_empty());
    pressure.come_back();
}

#[test]
fn monitors_that_wait_for_the_boot_are_armed_when_a_client_says_so() {
    let Some(mut pressure) = Pressure::prepare("boot") else { return };
    let dir = host::own_dir();
    let props = dir.join("props");
    std::fs::write(&props, "sys.boot_completed=0").unwrap();
    let mut args = pressure.args();
    args.push("--set=delay_monitors_until_boot=1".to_owned());
    args.push(format!("--props={}", props.display()));
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let client = daemon.raw();
    let mut app = App::start("com.example.app");
    client.words(&[PROCPRIO, app.pid(), UID.cast_signed(), 900]);
    // Too early.
    client.words(&[START_MONITORING]);
    client.words(&[BOOT_COMPLETED]);
    assert_eq!(client.receive(), bytes(&[BOOT_COMPLETED, -1]));
    assert_eq!(daemon.log.with("monitors armed"), [""; 0]);

    std::fs::write(&props, "sys.boot_completed=1").unwrap();
    client.words(&[UPDATE_PROPS]);
    assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, 0]));
    assert_eq!(daemon.log.with("monitors armed"), [""; 0]);
    client.words(&[START_MONITORING]);
    client.words(&[BOOT_COMPLETED]);
    assert_eq!(client.receive(), bytes(&[BOOT_COMPLETED, 0]));
    // Once more changes nothing.
    client.words(&[START_MONITORING]);
    client.barrier();
    daemon.log.wait_for(1, "monitors armed");
    assert_eq!(daemon.log.with("monitors armed").len(), 1);
    pressure.rise();
    assert_eq!(app.ended_by(), Some(9));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_client_that_wants_monitors_too_early_without_end_does_not_fill_the_log() {
    let args = ["delay_monitors_until_boot=1", "sys.boot_completed=0"];
    let daemon =
        Daemon::start(&args.map(|set| format!("--set={set}")).each_ref().map(String::as_str));
    let client = daemon.raw();
    let start = Instant::now();
    for _ in 0..1000 {
        client.words(&[START_MONITORING]);
    }
    client.barrier();
    daemon.log.wait_for(1, "monitoring is not started");
    let lines = daemon.log.with("monitoring is not started").len();
    assert!(u64::try_from(lines).unwrap() <= 1 + start.elapsed().as_secs(), "{lines} lines");
}

#[test]
fn settings_or_monitors_that_are_refused_leave_what_was_before() {
    let Some(mut pressure) = Pressure::prepare("refused settings") else { return };
    let dir = host::own_dir();
    let (props, file) = (dir.join("props"), dir.join("memory.pressure"));
    let point_to = |target: &str| {
        let _ = std::fs::remove_file(&file);
        symlink(target, &file).unwrap();
    };
    point_to(&pressure.file());
    std::fs::write(&props, "psi_window_size_ms=500").unwrap();
    let args = [
        format!("--psi={}", file.display()),
        format!("--props={}", props.display()),
        "--set=psi_complete_stall_ms=3".to_owned(),
        "--set=psi_partial_stall_ms=0".to_owned(),
    ];
    let mut daemon = Daemon::start(&args.each_ref().map(String::as_str));
    let client = daemon.raw();
    let mut apps = [900, 800].map(|adj| (App::start("com.example.app"), adj));
    for (app, adj) in &apps {
        client.words(&[PROCPRIO, app.pid(), UID.cast_signed(), *adj]);
    }
    client.barrier();
    let update = || {
        client.words(&[UPDATE_PROPS]);
        client.receive()
    };

    // A value that is none, a file that is none, and a trigger that cannot be written.
    std::fs::write(&props, "psi_window_size_ms=soon").unwrap();
    assert_eq!(update(), bytes(&[UPDATE_PROPS, -1]));
    std::fs::remove_file(&props).unwrap();
    assert_eq!(update(), bytes(&[UPDATE_PROPS, -1]));
    std::fs::write(&props, "psi_window_size_ms=1000").unwrap();
    point_to("/dev/full");
    assert_eq!(update(), bytes(&[UPDATE_PROPS, -1]));
    daemon.log.wait_for(1, "the pressure monitors stay as they were");
    assert!(daemon.is_alive());
    // The old monitors still hear, and nobody was forgotten.
    pressure.rise();
    assert_eq!(apps[0].0.ended_by(), Some(9));

    point_to(&pressure.file());
    assert_eq!(update(), bytes(&[UPDATE_PROPS, 0]));
    daemon.log.wait_for(1, "full 3 ms per 1000 ms");
    assert_eq!(apps[1].0.ended_by(), Some(9));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_value_that_makes_no_sense_is_the_default_at_the_start_and_refused_later() {
    let dir = host::own_dir();
    let props = dir.join("props");
    let set = |timeout: &str| {
        let text = format!("kill_timeout_ms={timeout}\nswap_free_low_percentage=500");
        std::fs::write(&props, text).unwrap();
    };
    set("-1");
    let daemon = Daemon::start(&[&format!("--props={}", props.display())]);
    let client = daemon.raw();
    let update = || {
        client.words(&[UPDATE_PROPS]);
        host::wire::word(&client.receive(), 1)
    };
    daemon.log.wait_for(1, "kill_timeout_ms = -1 makes no sense; the default 100 is used");
    assert_eq!(kill_timeout_ms(&daemon), 100);
    set("500");
    assert_eq!(update(), 0);
    assert_eq!(kill_timeout_ms(&daemon), 500);
    set("-1");
    assert_eq!(update(), -1);
    daemon.log.wait_for(1, "settings are kept as they are: kill_timeout_ms = -1 makes no sense");
    assert_eq!(kill_timeout_ms(&daemon), 500);
    // The other one has been said at the start, and that was enough.
    set("400");
    assert_eq!((update(), update()), (0, 0));
    assert_eq!(kill_timeout_ms(&daemon), 400);
    assert_eq!(daemon.log.with("swap_free_low_percentage = 500 is out of range").len(), 1);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn settings_out_of_a_pipe_are_in_force_and_are_not_read_again() {
    // As `--props <(...)` of a shell.
    let shell = r#"exec "$@" "--props=/dev/fd/3" 3< <(echo kill_timeout_ms=500)"#;
    let daemon = Daemon::start_under(&["bash", "-c", shell, "bash"], &[]);
    assert_eq!(kill_timeout_ms(&daemon), 500);
    let client = daemon.raw();
    client.words(&[UPDATE_PROPS]);
    assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, -1]));
    daemon.log.wait_for(1, "/dev/fd/3: only a regular file is read more than once");
    assert_eq!(kill_timeout_ms(&daemon), 500);
}

/// The value that the daemon tells operators.
fn kill_timeout_ms(daemon: &Daemon) -> i64 {
    let mut operator = Operator::connect(&path_beside(&daemon.socket)).unwrap();
    operator.status().unwrap().0.tunables.kill_timeout_ms
}

#[test]
fn a_wait_for_direct_reclaim_that_nothing_tells_of_is_said_once_at_the_start_and_when_set() {
    const SAID: &str = "direct_reclaim_threshold_ms has no effect";
    let dir = host::own_dir();
    let props = dir.join("props");
    let set =
        |ms: i32| std::fs::write(&props, format!("direct_reclaim_threshold_ms={ms}")).unwrap();
    set(50);
    // Without the right to load programs.
    let launcher = ["setpriv", "--bounding-set=-bpf,-perfmon,-sys_admin"];
    let daemon = Daemon::start_under(&launcher, &[&format!("--props={}", props.display())]);
    daemon.log.wait_for(1, "reclaim: told by vmstat's counters");
    daemon.log.wait_for(1, SAID);
    let client = daemon.raw();
    let update = || {
        client.words(&[UPDATE_PROPS]);
        assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, 0]));
    };
    // Nothing new, then nothing wrong, then wrong again.
    update();
    set(0);
    update();
    assert_eq!(daemon.log.with(SAID).len(), 1);
    set(60);
    update();
    daemon.log.wait_for(2, SAID);
    assert_eq!(daemon.log.with(SAID).len(), 2);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn reading_the_settings_again_and_again_leaves_nothing_behind() {
    const ROUNDS: usize = 50;
    let Some(pressure) = Pressure::prepare("settings again") else { return };
    let dir = host::own_dir();
    let props = dir.join("props");
    std::fs::write(&props, "").unwrap();
    let (psi, file) =
        (format!("--psi={}", pressure.file()), format!("--props={}", props.display()));
    let daemon = Daemon::start(&[&psi, &file]);
    let client = daemon.raw();
    let update = |settings: &str| {
        std::fs::write(&props, settings).unwrap();
        client.words(&[UPDATE_PROPS]);
        assert_eq!(client.receive(), bytes(&[UPDATE_PROPS, 0]), "{settings}");
    };
    update("");
    let descriptors = daemon.descriptors();
    for _ in 0..ROUNDS {
        update("use_psi=0");
        update("use_minfree_levels=1\nuse_new_strategy=0");
        update("psi_partial_stall_ms=0\npsi_complete_stall_ms=0");
        update("");
    }
    assert_eq!(daemon.descriptors(), descriptors);
    // The thresholds are those of the settings, whatever was set between.
    host::until("the thresholds of the start", || {
        let armed = daemon.log.with("monitors armed");
        let (first, last) = (armed.first()?, armed.last()?);
        (armed.len() > 2 * ROUNDS && after_time(first) == after_time(last)).then_some(())
    });
    std::fs::remove_dir_all(dir).unwrap();
}

/// A line of the log without its time.
fn after_time(line: &str) -> &str {
    line.split_once("] ").unwrap().1
}

#[test]
fn minfree_levels_that_come_too_soon_are_applied_when_their_second_is_over() {
    let Some(mut pressure) = Pressure::prepare("minfree levels") else { return };
    let mut args = pressure.args();
    args.push("--set=use_minfree_levels=1".to_owned());
    let kill_log = host::own_dir().join("kills.json");
    args.push(format!("--kill-log={}", kill_log.display()));
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let client = daemon.raw();
    let mut apps = [900, 800].map(|adj| (App::start("com.example.app"), adj));
    for (app, adj) in &apps {
        client.words(&[PROCPRIO, app.pid(), UID.cast_signed(), *adj]);
    }
    pressure.rise();
    let start = Instant::now();
    // No memory is too little, all of it is; the last word counts.
    client.words(&[TARGET, 0, 0]);
    client.words(&[TARGET, i32::MAX, 0]);
    client.words(&[TARGET, i32::MAX, 900]);
    client.barrier();
    daemon.log.wait_for(1, "minfree levels: 0:0");
    let kill = daemon.log.wait_for(1, "Kill '");
    assert!(start.elapsed() >= Duration::from_millis(1000));
    assert_eq!(apps[0].0.ended_by(), Some(9));
    let applied = daemon.log.wait_for(2, "minfree levels: ");
    assert!(daemon.log.lines()[applied].ends_with("minfree levels: 2147483647:900"));
    assert!(applied < kill);
    assert!(apps[1].0.is_alive());
    let record = host::until("the kill log", || {
        std::fs::read_to_string(&kill_log).ok().filter(|text| text.ends_with('\n'))
    });
    let record: serde_json::Value = serde_json::from_str(record.lines().next().unwrap()).unwrap();
    assert_eq!(record["kill_reasons"], -1, "{record}");
    // The rules did not decide, so none of their signals goes with it, however high the pressure.
    for name in ["Thrashing", "MaxThrashing", "PsiMemSome", "PsiMemFull", "PsiCpuSome"] {
        assert_eq!(record[name].as_f64(), Some(0.0), "{name}: {record}");
    }
}

#[test]
fn minfree_levels_replace_all_before_them_and_none_at_all_replace_nothing() {
    let daemon = Daemon::start(&["--set=debug=true"]);
    let client = daemon.raw();
    let applied = |count: usize| {
        let line = daemon.log.wait_for(count, "minfree levels: ");
        daemon.log.lines()[line].split_once("minfree levels: ").unwrap().1.to_owned()
    };
    let start = Instant::now();
    // Six of the longest, for five of which a property has room. Nothing before them and nothing
    // after them is in their way.
    client.words(&[TARGET]);
    let longest = [[TARGET].as_slice(), &[i32::MAX, 1000].repeat(6)].concat();
    client.words(&longest);
    client.barrier();
    assert_eq!(applied(1), ["2147483647:1000"; 5].join(","));
    client.words(&[TARGET, 1024, 0, 2048, 900]);
    client.words(&[TARGET]);
    assert_eq!(applied(2), "1024:0,2048:900");
    assert!(start.elapsed() >= Duration::from_millis(1000));
    // Fewer than before.
    client.words(&[TARGET, 512, 100]);
    assert_eq!(applied(3), "512:100");
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
    host::until("the daemon to sleep", || daemon.sleeps().then_some(()));
    // A machine that reclaims is not idle, and the daemon hears of that.
    let mut idle = false;
    for _ in 0..3 {
        let reclaims = host::reclaims();
        // The watchdog's timer, which the last handler armed for 2 s, fires once and is not set again.
        std::thread::sleep(Duration::from_secs(3));
        let before = daemon.wakeups();
        std::thread::sleep(Duration::from_secs(seconds));
        idle = host::reclaims() == reclaims;
        if idle {
            assert_eq!(daemon.wakeups(), before, "wake-ups in {seconds} idle seconds");
            break;
        }
    }
    if !idle {
        host::skip("wake-ups while idle", "the machine reclaims memory");
    }
    let before = daemon.wakeups();
    // The count is worth something: a question does wake it.
    client.kill_count(KillCount::Total).unwrap();
    host::until("the daemon to sleep", || daemon.sleeps().then_some(()));
    assert!(daemon.wakeups() > before);
}
