//! Adoption and reused process ids, each in a pid namespace of its own: nothing outside of it can
//! be seen, let alone killed.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::daemon::Log;
use host::daemon::BINARY;
use host::pressure::Pressure;
use host::wire::Raw;
use host::wire::PROCPRIO;
use host::wire::TARGET;
use lmkd::recorder::client::Client as Operator;
use lmkd::recorder::wire::path_beside;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

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
    // What the shell starts has its adj, and is a victim as long as an event is on its way.
    pressure.fall();
    // Its parent, with an adj of 1000, and the shell that is pid 1.
    assert_eq!(space.ask("echo alive"), "alive");
    host::until("an answer", || (space.ask("echo $(pgrep -cx lmkd)") == "1").then_some(()));
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

/// A search of all processes costs milliseconds in the loop's class, when there is no time to lose.
#[test]
fn one_that_finds_nobody_among_all_processes_does_not_search_a_hundred_times_a_second() {
    let Some(mut pressure) = Pressure::prepare("in vain") else { return };
    let Some(mut space) = Namespace::make("in vain") else { return };
    let mut args = pressure.args();
    // Below the level at all times: timed looks come 10 ms apart.
    args.push("--set=use_minfree_levels=1".to_owned());
    let socket = space.daemon(&args);
    Raw::connect(&socket).words(&[TARGET, i32::MAX, 901]);
    let mut operator = Operator::connect(&path_beside(&socket)).unwrap();
    pressure.rise();
    space.log.wait_for(1, "a kill is due");
    let mut looks = || operator.status().unwrap().1.ring.records;
    let (before, start) = (looks(), Instant::now());
    // There is no event to wait for: it is about what does not happen meanwhile.
    std::thread::sleep(Duration::from_secs(2));
    let looks = looks() - before;
    let passed = u64::try_from(start.elapsed().as_millis()).unwrap();
    // Events come between.
    assert!(looks > 5 && looks < passed / 100 * 2, "{looks} in {passed} ms");
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

/// Registered processes die unannounced, protected ones take over their ids, and the daemon kills
/// all the while: every look kills, as all memory there is would be too little. How many ids is set
/// by `REUSED_IDS`.
fn reuse_ids(test: &str, first: &str) {
    const ROUND: usize = 500;
    /// Killed in each round, after those whose ids were taken over have been tried.
    const SACRIFICES: usize = 20;
    const FIRST: usize = 10_000;
    let Some(mut space) = Namespace::make(test) else { return };
    let eager = ["--no-adopt", "--set=use_psi=false", "--set=use_minfree_levels=true"];
    let socket = space.daemon_after(first, &eager.map(str::to_owned));
    let client = Raw::connect(&socket);
    client.words(&[TARGET, i32::MAX, 0]);
    let daemon: i32 = space.ask("pgrep -x lmkd").parse().unwrap();
    let ids = std::env::var("REUSED_IDS").map_or(10_000, |text| text.parse().unwrap());
    let dir = space.dir.display().to_string();
    for name in ["registered", "protected", "sacrifice"] {
        space.run(&format!("ln -s $(command -v sleep) {dir}/{name}"));
    }
    // Starts $2 processes of this name, which take the ids from 10000 on; prints what they got.
    space.run(&format!(
        "fill() {{ n=0; got=; echo $((${{3:-{FIRST}}} - 1)) >/proc/sys/kernel/ns_last_pid; \
         while [ $n -lt $2 ]; do {dir}/$1 600 >/dev/null 2>&1 & got=\"$got $!\"; n=$((n + 1)); \
         done; echo $got; }}"
    ));
    let list = |from: usize, count: usize| {
        (from..from + count).map(|pid| pid.to_string()).collect::<Vec<_>>().join(" ")
    };
    let (all, last) = (list(FIRST, ROUND), FIRST + 2 * ROUND);
    let at = |pid: usize, adj: i32| [PROCPRIO, i32::try_from(pid).unwrap(), 10_001, adj];
    for round in 0..ids / ROUND {
        assert_eq!(space.ask(&format!("fill registered {ROUND}")), all, "others start processes");
        // Ids of their own in each round: these may live on when the next begins.
        let own = last + round * SACRIFICES;
        let got = space.ask(&format!("fill sacrifice {SACRIFICES} {own}"));
        assert_eq!(got, list(own, SACRIFICES), "others start processes");
        (own..own + SACRIFICES).for_each(|pid| client.words(&at(pid, 0)));
        (FIRST..FIRST + ROUND).for_each(|pid| client.words(&at(pid, 900)));
        client.barrier();
        // Every other round the daemon meets deaths and newcomers all at once, when it has to kill.
        let [pause, resume] = if round % 2 == 0 { ["STOP", "CONT"] } else { ["0", "0"] };
        let got = space.ask(&format!(
            "kill -{pause} {daemon}; kill -KILL {all} 2>/dev/null; wait {all} 2>/dev/null; \
             fill protected {ROUND}; kill -{resume} {daemon}"
        ));
        assert_eq!(got, all, "others start processes");
        // By then all who had one of these ids have been tried.
        // Or by the kernel's name, where the machine is too busy to ask for theirs in time.
        space.log.wait_for((round + 1) * SACRIFICES, "sacrifice' (");
        let living = space.ask(
            "for p in $got; do echo /proc/$p/status; done | xargs grep -ls '^State:.[RSD]' | wc -l",
        );
        assert_eq!(living, ROUND.to_string(), "protected processes that live");
        space.run("kill -KILL $got; wait $got 2>/dev/null");
    }
    let kills = space.log.with(" Kill '").len();
    assert!(kills >= ids / ROUND * SACRIFICES, "{kills}");
    println!("{ids} ids taken over, {kills} kills");
    assert_eq!(space.log.with("protected"), [""; 0]);
}

#[test]
fn protected_processes_that_take_over_registered_ids_are_never_hit() {
    reuse_ids("reused ids", "");
}

#[test]
fn nor_are_they_where_descriptors_have_run_out() {
    reuse_ids("reused ids without pidfds", "ulimit -n 52;");
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
