//! lmkctl, as tests run it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses a part of it"
)]

pub mod openmetrics;

use serde_json::Value;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// The tool.
pub const LMKCTL: &str = env!("CARGO_BIN_EXE_lmkctl");

/// It, with these arguments, before it is started.
pub fn lmkctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(LMKCTL);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its exit status, what it printed and what it complained of.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    ended(lmkctl(arguments).output().unwrap())
}

/// The same of one that was started.
pub fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Each line as the object that it is.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A socket at which nobody listens.
pub const NOWHERE: &str = "--socket=/nonexistent/lmkd.sock";
