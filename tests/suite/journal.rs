//! What is to be put back on a device, kept on the host until it is: a run that was killed leaves it to the next.

use crate::state::State;
use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use rustix::fs::flock;
use rustix::fs::FlockOperation;
use serde_json::json;
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

const NAME: &str = "journal.json";
/// The number in every journal; another's is not understood.
const FORMAT: u32 = 1;

/// A file of the device that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub path: String,
    /// The sum of what is there now.
    pub ours: String,
    /// What there was; None if there was nothing.
    pub saved: Option<Saved>,
}

/// What a copy on the host needs to be the same file again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    pub sum: String,
    pub mode: String,
    /// Its label, where there is SELinux.
    pub label: Option<String>,
}

/// The journal of one device, and the copies of its files beside it.
pub struct Journal {
    folder: PathBuf,
    pub state: State,
    pub files: Vec<Replaced>,
    /// The device has to boot anew to be as it was.
    pub reboot: bool,
}

/// The folder of a device: always the same, wherever the suite is run from.
pub fn folder(serial: &str) -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_STATE_HOME").map(PathBuf::from);
    let home = || Some(Path::new(&set("HOME")?).join(".local/state"));
    let base = base.or_else(home).context("neither XDG_STATE_HOME nor HOME is set")?;
    // A serial number may be an address.
    let name = serial.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '.', "_");
    Ok(base.join("lmkd_suite").join(name))
}

/// Keeps other runs from the device for as long as it lives.
pub fn lock(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let file = File::create(folder.join("lock"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .context("another run of the suite has the device")?;
    Ok(file)
}

impl Journal {
    /// An empty one of a device that was like this.
    pub fn new(folder: &Path, state: State) -> Self {
        Self { folder: folder.to_owned(), state, files: Vec::new(), reboot: false }
    }

    /// What an earlier run has left, if it was killed before it could put all back.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let file = folder.join(NAME);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        };
        let read = || -> Result<Self> {
            let value: Value = serde_json::from_slice(&text)?;
            ensure!(value["format"] == FORMAT, "not of format {FORMAT}");
            let files = value["files"].as_array().context("files")?;
            Ok(Self {
                folder: folder.to_owned(),
                state: State::from_json(&value["state"])?,
                files: files.iter().map(Replaced::from_json).collect::<Result<_>>()?,
                reboot: value["reboot"].as_bool().context("reboot")?,
            })
        };
        read().map(Some).with_context(|| file.display().to_string())
    }

    /// Writes it down: whole, or not at all.
    pub fn write(&self) -> Result<()> {
        let files: Vec<Value> = self.files.iter().map(Replaced::to_json).collect();
        let value = json!({
            "format": FORMAT, "state": self.state.to_json(), "files": files, "reboot": self.reboot,
        });
        let (new, name) = (self.folder.join("new"), self.folder.join(NAME));
        let write = || -> Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(value.to_string().as_bytes())?;
            file.sync_all()?;
            Ok(fs::rename(&new, &name)?)
        };
        write().with_context(|| name.display().to_string())
    }

    /// Where the copy of a file is.
    pub fn copy_of(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/').replace('/', "_"))
    }

    /// All is back: nothing is left to do for anybody.
    pub fn remove(&self) -> Result<()> {
        for file in &self.files {
            let _ = fs::remove_file(self.copy_of(&file.path));
        }
        let name = self.folder.join(NAME);
        fs::remove_file(&name).with_context(|| name.display().to_string())
    }
}

impl Replaced {
    fn to_json(&self) -> Value {
        let saved = self.saved.as_ref();
        json!({
            "path": self.path,
            "ours": self.ours,
            "saved": saved.map(|saved| json!({
                "sum": saved.sum, "mode": saved.mode, "label": saved.label,
            })),
        })
    }

    fn from_json(value: &Value) -> Result<Self> {
        let text = |value: &Value, name: &'static str| -> Result<String> {
            Ok(value[name].as_str().context(name)?.to_owned())
        };
        let saved = &value["saved"];
        let saved = match saved {
            Value::Null => None,
            _ => Some(Saved {
                sum: text(saved, "sum")?,
                mode: text(saved, "mode")?,
                label: saved["label"].as_str().map(str::to_owned),
            }),
        };
        Ok(Self { path: text(value, "path")?, ours: text(value, "ours")?, saved })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let bare = json!({
            "properties": {"a": "1"}, "runs": true, "swaps": {"/dev/zram0": -2}, "zram": "0",
            "algorithm": "lzo", "reserve": "2048", "files": [],
        });
        State::from_json(&bare).unwrap()
    }

    fn scratch(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("lmkd-journal-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn the_next_run_reads_what_a_killed_one_wrote() {
        let folder = scratch("killed");
        let mut journal = Journal::new(&folder, state());
        let saved =
            Saved { sum: "b".into(), mode: "755".into(), label: Some("u:object_r:x:s0".into()) };
        let file = |path: &str, saved| Replaced { path: path.into(), ours: "a".into(), saved };
        journal.files = vec![file("/system/bin/lmkd", Some(saved)), file("/system/etc/x.rc", None)];
        journal.reboot = true;
        journal.write().unwrap();
        let read = Journal::read(&folder).unwrap().expect("a journal");
        assert_eq!(read.files, journal.files);
        assert_eq!(read.state, journal.state);
        assert!(read.reboot);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_run_that_put_all_back_leaves_nothing_to_the_next() {
        let folder = scratch("back");
        assert!(Journal::read(&folder).unwrap().is_none());
        let mut journal = Journal::new(&folder, state());
        let (path, ours) = ("/system/bin/lmkd".to_owned(), "a".to_owned());
        fs::write(journal.copy_of(&path), "copy").unwrap();
        journal.files.push(Replaced { path, ours, saved: None });
        journal.write().unwrap();
        journal.remove().unwrap();
        assert!(Journal::read(&folder).unwrap().is_none());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_journal_that_is_not_understood_is_an_error() {
        let folder = scratch("format");
        fs::write(folder.join(NAME), "{\"format\": 2}").unwrap();
        assert!(Journal::read(&folder).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn one_run_at_a_time_has_a_device() {
        let folder = scratch("lock");
        let first = lock(&folder).unwrap();
        assert!(lock(&folder).is_err());
        drop(first);
        lock(&folder).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
