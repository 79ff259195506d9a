//! The decision names no I/O, no clock, no logging and nothing that allocates.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Words that have no place in `src/policy`, and what each stands for.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("I/O", &["std::fs", "std::io", "std::net", "std::os", "std::env", "std::process", "File"]),
    ("system calls", &["rustix", "libc", "crate::sys", "crate::pidfd", "procfs"]),
    ("clocks", &["std::time", "Instant", "SystemTime", "MonoTime::now", "clock_gettime"]),
    ("logging", &["log::", "println!", "eprintln!", "print!", "dbg!", "info!", "warn!", "error!"]),
    (
        "allocation",
        &["Vec", "vec!", "String", "format!", "Box", "Rc", "Arc", "HashMap", "BTreeMap"],
    ),
    ("hidden state", &["static mut", "thread_local!", "Mutex", "RefCell", "Cell", "Atomic"]),
    ("threads", &["std::thread", "std::sync"]),
    ("floating point", &["f32", "f64"]),
];

/// All that `src/policy` may use from elsewhere: values, and how they are written down.
const USABLE: &[&str] = &[
    "std::fmt",
    "std::mem::take",
    "crate::clock::MonoTime",
    "crate::codec::",
    "crate::config::Tunables",
    "crate::kernel::Meminfo",
    "crate::kernel::ReclaimEvents",
    "crate::kernel::Sample",
    "crate::kernel::Vmstat",
    "crate::kernel::Watermarks",
    "crate::oom_score_adj::OomScoreAdj",
    "crate::units::",
];

/// The sources below `dir` that are no tests.
fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_policy_is_pure() {
    let mut files = Vec::new();
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy");
    sources(&root, &mut files);
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            let at = || format!("{}:{}", path.display(), number.saturating_add(1));
            found.extend(words_in(line).map(|(kind, word)| format!("{}: {kind}: {word}", at())));
            found.extend(
                paths_in(line)
                    .filter(|path| !is_usable(path))
                    .map(|path| format!("{}: {path} is not among what the policy may use", at())),
            );
        }
    }
    assert!(files.len() >= 10, "only {} files in {}", files.len(), root.display());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_what_is_listed_may_be_used() {
    let strange = |line| paths_in(line).filter(|path| !is_usable(path)).count();
    assert_eq!(strange("use crate::kernel::Sampler;"), 1);
    assert_eq!(strange("    f(kib: crate::units::Pages, crate::sys::heap::share())"), 1);
    assert_eq!(strange("use std::{fmt, fs};"), 1, "groups are not looked into");
    assert_eq!(strange("pub use super::rules::Rule;"), 0);
    assert_eq!(strange("//! [`Sample`]: crate::kernel::Sampler"), 0);
    assert_eq!(strange("use crate::kernel::Sample;"), 0);
}

fn is_usable(path: &str) -> bool {
    USABLE.iter().any(|usable| match usable.strip_suffix("::") {
        Some(_) => path.starts_with(usable),
        None => {
            path == *usable || path.strip_prefix(usable).is_some_and(|rest| rest.starts_with("::"))
        }
    })
}

/// The paths into the crate or the library that a line of code names.
fn paths_in(line: &str) -> impl Iterator<Item = &str> + '_ {
    let code = line.split("//").next().unwrap_or("");
    let in_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    ["crate::", "std::", "core::", "alloc::"].iter().flat_map(move |root| {
        code.match_indices(root).filter_map(move |(at, _)| {
            let before = code.get(..at)?.chars().next_back();
            let rest = code.get(at..)?;
            let end = rest.find(|c| !in_path(c)).unwrap_or(rest.len());
            rest.get(..end).filter(|_| !before.is_some_and(in_path))
        })
    })
}

#[test]
fn the_check_finds_what_it_looks_for() {
    let count = |line| words_in(line).count();
    assert_eq!(count("let now = MonoTime::now();"), 1);
    assert_eq!(count("use std::fs;"), 1);
    assert_eq!(count("fn names() -> Vec<String> {"), 2);
    assert_eq!(count("/// A String in a comment."), 0);
    assert_eq!(count("let profile: Filecache = 1;"), 0);
}

/// The forbidden words of a line of code, as whole words.
fn words_in(line: &str) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
    let code = line.split("//").next().unwrap_or("");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    FORBIDDEN.iter().flat_map(|(kind, words)| words.iter().map(move |word| (*kind, *word))).filter(
        move |(_, word)| {
            code.match_indices(word).any(|(at, _)| {
                let before = code.get(..at).and_then(|part| part.chars().next_back());
                let after = code.get(at..).and_then(|part| part.strip_prefix(word));
                let after = after.and_then(|part| part.chars().next());
                !before.is_some_and(is_word)
                    && (!word.ends_with(is_word) || !after.is_some_and(is_word))
            })
        },
    )
}
