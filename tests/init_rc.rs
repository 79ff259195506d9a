//! init/lmkd_rs.rc, read as Android's init reads it.
//!
//! A mistake in it shows on a device only as a line in the kernel's log and a daemon that does not
//! start, and AOSP's own checker comes with a whole source tree.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Read when the test runs: Soong knows of no file that is compiled in except sources, and lays this
/// one beside the test. Cargo runs tests in the package's folder.
fn rc() -> &'static str {
    static RC: OnceLock<String> = OnceLock::new();
    RC.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let folders = std::iter::once(PathBuf::new())
            .chain(test.ancestors().skip(1).map(Path::to_owned))
            .map(|folder| folder.join("init/lmkd_rs.rc"));
        let file = folders.into_iter().find(|file| file.is_file()).expect("init/lmkd_rs.rc");
        fs::read_to_string(file).unwrap()
    })
}

/// Options of a service with the least and most arguments they take: init's `service_parser.cpp`,
/// Android 16.
const OPTIONS: &[(&str, usize, usize)] = &[
    ("capabilities", 0, usize::MAX),
    ("class", 1, usize::MAX),
    ("console", 0, 1),
    ("critical", 0, 2),
    ("disabled", 0, 0),
    ("enter_namespace", 2, 2),
    ("file", 2, 2),
    ("gentle_kill", 0, 0),
    ("group", 1, 33),
    ("interface", 2, 2),
    ("ioprio", 2, 2),
    ("keycodes", 1, usize::MAX),
    ("memcg.limit_in_bytes", 1, 1),
    ("memcg.limit_percent", 1, 1),
    ("memcg.limit_property", 1, 1),
    ("memcg.soft_limit_in_bytes", 1, 1),
    ("memcg.swappiness", 1, 1),
    ("namespace", 1, 2),
    ("oneshot", 0, 0),
    ("onrestart", 1, usize::MAX),
    ("oom_score_adjust", 1, 1),
    ("override", 0, 0),
    ("priority", 1, 1),
    ("reboot_on_failure", 1, 1),
    ("restart_period", 1, 1),
    ("rlimit", 3, 3),
    ("seclabel", 1, 1),
    ("setenv", 2, 2),
    ("shared_kallsyms", 0, 0),
    ("shutdown", 1, 1),
    ("sigstop", 0, 0),
    ("socket", 3, 6),
    ("stdio_to_kmsg", 0, 0),
    ("task_profiles", 1, usize::MAX),
    ("timeout_period", 1, 1),
    ("updatable", 0, 0),
    ("user", 1, 1),
    ("writepid", 1, usize::MAX),
];

/// A section's first line and the lines under it, in words.
struct Section {
    head: Vec<&'static str>,
    body: Vec<Vec<&'static str>>,
}

fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in
        rc().lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    {
        let words: Vec<_> = line.split_whitespace().collect();
        if line.starts_with(' ') {
            sections.last_mut().expect("a section before its lines").body.push(words);
        } else {
            sections.push(Section { head: words, body: Vec::new() });
        }
    }
    sections
}

fn service() -> Section {
    let mut services: Vec<_> =
        sections().into_iter().filter(|section| section.head[0] == "service").collect();
    assert_eq!(services.len(), 1);
    services.remove(0)
}

/// The arguments of an option that stands once in the service.
fn option(name: &str) -> Vec<&'static str> {
    let lines: Vec<_> = service().body.into_iter().filter(|line| line[0] == name).collect();
    assert_eq!(lines.len(), 1, "{name} stands {} times", lines.len());
    lines[0][1..].to_vec()
}

fn actions() -> Vec<Section> {
    sections().into_iter().filter(|section| section.head[0] == "on").collect()
}

#[test]
fn every_section_is_a_service_or_an_action() {
    for section in sections() {
        assert!(["service", "on"].contains(&section.head[0]), "{:?}", section.head);
        assert!(!section.body.is_empty(), "{:?}", section.head);
    }
}

#[test]
fn every_option_is_known_and_has_as_many_arguments_as_it_takes() {
    for line in service().body {
        let (name, arguments) = (line[0], line.len() - 1);
        let (_, least, most) = OPTIONS.iter().find(|option| option.0 == name).expect(name);
        assert!((*least..=*most).contains(&arguments), "{name} with {arguments} arguments");
    }
}

#[test]
fn the_service_replaces_the_stock_one_under_its_name() {
    assert_eq!(service().head, ["service", "lmkd", "/system/bin/lmkd_rs"]);
    assert!(option("override").is_empty());
    assert_eq!(option("class"), ["core"]);
    // init starts services of one name from the file that sorts last among those that override.
    assert!("lmkd_rs.rc" > "lmkd.rc");
}

#[test]
fn the_service_has_the_rights_that_the_platform_policy_expects() {
    assert_eq!(option("user"), ["lmkd"]);
    assert_eq!(option("group"), ["lmkd", "system", "readproc"]);
    assert_eq!(
        option("capabilities"),
        ["DAC_OVERRIDE", "KILL", "IPC_LOCK", "SYS_NICE", "SYS_RESOURCE"]
    );
    assert!(option("critical").is_empty());
    // init refuses a critical service that is also started only once.
    assert!(service().body.iter().all(|line| line[0] != "oneshot"));
}

#[test]
fn the_sockets_are_those_that_clients_and_operators_connect_to() {
    let lines: Vec<_> = service().body.into_iter().filter(|line| line[0] == "socket").collect();
    assert_eq!(
        lines,
        [
            ["socket", "lmkd", "seqpacket+passcred", "0660", "system", "system"],
            ["socket", "lmkctl", "seqpacket", "0660", "system", "system"],
        ]
    );
}

#[test]
fn a_run_of_the_binary_by_an_action_is_one_of_its_two_client_modes() {
    let mut runs = Vec::new();
    for action in actions() {
        for line in action.body {
            match line[0] {
                "exec_background" => runs.push((action.head[1], line[1..].to_vec())),
                "setprop" => assert_eq!((line[1], line.len()), ("lmkd.reinit", 3)),
                other => panic!("unexpected command {other}"),
            }
        }
    }
    assert_eq!(
        runs,
        [
            ("property:lmkd.reinit=1", vec!["--", "/system/bin/lmkd_rs", "--reinit"]),
            (
                "property:sys.boot_completed=1",
                vec!["--", "/system/bin/lmkd_rs", "--boot_completed"]
            ),
        ]
    );
}

#[test]
fn a_tunable_that_changes_is_read_again_after_boot() {
    let mut triggers = BTreeSet::new();
    for action in actions() {
        let Some(property) = action.head[1].strip_prefix("property:") else { continue };
        let Some(property) = property.strip_suffix("=*") else { continue };
        assert_eq!(action.head.len(), 2);
        assert_eq!(action.body, [["setprop", "lmkd.reinit", "${sys.boot_completed:-0}"]]);
        assert!(triggers.insert(property.to_owned()), "{property} has two triggers");
    }
    assert_eq!(triggers, lmkd::config::reinit_properties().collect());
}
