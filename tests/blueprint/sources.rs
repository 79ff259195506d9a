//! The files of a crate as rustc finds them from its root, without what only Cargo's features add.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// One file of a crate.
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// What it says, comments left out; without its unit tests, if the crate is built without.
    pub code: String,
}

impl Source {
    /// Whether this uses a crate by path or import.
    pub fn uses(&self, krate: &str) -> bool {
        let name = krate.replace('-', "_");
        let stands_alone = |at: usize| {
            let before = self.code[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || "_:.\"".contains(c))
        };
        let with = |after: &str| {
            let text = format!("{name}{after}");
            self.code.match_indices(&text).any(|(at, _)| stands_alone(at))
        };
        with("::") || self.code.contains(&format!("use {name};"))
    }

    /// The files that this takes in when it is compiled, as it names them.
    pub fn included(&self) -> Vec<&str> {
        let files = ["include!(\"", "include_bytes!(\"", "include_str!(\""]
            .into_iter()
            .flat_map(|include| self.code.split(include).skip(1));
        files.filter_map(|rest| rest.split('"').next()).collect()
    }

    /// The variables of Cargo's that this wants when it is compiled.
    pub fn cargo_variables(&self) -> Vec<&str> {
        let wanted = self.code.split("env!(\"CARGO_").skip(1);
        wanted.filter_map(|rest| rest.split('"').next()).collect()
    }
}

/// A crate's files, its root first. Modules that a feature switches on are left out: Soong switches
/// on none.
pub fn of_crate(root: &Path, tests: bool) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut wanted = vec![(root.to_owned(), root.parent().unwrap().to_owned())];
    while let Some((path, folder)) = wanted.pop() {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let code = code(&text, tests);
        wanted.extend(modules(&code, &path, &folder, tests));
        sources.push(Source { path, code });
    }
    sources
}

fn code(text: &str, tests: bool) -> String {
    let mut code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or("").to_owned() + "\n").collect();
    let mut unit_tests = code.match_indices("#[cfg(test)]\n").map(|(at, _)| at);
    // Attributes may stand between; a module in a file of its own is left to whoever follows it.
    let inline = |at: &usize| {
        let item = code[*at..].lines().find(|line| !line.starts_with('#'));
        item.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    };
    let end = unit_tests.find(inline);
    code.truncate(end.filter(|_| !tests).unwrap_or(code.len()));
    code
}

/// The files of the modules that a file declares, each with the folder of its own modules.
fn modules(code: &str, path: &Path, folder: &Path, tests: bool) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let mut attributes = String::new();
    let is_built = |attributes: &str| {
        let test = attributes.contains("cfg(test)") || attributes.contains("(test,");
        !attributes.contains("feature =") && (tests || !test)
    };
    for line in code.lines().map(str::trim) {
        let declared = ["", "pub ", "pub(crate) ", "pub(super) "].iter().find_map(|visible| {
            line.strip_prefix(visible)?.strip_prefix("mod ")?.strip_suffix(';')
        });
        if let Some(name) = declared.filter(|_| is_built(&attributes)) {
            let given =
                attributes.split("#[path = \"").nth(1).and_then(|rest| rest.split('"').next());
            found.push(match given {
                Some(given) => {
                    let file = path.parent().unwrap().join(given);
                    let inside = file.parent().unwrap().to_owned();
                    (file, inside)
                }
                None => {
                    let inside = folder.join(name);
                    let file = folder.join(format!("{name}.rs"));
                    (if file.is_file() { file } else { inside.join("mod.rs") }, inside)
                }
            });
        }
        if line.starts_with("#[") || line.ends_with("))]") {
            attributes.push_str(line);
        } else {
            attributes.clear();
        }
    }
    found
}
