//! How the daemon hears of reclaim, with the right to use BPF and without.
#![allow(missing_docs, clippy::unwrap_used)]

mod host;

use host::daemon::Daemon;
use lmkd::control::wire::KillCount;
use lmkd::kernel::memevents::MemEvents;

#[test]
fn the_daemon_of_root_is_told_by_its_own_bpf_programs() {
    // What the library can open here, with the same rights.
    if let Err(error) = MemEvents::open(100) {
        return host::skip("the daemon of root is told by BPF programs", &error.to_string());
    }
    let daemon = Daemon::start(&[]);
    daemon.log.wait_for(1, "reclaim: told by ");
    let said = daemon.log.with("reclaim: ");
    // Android's are there only where somebody has pinned them.
    let pinned = std::path::Path::new("/sys/fs/bpf/memevents/map_bpfMemEvents_lmkd_rb").exists();
    let whose = if pinned { "Android's" } else { "our own" };
    assert!(said.len() == 1 && said[0].contains(&format!("by {whose} BPF programs")), "{said:?}");
}

#[test]
fn events_that_descriptors_were_missing_for_are_asked_for_again() {
    let test = "events that descriptors were missing for";
    if let Err(error) = MemEvents::open(100) {
        return host::skip(test, &error.to_string());
    }
    let launcher = ["setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon"];
    let without = Daemon::start_under(&launcher, &[]).descriptors();
    // Enough for everything else and for the first of some ten.
    let few = format!("--nofile={}", without + 4);
    let daemon = Daemon::start_under(&["prlimit", &few], &["--set=debug=true"]);
    let said = daemon.log.wait_for(1, "reclaim: told by vmstat's counters");
    assert!(daemon.log.lines()[said].contains("Too many open files"), "{:?}", daemon.log.lines());
    // Ten seconds later, and said for those who want to know only.
    daemon.log.wait_for(1, "lmkd D reclaim: still told by vmstat's counters");
}

#[test]
fn without_the_right_to_use_bpf_it_says_so_once_and_lives() {
    const FEW: &[&str] = &["setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon"];
    let can = std::process::Command::new(FEW[0]).args(&FEW[1..]).arg("true").status();
    if !can.is_ok_and(|status| status.success()) {
        return host::skip("a daemon without BPF", "no setpriv, or no right to give up rights");
    }
    let mut daemon = Daemon::start_under(FEW, &[]);
    daemon.log.wait_for(1, "reclaim: told by vmstat's counters");
    let mut client = daemon.client();
    assert_eq!(client.kill_count(KillCount::Total).unwrap(), 0);
    let said = daemon.log.with("reclaim");
    assert!(said.len() == 1 && said[0].contains("is not permitted"), "{said:?}");
    assert!(said[0].contains("grant CAP_BPF"), "{said:?}");
    assert!(daemon.is_alive());
}
