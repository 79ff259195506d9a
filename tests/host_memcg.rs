//! per_app_memcg with the real daemon and a real memory cgroup, of whichever version has the
//! controller here.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod host;

use host::app::App;
use host::app::UID;
use host::daemon::Daemon;
use host::own_dir;
use host::own_name;
use host::pressure::Pressure;
use host::wire::word;
use host::wire::PROCPRIO;
use host::wire::STAT;
use host::wire::SUBSCRIBE;
use lmkd::kernel::process::ProcDir;
use rustix::process::Resource;
use rustix::process::Rlimit;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

// Dry: the machine itself may be short of memory.
const PER_APP: &[&str] = &["--dry-run", "--set", "per_app_memcg=true"];
const APP: i32 = 0;
const SERVICE: i32 = 1;
const SYSTEM_ADJ: i32 = -900;
const SYSTEM_UID: i32 = 1000;
const APP_UID: i32 = UID.cast_signed();
const MIB: u64 = 1 << 20;

/// A memory cgroup, removed at the end. Declared before what is in it, or it cannot be.
struct Group {
    dir: PathBuf,
    file: &'static str,
}

impl Group {
    fn make(test: &str) -> Option<Self> {
        let (top, file) = hierarchy();
        let dir = top.join(own_name());
        if let Err(error) = fs::create_dir(&dir) {
            host::skip(test, &format!("{}: {error}", dir.display()));
            return None;
        }
        let group = Self { dir, file };
        if !group.dir.join(file).exists() {
            host::skip(test, &format!("no {file} in {}", group.dir.display()));
            return None;
        }
        Some(group)
    }

    fn take_in(&self, app: &App) {
        fs::write(self.dir.join("cgroup.procs"), app.pid().to_string()).unwrap();
    }

    fn bytes(&self) -> u64 {
        let text = fs::read_to_string(self.dir.join(self.file)).unwrap();
        text.trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}

/// The root of the memory hierarchy, and its groups' file.
fn hierarchy() -> (&'static Path, &'static str) {
    let unified = Path::new("/sys/fs/cgroup");
    if unified.join("cgroup.controllers").exists() {
        // Refused where it is there already.
        let _ = fs::write(unified.join("cgroup.subtree_control"), "+memory");
        return (unified, "memory.low");
    }
    (Path::new("/sys/fs/cgroup/memory"), "memory.soft_limit_in_bytes")
}

#[test]
fn an_apps_group_is_given_what_its_adj_is_worth() {
    let Some(group) = Group::make("per_app_memcg") else { return };
    let app = App::start("com.example.app");
    group.take_in(&app);
    let daemon = Daemon::start(PER_APP);
    let client = daemon.raw();
    let table = [
        (0, 160),
        (900, 0),
        (100, 80),
        (200, 64),
        (450, 0),
        (300, 8),
        (500, 0),
        (650, 8),
        (700, 0),
        // Also where this user may not lower an adj so far.
        (-800, 512),
    ];
    for (adj, mib) in table {
        client.words(&[PROCPRIO, app.pid(), APP_UID, adj, APP]);
        client.barrier();
        assert_eq!(group.bytes(), mib * MIB, "adj {adj}");
    }
    assert_eq!(daemon.log.with("not protected"), [""; 0]);
}

#[test]
fn the_statistics_of_an_app_with_a_group_are_the_groups() {
    let Some(group) = Group::make("statistics of a group") else { return };
    let Some(mut pressure) = Pressure::prepare("statistics of a group") else { return };
    let mut app = App::start("com.example.app");
    group.take_in(&app);
    // File cache counts for the group of whoever read it first.
    let dir = own_dir();
    let file = dir.join("file");
    let fill = "echo 0 >\"$0\" && head -c 8388608 /dev/zero >\"$1\"";
    let procs = group.dir.join("cgroup.procs");
    let filled = Command::new("sh").args(["-c", fill]).args([&procs, &file]).status().unwrap();
    assert!(filled.success());
    let mut args = pressure.args();
    args.push("--set=per_app_memcg=true".to_owned());
    let daemon = Daemon::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let client = daemon.raw();
    client.words(&[SUBSCRIBE, 1]);
    client.words(&[PROCPRIO, app.pid(), APP_UID, 900, APP]);
    client.barrier();
    let proc = ProcDir::open(Path::new("/proc")).unwrap();
    let started = proc.stat(app.pid()).unwrap().start_time;
    let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    let stat_file = group.dir.join("memory.stat");
    host::until("it to be the next", || daemon.has_open(&stat_file).then_some(()));
    // An answer comes when it has been prepared in full.
    client.barrier();
    // On the way to the signal nothing is opened, so that nothing has to be allocated.
    let of_daemon = rustix::process::Pid::from_raw(daemon.pid());
    let old = rustix::process::getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(0), ..old };
    rustix::process::prlimit(of_daemon, Resource::Nofile, none).unwrap();
    pressure.rise();
    assert_eq!(app.ended_by(), Some(9));
    let stat = client.receive();
    host::until("nobody to be the next", || (!daemon.has_open(&stat_file)).then_some(()));
    let _ = fs::remove_dir_all(&dir);
    assert_eq!(word(&stat, 0), STAT);
    let long = |index: usize| u64::from_be_bytes(stat[4 + 8 * index..][..8].try_into().unwrap());
    // Page faults, those that waited for a disk, resident, cache, swap, start.
    assert!(long(0) > 0);
    // It had its own memory before it was in the group.
    assert!(long(2) < MIB, "anonymous: {}", long(2));
    assert!((8 * MIB..9 * MIB).contains(&long(3)), "cache: {}", long(3));
    assert_eq!((long(4), long(5)), (0, started * tick_ns));
}

#[test]
fn what_is_no_app_and_apps_without_the_tunable_are_left_alone() {
    let Some(group) = Group::make("per_app_memcg of others") else { return };
    let app = App::start("com.example.app");
    group.take_in(&app);
    let before = group.bytes();
    for (args, kind) in [(PER_APP, SERVICE), (&["--dry-run"], APP)] {
        let daemon = Daemon::start(args);
        let client = daemon.raw();
        client.words(&[PROCPRIO, app.pid(), APP_UID, 100, kind]);
        client.barrier();
        assert_eq!((app.adj(), group.bytes()), (100, before));
    }
}

#[test]
fn an_app_without_a_group_of_its_own_is_registered_and_the_root_group_is_not_written() {
    let (root, _) = hierarchy();
    let apps = [1, 2, 3].map(|_| App::start("com.example.app"));
    for app in &apps {
        let moved = fs::write(root.join("cgroup.procs"), app.pid().to_string());
        if let Err(error) = moved {
            host::skip("per_app_memcg in the root group", &error.to_string());
            return;
        }
    }
    let daemon = Daemon::start(PER_APP);
    let (client, other) = (daemon.raw(), daemon.raw());
    // system_server never has one: nothing to tell.
    client.words(&[PROCPRIO, apps[0].pid(), SYSTEM_UID, SYSTEM_ADJ, APP]);
    client.barrier();
    assert_eq!(daemon.log.with("not protected"), [""; 0]);
    for app in &apps[1..] {
        client.words(&[PROCPRIO, app.pid(), APP_UID, 100, APP]);
    }
    client.barrier();
    daemon.log.wait_for(1, "not protected: it has no memory cgroup of its own");
    for app in &apps {
        // Only what is registered can be another client's.
        other.words(&[PROCPRIO, app.pid(), APP_UID, 900, APP]);
        other.barrier();
        assert_ne!(app.adj(), 900);
    }
    daemon.log.wait_for(1, "another client has registered it");
}
