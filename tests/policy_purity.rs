//! The decision names no I/O, no clock, no logging and nothing that allocates.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

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

#[test]
fn the_policy_is_pure() {
    let mut files = 0;
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy");
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            found.extend(words_in(line).map(|(kind, word)| {
                format!("{}:{}: {kind}: {word}", path.display(), number.saturating_add(1))
            }));
        }
    }
    assert!(files >= 10, "only {files} files in {}", root.display());
    assert!(found.is_empty(), "{}", found.join("\n"));
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
