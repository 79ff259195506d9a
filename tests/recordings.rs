//! Recordings of real devices, replayed by the operator's tool as an operator would.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|end| end == "rec")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Exit status and output.
fn lmkctl(arguments: &[&str]) -> (i32, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_lmkctl")).args(arguments).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap() + &String::from_utf8(ran.stderr).unwrap();
    (ran.status.code().unwrap(), text)
}

/// The number before a word.
fn number_before(text: &str, word: &str) -> u32 {
    let before = text.split(word).next().unwrap();
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn every_recorded_decision_comes_out_bit_for_bit() {
    for file in recordings() {
        let (status, text) = lmkctl(&["replay", file.to_str().unwrap()]);
        assert_eq!(status, 0, "{}: {text}", file.display());
        assert!(text.contains("All came out as recorded, bit for bit."), "{text}");
        // A replay of nothing would have shown nothing.
        assert!(number_before(&text, " looks and ") >= 20, "{text}");
        assert!(number_before(text.split(" looks and ").nth(1).unwrap(), " kill") >= 1, "{text}");
    }
}

#[test]
fn other_settings_tell_what_becomes_of_each_kill() {
    for file in recordings() {
        let file = file.to_str().unwrap();
        // With these no rule but those for thrashing and for stalls is left.
        let off = ["--set", "lowmem_min_oom_score=1001", "--set", "swap_free_low_percentage=0"];
        let (status, text) = lmkctl(&[["replay", file].as_slice(), &off].concat());
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("lowmem_min_oom_score: 701 -> 1001"), "{text}");
        // Those for stalls stay, those for low memory go.
        let stalls = file.contains("stalls");
        assert_eq!(number_before(&text, " go, ") == 0, stalls, "{text}");
        assert!(text.contains("with the facts that were recorded at that moment"), "{text}");
    }
}

#[test]
fn a_setting_that_is_not_known_is_refused_by_name() {
    let file = recordings().remove(0);
    let (status, text) = lmkctl(&["replay", file.to_str().unwrap(), "--set", "no_such=1"]);
    assert_eq!(status, 2);
    assert!(text.contains("no tunable is called no_such"), "{text}");
}

#[test]
fn a_recording_is_drawn_as_a_page() {
    for file in recordings() {
        let (status, html) = lmkctl(&["report", file.to_str().unwrap(), "-o", "-"]);
        assert_eq!(status, 0);
        assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"));
        assert!(html.contains("aria-label=\"Kill 1 at "), "no mark");
        assert!(html.contains("Free memory and the watermarks"));
    }
}
