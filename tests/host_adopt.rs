//! Adoption and reused process ids, each in a pid namespace of its own: nothing outside of it can
//! be seen, let alone killed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::daemon::Log;
use host::daemon::BINARY;
use host::pressure::Pressure;
use host::wire::Raw;
use host::wire::PROCPRIO;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

/// A pid namespace: a shell is its pid 1 and does what it is told.
struct Namespace {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    log: Log,
    dir: PathBuf,
}

impl Namespace {
    fn make(test: &str) -> Option<Self> {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--fork", "--pid", "--mount-proc", "--kill-child"]);
            command
        };
        if !unshare().arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
            host::skip(test, "unshare cannot make a pid namespace for this user");
            return None;
        }
        let mut child = unshare()
            .arg("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env_remove("ANDROID_SOCKET_lmkd")
            .env_remove("JOURNAL_STREAM")
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let log = Log::follow(child.stderr.take().unwrap());
        Some(Self { child, stdin, stdout, log, dir: host::own_dir() })
    }

    /// Has the shell do this.
    fn run(&mut self, script: &str) {
        writeln!(self.stdin, "{script}").unwrap();
    }

    /// Has the shell do this and print one line.
    #[track_caller]
    fn ask(&mut self, script: &str) -> String {
        self.run(script);
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// Starts a `sleep` of this name and oom_score_adj; its pid in here.
    fn sleeper(&mut self, name: &str, adj: i32) -> i32 {
        let script = format!(
            "bash -c 'echo {adj} >/proc/self/oom_score_adj; exec -a {name} sleep 600' >&2 & echo $!"
        );
        let pid = self.ask(&script).parse().unwrap();
        self.await_sleep(pid);
        pid
    }

    /// The same with a chosen pid. None if another process got it first.
    fn sleeper_at(&mut self, pid: i32, name: &str) -> Option<()> {
        let got = self.ask(&format!(
            "echo {} >/proc/sys/kernel/ns_last_pid; bash -c 'exec -a {name} sleep 600' >&2 & echo $!",
            pid - 1
        ));
        (got == pid.to_string()).then(|| self.await_sleep(pid))
    }

    fn await_sleep(&mut self, pid: i32) {
        host::until("a process to sleep", || {
            let line = self.ask(&format!("echo $(head -c 7 /proc/{pid}/cmdline | tr '\\0' ' ') $(cut -d' ' -f2,3 /proc/{pid}/stat)"));
            line.ends_with("(sleep) S").then_some(())
        });
    }

    /// Whether this process, started with `sleeper`, lives.
    fn lives(&mut self, pid: i32) -> bool {
        let script = format!("grep -q '^State:.[RSDT]' /proc/{pid}/status 2>/dev/null; echo $?");
        self.ask(&script) == "0"
    }

    /// Starts a daemon, under a shell that is its parent; its socket.
    fn daemon(&mut self, args: &[String]) -> PathBuf {
        self.daemon_after("", args)
    }

    /// The same after the parent has done something.
    fn daemon_after(&mut self, first: &str, args: &[String]) -> PathBuf {
        let socket = self.dir.join("lmkd.sock");
        let args = args.join(" ");
        // What follows the daemon keeps the shell from becoming it.
        self.run(&format!(
            "bash -c 'echo 1000 >/proc/self/oom_score_adj; {first} {BINARY} --socket {} {args}; exit $?' &",
            socket.display()
        ));
        self.log.wait_for(1, "next victims");
        socket
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // --kill-child: the namespace goes with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
        if std::thread::panicking() {
            println!("--- in the namespace:\n{}", self.log.lines().join("\n"));
        }
    }
}

#[test]
fn unregistered_processes_die_from_the_highest_adj_down_but_not_the_daemons_ancestors() {
    let Some(mut pressure) = Pressure::prepare("adoption") else { return };
    let Some(mut space) = Namespace::make("adoption") else { return };
    // Pid 1 is as good a victim as any by its adj.
    space.run("echo 999 >/proc/self/oom_score_adj");
    let pids = [300, 950, 0, 700].map(|adj| (adj, space.sleeper(&format!("adopted{adj}"), adj)));
    space.daemon(&pressure.args());
    pressure.rise();
    let mut order = pids;
    order.sort_by_key(|(adj, _)| -adj);
    for (index, (adj, pid)) in order.iter().enumerate() {
        let at = space.log.wait_for(index + 1, "Kill '");
        let line = &space.log.lines()[at];
        assert!(line.contains(&format!("Kill 'adopted{adj}' ({pid})")), "{line}");
    }
    space.log.wait_for(1, "a kill is due");
    assert_eq!(space.log.with("Kill '").len(), 4);
    // Its parent, with an adj of 1000, and the shell that is pid 1.
    assert_eq!(space.ask("echo alive"), "alive");
    assert_eq!(space.ask("pgrep -cx lmkd"), "1");
}

#[test]
fn registered_and_unregistered_processes_die_in_one_order() {
    let Some(mut pressure) = Pressure::prepare("mixed adoption") else { return };
    let Some(mut space) = Namespace::make("mixed adoption") else { return };
    let adopted = space.sleeper("adopted", 800);
    let first = space.sleeper("first", 0);
    let last = space.sleeper("last", 0);
    let socket = space.daemon(&pressure.args());
    let client = Raw::connect(&socket);
    client.words(&[PROCPRIO, first, 10_001, 900]);
    client.words(&[PROCPRIO, last, 10_001, 100]);
    client.barrier();
    pressure.rise();
    for (index, pid) in [first, adopted, last].into_iter().enumerate() {
        let at = space.log.wait_for(index + 1, "Kill '");
        let line = &space.log.lines()[at];
        assert!(line.contains(&format!("' ({pid})")), "{line}");
    }
}

#[test]
fn an_adopting_dry_run_kills_nobody() {
    let Some(mut pressure) = Pressure::prepare("adopting dry run") else { return };
    let Some(mut space) = Namespace::make("adopting dry run") else { return };
    let pid = space.sleeper("spared", 900);
    let mut args = pressure.args();
    args.push("--dry-run".to_owned());
    space.daemon(&args);
    pressure.rise();
    space.log.wait_for(2, "dry run, would: Kill 'spared'");
    assert!(space.lives(pid));
}

#[test]
fn a_process_that_took_over_the_id_of_a_registered_one_is_not_killed() {
    let Some(mut pressure) = Pressure::prepare("reused id") else { return };
    let Some(mut space) = Namespace::make("reused id") else { return };
    let mut args = pressure.args();
    args.push("--no-adopt".to_owned());
    let socket = space.daemon(&args);
    let client = Raw::connect(&socket);
    let daemon: i32 = space.ask("pgrep -x lmkd").parse().unwrap();
    let mut taken = 0;
    for pid in (1000..1040).step_by(2) {
        let Some(()) = space.sleeper_at(pid, "registered") else { continue };
        client.words(&[PROCPRIO, pid, 10_001, 900]);
        client.barrier();
        // Unnoticed: the daemon meets the death and the newcomer at the same time.
        space.run(&format!("kill -STOP {daemon}; kill -KILL {pid}; wait {pid} 2>/dev/null"));
        let came = space.sleeper_at(pid, "protected");
        space.run(&format!("kill -CONT {daemon}"));
        taken += i32::from(came.is_some());
    }
    assert!(taken > 0, "no id could be reused");
    let last = space.sleeper("last", 0);
    client.words(&[PROCPRIO, last, 10_001, 0]);
    client.barrier();
    pressure.rise();
    let at = space.log.wait_for(1, "Kill '");
    let line = &space.log.lines()[at];
    assert!(line.contains("Kill 'last'"), "{line}");
    space.log.wait_for(1, "a kill is due");
    assert_eq!(space.log.with("Kill '").len(), 1);
}

/// Registered processes die unannounced, protected ones take over their ids, and kills go on all
/// the while. How many ids is set by `REUSED_IDS`.
fn reuse_ids(test: &str, first: &str) {
    const ROUND: usize = 50;
    let Some(mut pressure) = Pressure::prepare(test) else { return };
    let Some(mut space) = Namespace::make(test) else { return };
    let mut args = pressure.args();
    args.push("--no-adopt".to_owned());
    args.push("--set=debug=false".to_owned());
    let socket = space.daemon_after(first, &args);
    let client = Raw::connect(&socket);
    let daemon: i32 = space.ask("pgrep -x lmkd").parse().unwrap();
    let ids = std::env::var("REUSED_IDS").map_or(2000, |text| text.parse().unwrap());
    let dir = space.dir.display().to_string();
    space.run(&format!(
        "ln -s $(command -v sleep) {dir}/registered; ln -s registered {dir}/protected"
    ));
    // Fills the ids from 10000 on; prints which of them it got.
    space.run(&format!(
        "fill() {{ p=10000; got=; while [ $p -lt {} ]; do echo $((p - 1)) >/proc/sys/kernel/ns_last_pid; \
         {dir}/$1 600 >/dev/null 2>&1 & got=\"$got $!\"; p=$((p + 1)); done; echo $got; }}",
        10_000 + ROUND
    ));
    let all: Vec<String> = (10_000..10_000 + ROUND).map(|pid| pid.to_string()).collect();
    let all = all.join(" ");
    let mut registered = 0;
    pressure.rise();
    for round in 0..ids / ROUND {
        let got = space.ask("fill registered");
        assert_eq!(got, all, "somebody else starts processes here");
        for pid in 10_000..10_000 + i32::try_from(ROUND).unwrap() {
            client.words(&[PROCPRIO, pid, 10_001, 900]);
        }
        client.barrier();
        registered += ROUND;
        // Every other round the daemon meets deaths, newcomers and pressure all at once.
        let stop = round % 2 == 0;
        let pause = if stop { format!("kill -STOP {daemon};") } else { String::new() };
        let resume = if stop { format!("kill -CONT {daemon};") } else { String::new() };
        let got = space.ask(&format!(
            "{pause} kill -KILL {all} 2>/dev/null; wait {all} 2>/dev/null; fill protected; {resume}"
        ));
        assert_eq!(got, all, "somebody else starts processes here");
        client.barrier();
        let alive = space.ask("n=0; for p in $got; do kill -0 $p && n=$((n + 1)); done; echo $n");
        assert_eq!(alive, ROUND.to_string());
        space.run("kill -KILL $got; wait $got 2>/dev/null");
    }
    assert!(registered > 0);
    // Kills there were, and none of a protected process.
    let last = space.sleeper("last", 0);
    client.words(&[PROCPRIO, last, 10_001, 0]);
    space.log.wait_for(1, "Kill 'last'");
    assert_eq!(space.log.with("protected"), [""; 0]);
}

#[test]
fn protected_processes_that_take_over_registered_ids_are_never_hit() {
    reuse_ids("reused ids", "");
}

#[test]
fn nor_are_they_where_descriptors_have_run_out() {
    reuse_ids("reused ids without pidfds", "ulimit -n 56;");
}

#[test]
fn registering_a_reused_id_again_means_the_new_process() {
    let Some(mut pressure) = Pressure::prepare("reused id registered") else { return };
    let Some(mut space) = Namespace::make("reused id registered") else { return };
    let mut args = pressure.args();
    args.push("--no-adopt".to_owned());
    let socket = space.daemon(&args);
    let (client, other) = (Raw::connect(&socket), Raw::connect(&socket));
    let daemon: i32 = space.ask("pgrep -x lmkd").parse().unwrap();
    let pid = 2000;
    space.sleeper_at(pid, "old").expect("the id is free");
    client.words(&[PROCPRIO, pid, 10_001, 500]);
    client.barrier();
    space.run(&format!("kill -STOP {daemon}; kill -KILL {pid}; wait {pid} 2>/dev/null"));
    space.sleeper_at(pid, "new").expect("the id is free again");
    // Of another client: the claim on the dead one is none on this one.
    other.words(&[PROCPRIO, pid, 10_002, 800]);
    space.run(&format!("kill -CONT {daemon}"));
    other.barrier();
    assert_eq!(space.ask(&format!("cat /proc/{pid}/oom_score_adj")), "800");
    pressure.rise();
    let at = space.log.wait_for(1, "Kill '");
    let line = &space.log.lines()[at];
    assert!(line.contains(&format!("Kill 'new' ({pid}), uid 10002, oom_score_adj 800")), "{line}");
}
