//! What an action may have init do.

use anyhow::bail;
use anyhow::Context;
use anyhow::Result;

/// A line of an action. Words still hold `${property}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    Start(String),
    Stop(String),
    ClassStart(String),
    SetProperty(String, String),
    /// The next command waits for its end.
    Exec(Vec<String>),
    ExecBackground(Vec<String>),
    Trigger(String),
    Write(String, String),
    Chmod(u32, String),
    Chown(String, String, String),
}

impl Command {
    pub fn new(words: &[String]) -> Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let own = |word: &&str| (*word).to_owned();
        Ok(match words.as_slice() {
            ["start", name] => Self::Start(own(name)),
            ["stop", name] => Self::Stop(own(name)),
            ["class_start", name] => Self::ClassStart(own(name)),
            ["setprop", name, value] => Self::SetProperty(own(name), own(value)),
            // Only as root, under no label: what stands before the dashes is not understood.
            ["exec", "--", line @ ..] if !line.is_empty() => {
                Self::Exec(line.iter().map(own).collect())
            }
            ["exec_background", "--", line @ ..] if !line.is_empty() => {
                Self::ExecBackground(line.iter().map(own).collect())
            }
            ["trigger", event] => Self::Trigger(own(event)),
            ["write", path, text] => Self::Write(own(path), own(text)),
            ["chmod", mode, path] => {
                Self::Chmod(u32::from_str_radix(mode, 8).context("mode")?, own(path))
            }
            ["chown", user, group, path] => Self::Chown(own(user), own(group), own(path)),
            _ => bail!("'{}' is not understood here", words.join(" ")),
        })
    }
}
