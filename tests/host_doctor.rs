//! `lmkctl doctor` on this machine, with less than it has, and on the real daemon.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod host;
mod operator;

use host::app::App;
use host::daemon::Daemon;
use lmkd::control::wire::KillCount;
use lmkd::control::wire::Target;
use lmkd::control::wire::Targets;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::units::Pages;
use operator::ended;
use operator::json_lines;
use operator::lmkctl;
use operator::run;
use operator::LMKCTL;
use operator::NOWHERE;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::process::Stdio;

/// What `doctor --json` says, under a command that becomes it; and its exit status.
fn doctor(launcher: &[&str], arguments: &[&str]) -> (Vec<Value>, i32) {
    let words = [launcher, &[LMKCTL, "doctor", "--json"], arguments].concat();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    let (code, out, error) = ended(output);
    let said = json_lines(&out);
    assert_eq!(said.len(), 1, "{out}{error}");
    assert_eq!(said[0]["schema"], 1);
    let expected = match said[0]["worst"].as_str().unwrap() {
        "degraded" => 3,
        "broken" => 4,
        _ => 0,
    };
    assert_eq!(code, expected, "{out}");
    (said[0]["findings"].as_array().unwrap().clone(), code)
}

fn state<'a>(findings: &'a [Value], check: &str) -> &'a str {
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("no {check} in {findings:?}"))["state"].as_str().unwrap()
}

#[test]
fn the_doctor_needs_no_daemon_and_leaves_nothing_behind() {
    let doctor = lmkctl(&["doctor", NOWHERE]).spawn().unwrap();
    let probe = format!("wait\0{}\0", doctor.id());
    let (_, out, _) = ended(doctor.wait_with_output().unwrap());
    assert!(out.contains("nobody listens"), "{out}");
    let ours = |entry: std::io::Result<fs::DirEntry>| {
        let line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).ends_with(&probe).then_some(())
    };
    assert_eq!(fs::read_dir("/proc").unwrap().find_map(ours), None);
}

#[test]
fn each_finding_that_is_not_well_has_effect_and_remedy() {
    let (findings, code) = doctor(&[], &[NOWHERE, "--set=kill_timeout_ms=-3"]);
    assert_eq!(code, 3);
    for finding in &findings {
        let told = !finding["effect"].as_str().unwrap().is_empty();
        assert_eq!(told, ["degraded", "broken"].contains(&finding["state"].as_str().unwrap()));
        assert!(!finding["found"].as_str().unwrap().is_empty(), "{finding}");
    }
}

#[test]
fn settings_are_examined_before_they_are_shipped() {
    let check = |arguments: &[&str], name: &str| {
        let (findings, _) = doctor(&[], &[&[NOWHERE], arguments].concat());
        state(&findings, name).to_owned()
    };
    assert_eq!(check(&["--set=thrashing_limt=3"], "values"), "broken");
    assert_eq!(check(&["--set=swap_util_max=120"], "range"), "degraded");
    assert_eq!(check(&["--set=use_new_strategy=false"], "no_effect"), "degraded");
    assert_eq!(check(&["--set=thrashing_limit_critical=5"], "thrashing"), "degraded");
    let deaf = ["--set=psi_partial_stall_ms=0", "--set=psi_complete_stall_ms=0"];
    assert_eq!(check(&deaf, "stalls"), "broken");
    assert_eq!(check(&["--minfree=999999999:0"], "minfree"), "broken");
    assert_eq!(check(&["--minfree=10000:0,20000:900"], "minfree"), "ok");
    let (code, _, error) = run(&["doctor", "--minfree", "many"]);
    assert!(code == 2 && error.contains("'many'"), "{error}");
}

#[test]
fn a_kernel_without_pressure_files_is_found() {
    let (findings, _) = doctor(&[], &[NOWHERE, "--psi=/nonexistent/memory"]);
    assert_eq!(state(&findings, "pressure"), "degraded");
}

#[test]
fn a_tight_limit_of_open_files_is_found() {
    let (findings, _) = doctor(&["prlimit", "--nofile=64:64"], &[NOWHERE]);
    assert_eq!(state(&findings, "nofile"), "degraded");
}

/// The rest of what the machine has or lacks is the same for both.
#[test]
fn rights_that_are_missing_are_found() {
    if !rustix::process::geteuid().is_root() {
        return host::skip("rights_that_are_missing_are_found", "only root can drop rights");
    }
    let (full, _) = doctor(&[], &[NOWHERE]);
    let drop = ["--bounding-set=-kill,-sys_nice,-ipc_lock", "--inh-caps=-kill,-sys_nice,-ipc_lock"];
    let launcher = [&["prlimit", "--memlock=65536", "--rtprio=0", "setpriv"], &drop[..]].concat();
    let (less, _) = doctor(&launcher, &[NOWHERE]);
    for check in ["kill", "raise", "memlock", "rtprio"] {
        assert_eq!([state(&full, check), state(&less, check)], ["ok", "degraded"], "{check}");
    }
    // Without the right to kill others it still kills its own child.
    assert_eq!(state(&less, "pidfd"), "ok");
}

#[test]
fn proc_files_that_cannot_be_read_cost_decisions() {
    if !rustix::process::geteuid().is_root() {
        return host::skip("proc_files_that_cannot_be_read", "only root can mount over them");
    }
    let without = |file: &str| {
        let script = format!("mount --bind /dev/null /proc/{file} && exec \"$@\"");
        let launcher = ["unshare", "--mount", "sh", "-c", &script, "sh"];
        let (findings, code) = doctor(&launcher, &[NOWHERE]);
        (state(&findings, "samples").to_owned(), code)
    };
    assert_eq!(without("vmstat"), ("broken".to_owned(), 4));
    // The watermarks are not all that rules ask for.
    assert_eq!(without("zoneinfo").0, "degraded");
}

#[test]
fn the_running_daemons_rights_and_settings_are_the_ones_that_count() {
    let daemon = Daemon::start_under(&["prlimit", "--nofile=64:64"], &["--set=debug=true"]);
    let socket = daemon.socket.to_str().unwrap();
    let (findings, _) = doctor(&[], &["--socket", socket]);
    assert_eq!(state(&findings, "socket"), "ok");
    assert_eq!(state(&findings, "recorder"), "ok");
    assert_eq!(state(&findings, "nofile"), "degraded");
    // The tests' daemons are deaf by their own settings.
    assert_eq!(state(&findings, "stalls"), "broken");
    if rustix::process::geteuid().is_root() {
        for check in ["locked_memory", "schedule"] {
            assert_eq!(state(&findings, check), "ok", "{check}");
        }
    }
}

#[test]
fn the_levels_that_count_are_those_that_clients_sent_to_the_running_daemon() {
    let on = "--set=use_minfree_levels=true";
    let daemon = Daemon::start(&[on]);
    let of = format!("--socket={}", daemon.socket.display());
    let minfree = |arguments: &[&str]| {
        let (findings, _) = doctor(&[], arguments);
        state(&findings, "minfree").to_owned()
    };
    assert_eq!(minfree(&[&of]), "broken", "none sent");
    let mut client = daemon.client();
    let level = |minfree: i32| {
        let level = Target { minfree: Pages(minfree.into()), adj: OomScoreAdj::MAX };
        Targets::new(&[level]).unwrap()
    };
    client.set_targets(&level(5000)).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    assert_eq!(minfree(&[&of]), "ok");
    assert_eq!(minfree(&[&of, "--minfree=999999999:0"]), "broken", "others asked about");
    assert_eq!(minfree(&[NOWHERE, on]), "unknown", "no daemon");
    assert_eq!(minfree(&[NOWHERE]), "ok", "no daemon, and no use");
    let daemon = Daemon::start(&[on]);
    daemon.client().set_targets(&level(i32::MAX)).unwrap();
    daemon.raw().barrier();
    assert_eq!(minfree(&["--socket", daemon.socket.to_str().unwrap()]), "broken", "all of memory");
}

#[test]
fn settings_are_held_against_what_the_running_daemon_has() {
    let settings =
        ["--set=direct_reclaim_threshold_ms=50", "--set=pressure_after_kill_min_score=950"];
    let daemon = Daemon::start(&settings);
    let app = App::start("com.example.cached");
    let mut client = daemon.client();
    client.register_all(&[app.at(900)]).unwrap();
    client.kill_count(KillCount::Total).unwrap();
    let (findings, _) = doctor(&[], &["--socket", daemon.socket.to_str().unwrap()]);
    assert_eq!(state(&findings, "after_kill"), "degraded");
    let hears = state(&findings, "reclaim_events") == "ok";
    let silent = findings.iter().any(|finding| finding["check"] == "direct_reclaim");
    let told = daemon.log.with("direct_reclaim_threshold_ms has no effect").len();
    assert_eq!((silent, told > 0), (!hears, !hears));
}

#[test]
fn a_stopped_daemon_is_broken_although_its_socket_takes_connections() {
    let daemon = Daemon::start(&[]);
    let socket = daemon.socket.to_str().unwrap();
    assert_eq!(state(&doctor(&[], &["--socket", socket]).0, "process"), "ok");
    let (findings, code) = daemon.while_stopped(|| doctor(&[], &["--socket", socket]));
    assert_eq!((state(&findings, "process"), code), ("broken", 4));
    assert_eq!(state(&findings, "recorder"), "degraded");
    let recorder = findings.iter().find(|finding| finding["check"] == "recorder").unwrap();
    assert!(recorder["found"].as_str().unwrap().contains("no answer within 5 s"), "{recorder}");
}
