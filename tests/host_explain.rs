//! `lmkctl explain` of real kills for the reasons that no ordinary pressure leads to: a stuck handler, a vendor's
//! kernel, a task that is stuck in direct reclaim. Each test prints the explanation: README shows them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::App;
use host::daemon::Daemon;
use host::pressure::Pressure;
use lmkd::control::wire::KillCount;
use lmkd::kernel::memevents::pin_programs;
use lmkd::kernel::memevents::wish_as_vendor;
use lmkd::policy::KillReason;
use lmkd::policy::RULES;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;

/// Registers an app and one that comes after it.
fn victims(daemon: &Daemon) -> [App; 2] {
    let apps = [App::start("com.example.cached"), App::start("com.example.next")];
    let mut client = daemon.client();
    client.register_all(&[apps[0].at(950), apps[1].at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    for app in &apps {
        daemon.log.wait_for(1, &format!("process {} is called", app.pid()));
    }
    client.kill_count(KillCount::Total).unwrap();
    apps
}

/// What is said of the kill of this process once its end is known.
fn explained(daemon: &Daemon, victim: &App, reason: &str) -> String {
    let of = format!("--socket={}", daemon.socket.display());
    let told = host::until("the end of the victim to be recorded", || {
        let (code, told, _) = operator::run(&["explain", &of, &victim.pid().to_string()]);
        (code == 0 && (told.contains("  proven: ") || told.contains("does not tell")))
            .then_some(told)
    });
    println!("{reason}:\n{told}");
    let killed = format!("killed 'com.example.cached' ({}), uid 10001\n", victim.pid());
    assert!(told.contains(&killed) && told.contains("at 950: chosen\n"), "{told}");
    assert!(
        told.contains("SIGKILL sent\n") && told.contains("exited: the pidfd turned readable\n")
    );
    told
}

#[test]
fn a_kill_of_the_watchdog_is_explained() {
    let enough = host::own_dir().join("enough");
    let until = format!("LMKD_TEST_STUCK_UNTIL={}", enough.display());
    let launcher = ["env", "LMKD_TEST_STUCK_HANDLER_MS=60000", &until];
    let daemon = Daemon::start_under(&launcher, &["--set=debug=true"]);
    let [mut victim, mut next] = victims(&daemon);
    let mut asking = daemon.client();
    let answer = std::thread::spawn(move || asking.update_props());
    assert_eq!(victim.ended_by(), Some(9));
    fs::write(&enough, "").unwrap();
    answer.join().unwrap().unwrap();
    let told = explained(&daemon, &victim, "WATCHDOG");
    assert!(told.contains("Because a handler of the daemon was stuck. Nothing was decided.\n"));
    assert!(told.contains("0us  the watchdog's patience ended\n"), "{told}");
    assert!(next.is_alive());
    fs::remove_dir_all(enough.parent().unwrap()).unwrap();
}

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "LMKD_TEST_PRIVATE_MOUNTS";
/// Where a device's boot loader puts AOSP's programs.
const PINS: &str = "/sys/fs/bpf/memevents";
const MOUNTS: &str =
    "mount -t bpf bpf /sys/fs/bpf && mount -t tracefs tracefs /sys/kernel/tracing && mkdir /sys/fs/bpf/memevents";
/// Reclaim inside a group passes tracepoints of its own, with the same arguments as those of direct reclaim. Where the
/// programs look for these they find those.
const GROUPS_RECLAIM: &str = "cd /sys/kernel/tracing/events/vmscan && for edge in begin end; do \\
     mount --bind mm_vmscan_memcg_reclaim_$edge mm_vmscan_direct_reclaim_$edge || exit; done";

/// Whether this is the process with mounts of its own, as on a device's kernel. If not, the test `name` is run in such a
/// one, where that is permitted.
fn inside(name: &str, mounts: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mounts = mounts.join(" && ");
    let can = Command::new("unshare").args(["-m", "sh", "-c", &mounts]).output();
    if !can.as_ref().is_ok_and(|can| can.status.success()) {
        host::skip(name, &format!("no right to mount a bpf file system and tracefs: {can:?}"));
        return false;
    }
    let script = format!("{mounts} && exec \"$0\" --exact {name} --nocapture");
    let ran = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let [out, err] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    println!("{out}{err}");
    assert!(ran.status.success() && out.contains("1 passed"));
    false
}

#[test]
fn a_kill_that_a_vendors_kernel_asked_for_is_explained() {
    if !inside("a_kill_that_a_vendors_kernel_asked_for_is_explained", &[MOUNTS]) {
        return;
    }
    pin_programs(Path::new(PINS), 64 * 1024).unwrap();
    let daemon = Daemon::start(&["--set=debug=true"]);
    daemon.log.wait_for(1, "reclaim: told by Android's BPF programs");
    let [mut victim, mut next] = victims(&daemon);
    wish_as_vendor(Path::new(PINS), 7, 920).unwrap();
    assert_eq!(victim.ended_by(), Some(9));
    let told = explained(&daemon, &victim, "VENDOR");
    assert!(told.contains("Because of VENDOR (1007), which kills down to oom_score_adj 920:"));
    assert!(told.contains("  the vendor's kernel asks (7)\n"), "{told}");
    assert!(next.is_alive());
}

/// A process that never leaves its CPU.
struct Hog(Child);

impl Hog {
    fn start() -> Self {
        Self(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kill_for_a_stuck_direct_reclaim_is_explained() {
    let name = "a_kill_for_a_stuck_direct_reclaim_is_explained";
    if !inside(name, &[MOUNTS, GROUPS_RECLAIM]) {
        return;
    }
    let Some(mut pressure) = Pressure::prepare(name) else { return };
    pin_programs(Path::new(PINS), 64 * 1024).unwrap();
    let mut args = pressure.args();
    args.extend(
        [
            "psi_complete_stall_ms=0",
            "psi_partial_stall_ms=3",
            "direct_reclaim_threshold_ms=1",
            "thrashing_limit=10000",
            // Where memory is below a watermark, other rules come to the victim first.
            "lowmem_min_oom_score=1001",
            "swap_free_low_percentage=0",
            "debug=true",
        ]
        .map(|tunable| format!("--set={tunable}")),
    );
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let daemon = Daemon::start(&args);
    daemon.log.wait_for(1, "reclaim: told by Android's BPF programs");
    let [mut victim, _next] = victims(&daemon);
    // Readers that get hardly any time are kept waiting in the midst of their reclaim.
    pressure.rise();
    let _hogs = [Hog::start(), Hog::start()];
    assert_eq!(victim.ended_by(), Some(9));
    pressure.fall();
    let told = explained(&daemon, &victim, "DIRECT_RECL_STUCK");
    assert!(told.contains("Because of DIRECT_RECL_STUCK (9), which kills down to oom_score_adj 0:"));
}

#[test]
fn the_readme_explains_every_reason() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let others = [KillReason::Vendor(0), KillReason::Minfree, KillReason::Watchdog];
    for reason in RULES.iter().map(|rule| rule.reason).chain(others) {
        let start = format!("<details><summary>{}: ", reason.name());
        let Some((_, told)) = readme.split_once(&start) else { panic!("no {}", reason.name()) };
        let told = told.split("</details>").next().unwrap();
        let why = match reason {
            KillReason::Watchdog => "Because a handler of the daemon was stuck".to_owned(),
            _ => format!("Because of {} (", reason.name()),
        };
        assert!(told.contains(&why) && told.contains("SIGKILL sent"), "{told}");
    }
}
