//! The properties of the device: in init's memory, and as files for all to read.

use anyhow::bail;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// One file for each property.
pub const DIRECTORY: &str = "/dev/properties";
/// Where requests come in.
pub const SERVICE: &str = "/dev/socket/property_service";
/// `PROP_MSG_SETPROP2`, and two of bionic's answers.
pub const SETPROP2: u32 = 0x0002_0001;
pub const SUCCESS: u32 = 0;
const REFUSED: u32 = 0x18;
/// bionic's `PROP_VALUE_MAX`, its NUL included; only ro. values may be longer.
const VALUE_MAX: usize = 92;

/// What init knows.
#[derive(Debug, Default)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a property in memory alone.
    pub fn insert(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// Sets a property for all to see.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        self.may_set(name, value)?;
        // Renamed into place, so that nobody reads half of it.
        let new = format!("{DIRECTORY}/.new");
        fs::write(&new, value).context(DIRECTORY)?;
        fs::rename(&new, Path::new(DIRECTORY).join(name)).with_context(|| name.to_owned())?;
        self.insert(name, value);
        Ok(())
    }

    fn may_set(&self, name: &str, value: &str) -> Result<()> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || "._-@:".contains(letter);
        ensure!(!name.is_empty() && name.chars().all(is_name), "'{name}' is no property's name");
        ensure!(!name.starts_with('.') && !name.contains(".."), "'{name}' is no property's name");
        let read_only = name.starts_with("ro.");
        ensure!(read_only || value.len() < VALUE_MAX, "the value of {name} is too long");
        ensure!(!read_only || self.get(name).is_none(), "{name} is set already");
        Ok(())
    }

    /// A word of an action with its `${name}` and `${name:-default}` replaced.
    pub fn expand(&self, word: &str) -> Result<String> {
        let mut out = String::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once("${") {
            let (inside, after) = after.split_once('}').context("no } after ${")?;
            let (name, default) = match inside.split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (inside, None),
            };
            out.push_str(before);
            match (self.get(name).filter(|value| !value.is_empty()), default) {
                (Some(value), _) | (None, Some(value)) => out.push_str(value),
                (None, None) => bail!("'{name}' in '{word}' is not set"),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Somebody asks for a property to be set, and waits.
#[derive(Debug)]
pub struct Request {
    pub name: String,
    pub value: String,
    pub answer: Sender<bool>,
}

/// Takes requests for ever, each handed to init.
pub fn serve(listener: &UnixListener, mut init: impl FnMut(Request)) {
    for client in listener.incoming().flatten() {
        // Somebody who says nothing must not keep others from being heard.
        let _ = client.set_read_timeout(Some(Duration::from_secs(2)));
        let _ = serve_one(client, &mut init);
    }
}

fn serve_one(mut client: UnixStream, init: &mut impl FnMut(Request)) -> Result<()> {
    ensure!(read_word(&mut client)? == SETPROP2, "no request known here");
    let (name, value) = (read_text(&mut client)?, read_text(&mut client)?);
    let (answer, done) = mpsc::channel();
    init(Request { name, value, answer });
    let answer = if done.recv()? { SUCCESS } else { REFUSED };
    client.write_all(&answer.to_le_bytes())?;
    Ok(())
}

fn read_word(from: &mut impl Read) -> Result<u32> {
    let mut word = [0; 4];
    from.read_exact(&mut word)?;
    Ok(u32::from_le_bytes(word))
}

fn read_text(from: &mut impl Read) -> Result<String> {
    let length = usize::try_from(read_word(from)?)?;
    ensure!(length <= 4096, "a text of {length} bytes");
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_expanded_as_init_does() {
        let mut properties = Properties::default();
        properties.insert("a", "1");
        properties.insert("empty", "");
        let expand = |word| properties.expand(word).ok();
        assert_eq!(expand("${a:-0}").as_deref(), Some("1"));
        assert_eq!(expand("x${a}y${b:-0}z").as_deref(), Some("x1y0z"));
        assert_eq!(expand("${empty:-0}").as_deref(), Some("0"));
        assert_eq!(expand("${b}"), None);
        assert_eq!(expand("${a"), None);
    }

    #[test]
    fn a_read_only_property_is_set_once_and_names_are_no_paths() {
        let mut properties = Properties::default();
        assert!(properties.may_set("ro.a", "1").is_ok());
        properties.insert("ro.a", "1");
        assert!(properties.may_set("ro.a", "2").is_err());
        for name in ["", "a/b", "../a", ".new"] {
            assert!(properties.may_set(name, "1").is_err(), "{name}");
        }
        assert!(properties.may_set("a", &"x".repeat(92)).is_err());
    }
}
