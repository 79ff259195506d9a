//! Real memory pressure that the machine does not feel: a group of processes that may hold less
//! file cache than it reads over and over. Its stalls are in the group's own memory.pressure.

use super::own_dir;
use super::own_name;
use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

const LIMIT: &str = "16M";
const FILE_BYTES: usize = 48 << 20;

pub struct Pressure {
    /// The group's directories; the pressure file is in the first.
    groups: Vec<PathBuf>,
    dir: PathBuf,
    readers: Option<Child>,
}

impl Pressure {
    /// A group without processes. None, and said so, where this user may not make one.
    pub fn prepare(test: &str) -> Option<Self> {
        let groups = match groups() {
            Ok(groups) => groups,
            Err(why) => {
                super::skip(test, &why);
                return None;
            }
        };
        Some(Self { groups, dir: own_dir(), readers: None })
    }

    /// What `--psi` takes.
    pub fn file(&self) -> String {
        self.groups[0].join("memory.pressure").display().to_string()
    }

    /// Waits until the kernel tells of pressure: as a daemon hears of it that watches the group.
    pub fn until_told(&self) {
        let mut file = fs::File::options().read(true).write(true).open(self.file()).unwrap();
        // As long as any user may ask for.
        file.write_all(b"full 3000 2000000\0").unwrap();
        let mut told = [PollFd::new(&file, PollFlags::PRI)];
        let patience = Timespec::try_from(super::PATIENCE).unwrap();
        assert_eq!(rustix::event::poll(&mut told, Some(&patience)), Ok(1), "no pressure");
    }

    /// Arguments of a daemon that watches this group, half a second at a time, and takes any stall
    /// of the whole group for a reason to kill. A fast disk leaves little to stall on: 8 % of the
    /// time on a machine at rest, less where readers wait for a CPU. Without readers there is none.
    pub fn args(&self) -> Vec<String> {
        let set = |tunable: &str| format!("--set={tunable}");
        vec![
            format!("--psi={}", self.file()),
            set("debug=true"),
            set("psi_window_size_ms=500"),
            set("psi_complete_stall_ms=3"),
            set("psi_partial_stall_ms=0"),
        ]
    }

    /// Removes the group with its pressure file while nobody is in it.
    pub fn vanish(&self) {
        fs::remove_dir(&self.groups[0]).unwrap();
    }

    /// Makes the group again, without its limit where that went with it.
    pub fn come_back(&self) {
        fs::create_dir(&self.groups[0]).unwrap();
    }

    /// Pressure from now on.
    pub fn rise(&mut self) {
        let join: String = self
            .groups
            .iter()
            .map(|group| format!("echo 0 >{}/cgroup.procs;", group.display()))
            .collect();
        let file = self.dir.join("file");
        forget(&file).unwrap();
        let file = file.display();
        let script = format!("{join} while :; do cat {file} >/dev/null; done");
        let child = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
        self.readers = Some(child);
    }

    /// No pressure from now on.
    pub fn fall(&mut self) {
        if let Some(mut child) = self.readers.take() {
            // Nobody is in the group but those started by `rise`.
            let _ = fs::write(self.groups[0].join("cgroup.kill"), "1");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Pressure {
    fn drop(&mut self) {
        self.fall();
        let _ = fs::remove_dir_all(&self.dir);
        for group in &self.groups {
            // Its last process may still be on its way out.
            for _ in 0..200 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

/// Writes the file and drops it from the cache. Clean pages that the readers bring in can always
/// be taken from them; with dirty ones the kernel would have to kill a reader now and then.
fn forget(path: &Path) -> std::io::Result<()> {
    fs::write(path, vec![0; FILE_BYTES])?;
    let file = fs::File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// Makes the group: one directory with cgroup v2, two where memory is limited by v1.
fn groups() -> Result<Vec<PathBuf>, String> {
    let top = Path::new("/sys/fs/cgroup");
    let make = |parent: &Path, limit: Option<&str>| {
        let group = parent.join(own_name());
        let failed = |error| format!("{}: {error}", group.display());
        fs::create_dir(&group).map_err(failed)?;
        if let Some(limit) = limit {
            fs::write(group.join(limit), LIMIT).map_err(failed)?;
        }
        Ok::<_, String>(group)
    };
    if top.join("cgroup.controllers").exists() {
        // Refused where it is there already.
        let _ = fs::write(top.join("cgroup.subtree_control"), "+memory");
        return Ok(vec![make(top, Some("memory.max"))?]);
    }
    let unified = make(&top.join("unified"), None)?;
    let memory = make(&top.join("memory"), Some("memory.limit_in_bytes"))?;
    Ok(vec![unified, memory])
}
