//! lmkctl against real processes and the real daemon.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::App;
use host::daemon::Daemon;
use host::pressure::Pressure;
use lmkd::control::wire::KillCount;
use operator::ended;
use operator::json_lines;
use operator::lmkctl;
use operator::run;
use operator::NOWHERE;
use serde_json::Value;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

/// A process that sleeps until it is ended.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        // From then on it has its own name.
        host::until("the process to sleep", || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
            (status.contains("Name:\tsleep") && status.contains("State:\tS")).then_some(())
        });
        Self(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }

    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts `lmkctl wait`, and returns once it holds so many pidfds.
fn waiting(arguments: &[&str], held: usize) -> Child {
    let child = lmkctl(&[&["wait"], arguments].concat()).spawn().unwrap();
    host::until("lmkctl to hold its pidfds", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", child.id())).ok()?;
        let links = fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        // Anonymous inodes before Linux 6.9, a file system of their own since.
        let pidfds = links.filter(|link| link.to_string_lossy().contains("pidfd"));
        // By then it has read their names, too.
        let call = fs::read_to_string(format!("/proc/{}/wchan", child.id())).ok()?;
        (pidfds.count() >= held && call.contains("poll")).then_some(())
    });
    child
}

/// Returns once a child has exited, which is not reaped thereby.
fn await_exit(child: &Child) {
    host::until("it to exit", || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
        status.contains("State:\tZ").then_some(())
    });
}

#[test]
fn what_is_no_process_id_is_named_and_ends_with_2() {
    for arguments in [&["wait", "-1"][..], &["wait", "zygote"], &["wait", "0"], &["wait"]] {
        let (code, _, error) = run(arguments);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains(arguments.get(1).unwrap_or(&"PID")), "{error}");
    }
    let (code, _, error) = run(&["wait", "--timeout", "soon", "1"]);
    assert!(code == 2 && error.contains("'soon'"), "{error}");
    let (code, _, error) = run(&["sing"]);
    assert!(code == 2 && error.contains("'sing'"), "{error}");
}

#[test]
fn a_killed_process_that_is_not_its_child_ends_the_wait() {
    let mut app = Sleeper::start();
    let lmkctl = waiting(&["--json", &app.pid()], 1);
    app.end();
    let (code, out, error) = ended(lmkctl.wait_with_output().unwrap());
    let lines = json_lines(&out);
    assert_eq!(lines.len(), 1, "{out}{error}");
    assert_eq!(lines[0]["event"], "exit");
    assert_eq!(lines[0]["pid"].to_string(), app.pid());
    assert_eq!(lines[0]["name"], "sleep");
    // Without Linux 6.15 nobody tells that it was SIGKILL.
    if lmkd::pidfd::PidFd::kernel_tells_exit() {
        assert_eq!((code, &lines[0]["signal"]), (128 + 9, &Value::from(9)));
    } else {
        assert!(code == 0 || code == 128 + 9, "{code}: {out}");
    }
}

#[test]
fn a_wait_for_all_lasts_until_the_last_and_one_for_any_until_the_first() {
    let mut apps = [Sleeper::start(), Sleeper::start()];
    let all = waiting(&[&apps[0].pid(), &apps[1].pid()], 2);
    let any = waiting(&["--any", &apps[0].pid(), &apps[1].pid()], 2);
    apps[1].end();
    let (_, out, _) = ended(any.wait_with_output().unwrap());
    assert!(out.starts_with(&apps[1].pid()) && out.lines().count() == 1, "{out}");
    apps[0].end();
    let (_, out, _) = ended(all.wait_with_output().unwrap());
    assert_eq!(out.lines().count(), 2, "{out}");
}

#[test]
fn a_wait_ends_when_its_time_is_up() {
    let app = Sleeper::start();
    let (code, out, _) = run(&["wait", "--timeout", "0.05", &app.pid()]);
    assert_eq!(code, 124);
    assert!(out.contains("still there"), "{out}");
}

#[test]
fn a_process_that_is_gone_is_said_to_be() {
    let mut app = Sleeper::start();
    app.end();
    let (code, out, _) = run(&["wait", &app.pid()]);
    assert_eq!((code, out), (127, format!("{}: no such process\n", app.pid())));
}

#[test]
fn one_that_its_parent_does_not_reap_is_not_waited_for_forever() {
    let mut app = Sleeper::start();
    app.0.kill().unwrap();
    let (_, out, error) = run(&["wait", &app.pid()]);
    assert!(out.contains("exited"), "{out}{error}");
}

#[test]
fn one_that_has_exited_is_told_of_although_the_time_is_up_for_another() {
    let app = Sleeper::start();
    // Nobody reaps it, and that it ended with 0 is not told before.
    let mut child = Command::new("cat").stdin(Stdio::null()).spawn().unwrap();
    await_exit(&child);
    let pid = child.id().to_string();
    let (code, out, _) = run(&["wait", "--json", "--timeout", "0.2", &pid, &app.pid()]);
    child.wait().unwrap();
    assert_eq!(code, 124, "{out}");
    let lines = json_lines(&out);
    let event = |pid: u32| lines.iter().find(|line| line["pid"] == pid).map(|line| &line["event"]);
    assert_eq!(event(child.id()), Some(&Value::from("exit")), "{out}");
    assert_eq!(event(app.0.id()), Some(&Value::from("timeout")), "{out}");
    assert!(lines.iter().all(|line| line["schema"] == 1), "{out}");
}

#[test]
fn one_that_is_absent_is_said_to_be_and_the_others_are_waited_for() {
    let mut gone = Sleeper::start();
    let absent = gone.pid();
    gone.end();
    let mut app = Sleeper::start();
    let lmkctl = waiting(&["--json", &absent, &app.pid()], 1);
    app.end();
    let (code, out, _) = ended(lmkctl.wait_with_output().unwrap());
    let events: Vec<_> = json_lines(&out).iter().map(|line| line["event"].clone()).collect();
    assert_eq!((code, events), (127, vec!["no_such_process".into(), "exit".into()]), "{out}");
    // One of them is gone already.
    let app = Sleeper::start();
    let (code, out, _) = run(&["wait", "--any", &absent, &app.pid()]);
    assert_eq!((code, out.lines().count()), (127, 1), "{out}");
}

#[test]
fn a_threads_id_is_no_process_and_the_others_are_waited_for() {
    let mut app = Sleeper::start();
    std::thread::scope(|scope| {
        let thread = || rustix::thread::gettid().as_raw_nonzero().to_string();
        let (told, id) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            told.send(thread()).unwrap();
            let _ = wait.recv();
        });
        let thread = id.recv().unwrap();
        let lmkctl = waiting(&[&thread, &app.pid()], 1);
        app.end();
        let (code, out, _) = ended(lmkctl.wait_with_output().unwrap());
        drop(done);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!((code, lines.len()), (127, 2), "{out}");
        assert_eq!(lines[0], format!("{thread}: a thread, not a process"));
    });
}

#[test]
fn of_several_the_first_status_that_is_not_0_counts() {
    let spawn =
        || Command::new("sh").args(["-c", "read code; exit $code"]).stdin(Stdio::piped()).spawn();
    let mut children = [spawn().unwrap(), spawn().unwrap(), spawn().unwrap()];
    let pids = children.each_ref().map(|child| child.id().to_string());
    let lmkctl = waiting(&[&pids[0], &pids[1], &pids[2]], 3);
    for (child, code) in children.iter_mut().zip(["0", "7", "9"]) {
        writeln!(child.stdin.take().unwrap(), "{code}").unwrap();
        child.wait().unwrap();
    }
    let (code, out, _) = ended(lmkctl.wait_with_output().unwrap());
    assert_eq!(out.lines().count(), 3, "{out}");
    if lmkd::pidfd::PidFd::kernel_tells_exit() {
        assert!(code == 7 || code == 9, "{code}: {out}");
    }
}

/// A status of 0 is told by nobody but the pidfd, and only once the parent has asked.
#[test]
fn one_that_its_parent_reaps_late_is_waited_for() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let lmkctl = waiting(&["--json", &child.id().to_string()], 1);
    drop(child.stdin.take());
    await_exit(&child);
    child.wait().unwrap();
    let (code, out, _) = ended(lmkctl.wait_with_output().unwrap());
    assert_eq!(code, 0);
    if lmkd::pidfd::PidFd::kernel_tells_exit() {
        assert_eq!(json_lines(&out)[0]["status"], 0, "{out}");
    }
}

/// Blocked, not polling: nothing makes it run while it waits.
#[test]
fn a_waiting_lmkctl_sleeps() {
    let mut app = Sleeper::start();
    let lmkctl = waiting(&[&app.pid()], 1);
    let wakeups = || {
        let status = fs::read_to_string(format!("/proc/{}/status", lmkctl.id())).unwrap();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    host::until("it to sleep", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", lmkctl.id())).ok()?;
        (!call.starts_with("running")).then_some(())
    });
    let before = wakeups();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(wakeups(), before);
    app.end();
    ended(lmkctl.wait_with_output().unwrap());
}

/// The daemon of a test, as lmkctl is told of it.
fn of(daemon: &Daemon) -> String {
    format!("--socket={}", daemon.socket.display())
}

/// A daemon that watches a group of its own, where this user may make one.
fn pressed(test: &str) -> Option<(Pressure, Daemon)> {
    let pressure = Pressure::prepare(test)?;
    let mut args = pressure.args();
    // A victim that gets no CPU takes its time.
    args.push("--set=kill_timeout_ms=30000".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&args);
    Some((pressure, daemon))
}

/// Registers an app and has it killed by real pressure.
fn killed(daemon: &Daemon, pressure: &mut Pressure, name: &str) -> i32 {
    let mut app = App::start(name);
    let mut client = daemon.client();
    client.register_all(&[app.at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    pressure.rise();
    assert_eq!(app.ended_by(), Some(9));
    pressure.fall();
    app.pid()
}

#[test]
fn without_a_daemon_the_way_to_it_is_named() {
    for command in ["status", "explain", "why-not", "events", "record"] {
        let mut arguments = vec![command, NOWHERE];
        arguments.extend((command == "record").then_some("-"));
        let (code, _, error) = run(&arguments);
        assert_eq!(code, 1, "{error}");
        assert!(error.contains("/nonexistent/lmkd.sock.ctl") && error.contains("no daemon runs"));
    }
}

#[test]
fn a_file_that_is_no_recording_is_refused() {
    let dir = host::own_dir();
    let path = dir.join("notes.txt");
    fs::write(&path, "not a recording at all").unwrap();
    let (code, _, error) = run(&["explain", "--from", path.to_str().unwrap()]);
    assert!(code == 1 && error.contains("not a recording of lmkd"), "{error}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn the_state_of_the_daemon_is_told() {
    let daemon = Daemon::start(&["--set=thrashing_limit=77"]);
    let app = App::start("com.example.next");
    let mut client = daemon.client();
    client.register_all(&[app.at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    let of = of(&daemon);
    let (code, text, error) = run(&["status", &of]);
    assert_eq!(code, 0, "{error}");
    assert!(text.contains("com.example.next") && text.contains("<= 77%"), "{text}");
    let file = daemon.socket.with_extension("told.rec");
    assert_eq!(run(&["record", &of, file.to_str().unwrap()]).0, 0);
    let (code, text, error) = run(&["status", "--from", file.to_str().unwrap()]);
    assert!(code == 0 && text.contains("com.example.next"), "{text}{error}");
    let (_, json, _) = run(&["status", "--json", &of]);
    let status = &json_lines(&json)[0];
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["next"][0]["pid"], app.pid());
    assert!(status["signals"]["watermark_low_kb"].as_i64().unwrap() > 0, "{json}");
    let (_, metrics, _) = run(&["status", "--openmetrics", &of]);
    assert!(metrics.contains("\nlmkd_registered_processes 1\n"), "{metrics}");
    let (_, text, _) = run(&["why-not", &of]);
    assert!(text.contains("NOT_RESPONDING                not a critical pressure event"), "{text}");
}

#[test]
fn a_kill_is_streamed_and_explained_and_so_is_the_recording_of_it() {
    let Some((mut pressure, daemon)) = pressed("a_kill_is_streamed_and_explained") else { return };
    let of = of(&daemon);
    let mut events = lmkctl(&["events", "--json", &of]).spawn().unwrap();
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    // It has to be connected before anything happens.
    host::until("events to follow", || {
        let sockets = fs::read_dir(format!("/proc/{}/fd", events.id())).ok()?;
        let links = sockets.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        let connected = links.filter(|link| link.to_string_lossy().contains("socket")).count() > 0;
        let call = fs::read_to_string(format!("/proc/{}/wchan", events.id())).ok()?;
        (connected && call.contains("poll")).then_some(())
    });
    let pid = killed(&daemon, &mut pressure, "com.example.hog");
    let mut next = |wanted: &str| loop {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if event["event"] == wanted {
            return event;
        }
    };
    assert_eq!(next("level")["level"], "critical");
    let kill = next("kill");
    assert_eq!((&kill["pid"], &kill["reason"]), (&pid.into(), &"NOT_RESPONDING".into()));
    let (exited, told) = (next("fate"), next("fate"));
    assert_eq!((&exited["pid"], &exited["step"]), (&pid.into(), &"exited".into()));
    assert_eq!(exited["signal"], Value::Null);
    // Or `untold`, by a kernel older than 6.15.
    assert_eq!(told["signal"] == 9, told["step"] == "proven", "{told}");
    events.kill().unwrap();
    events.wait().unwrap();

    let (code, told, error) = run(&["explain", &of]);
    assert_eq!(code, 0, "{error}");
    assert!(told.contains(&format!("killed 'com.example.hog' ({pid}), uid 10001")), "{told}");
    assert!(told.contains("Because of NOT_RESPONDING (1), which kills down to oom_score_adj 0:"));
    assert!(told.contains("not right after a kill"), "{told}");
    assert!(told.contains("SIGKILL sent") && told.contains("exited: the pidfd turned readable"));

    let dir = host::own_dir();
    let file = dir.join("flight.rec");
    let file = file.to_str().unwrap();
    assert_eq!(run(&["record", &of, file]).0, 0);
    assert_eq!(run(&["explain", "example.hog", "--from", file]).1, told);
    let (_, json, _) = run(&["explain", "--json", &pid.to_string(), "--from", file]);
    assert_eq!(json_lines(&json)[0]["look"]["trigger"]["level"], "critical");
    assert_eq!(run(&["explain", "com.example.other", &of]).0, 1);
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_recording_goes_on_until_the_daemon_ends() {
    let Some((mut pressure, mut daemon)) = pressed("a_recording_goes_on") else { return };
    let dir = host::own_dir();
    let file = dir.join("flight.rec");
    let path = file.to_str().unwrap();
    let recorder = lmkctl(&["record", "--follow", &of(&daemon), path]).spawn().unwrap();
    host::until("the first records", || fs::metadata(&file).ok().filter(|meta| meta.len() > 200));
    killed(&daemon, &mut pressure, "com.example.late");
    daemon.log.wait_for(1, "Process got killed");
    daemon.end(rustix::process::Signal::TERM);
    assert_eq!(ended(recorder.wait_with_output().unwrap()).0, 0);
    let (_, told, error) = run(&["explain", "--from", path]);
    assert!(told.contains("com.example.late") && told.contains("exited: "), "{told}{error}");
    assert!(!error.contains("torn"), "{error}");
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_recording_is_replayed_to_the_same_decisions_and_drawn() {
    let Some((mut pressure, daemon)) = pressed("a_recording_is_replayed") else { return };
    for name in ["com.example.first", "com.example.second", "com.example.third"] {
        killed(&daemon, &mut pressure, name);
    }
    daemon.log.wait_for(3, "Process got killed");
    let dir = host::own_dir();
    let file = dir.join("flight.rec");
    let path = file.to_str().unwrap();
    assert_eq!(run(&["record", &of(&daemon), path]).0, 0);
    // For whoever wants to look at it.
    if let Some(kept) = std::env::var_os("LMKD_TEST_KEEP_RECORDING") {
        fs::copy(&file, kept).unwrap();
    }
    let (code, told, error) = run(&["replay", path]);
    assert_eq!(code, 0, "{told}{error}");
    assert!(told.contains("All came out as recorded, bit for bit."), "{told}");
    assert!(told.contains("looks and 3 kills compared"), "{told}");
    let (code, told, _) = run(&["replay", path, "--set", "psi_window_size_ms=1000", "--compare"]);
    assert_eq!(code, 0);
    assert!(told.contains("Of 3 kills recorded, 3 stay, 0 go, 0 move;"), "{told}");
    let (code, page, _) = run(&["report", path, "-o", "-"]);
    assert_eq!(code, 0);
    assert!(page.contains("com.example.third"));
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn one_whose_reader_is_gone_leaves_the_place_to_others_although_nothing_happens() {
    let daemon = Daemon::start(&[]);
    let of = of(&daemon);
    for arguments in [["events", &of].as_slice(), &["record", "--follow", "-", &of]] {
        let mut child = lmkctl(arguments).spawn().unwrap();
        host::until("lmkctl to wait for the daemon", || {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
            (status.contains("Name:\tlmkctl") && status.contains("State:\tS")).then_some(())
        });
        drop(child.stdout.take());
        assert!(child.wait().unwrap().success(), "{arguments:?}");
    }
}

#[test]
fn a_process_that_is_named_twice_is_told_of_once() {
    let mut sleeper = Sleeper::start();
    let waiting = waiting(&[&sleeper.pid(), &sleeper.pid()], 1);
    sleeper.end();
    let (_, told, _) = ended(waiting.wait_with_output().unwrap());
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn nothing_is_no_part_of_a_name() {
    let (code, _, error) = run(&["explain", "", NOWHERE]);
    assert_eq!(code, 2, "{error}");
}

#[test]
fn a_page_on_standard_output_is_alone_there() {
    let recording = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/recordings/linux-6.12-x86_64-unkillable.rec"
    );
    let (code, page, told) = run(&["replay", recording, "--html", "-"]);
    assert_eq!(code, 0, "{told}");
    assert!(page.starts_with("<!") && page.trim_end().ends_with("</html>"));
    assert!(told.contains("All came out as recorded, bit for bit."), "{told}");
}
