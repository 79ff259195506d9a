//! Files of /proc that show something else for a while.

use crate::raw;
use anyhow::Result;
use std::fs;

/// What may be covered. What lies over one of these when an actor starts was left by an actor that was killed.
const FILES: [&str; 5] =
    ["/proc/zoneinfo", "/proc/vmstat", "/proc/meminfo", "/proc/pressure/memory", "/proc/pressure"];

/// Everything that is covered. Dropped, it uncovers all.
pub struct Mounts(Vec<String>);

impl Mounts {
    /// Nothing is covered from here on.
    pub fn new() -> Result<Self> {
        let left = covered(&fs::read_to_string("/proc/self/mountinfo")?);
        let mut mounts = Self(left);
        mounts.uncover()?;
        Ok(mounts)
    }

    /// Lets `file` show what `with` does.
    pub fn cover(&mut self, file: &str, with: &str) -> Result<()> {
        anyhow::ensure!(FILES.contains(&file), "{file}: may not be covered");
        raw::bind(with, file)?;
        self.0.push(file.to_owned());
        Ok(())
    }

    /// Lets `file` be what it is, but read-only.
    pub fn forbid_writing(&mut self, file: &str) -> Result<()> {
        self.cover(file, file)?;
        raw::make_read_only(file)?;
        // The daemon may live in another mount namespace: there, a mount arrives as it was made, and later changes of
        // it do not.
        self.cover(file, file)
    }

    /// Undoes all of it, the last first; what cannot be undone is tried again later.
    pub fn uncover(&mut self) -> Result<()> {
        while let Some(file) = self.0.last() {
            raw::unmount(file)?;
            self.0.pop();
        }
        Ok(())
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        let _ = self.uncover();
    }
}

/// Those of the files that something is mounted on, once for each mount, in the order of the mounts.
fn covered(mountinfo: &str) -> Vec<String> {
    // The fifth field is where it is mounted.
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    points.filter(|point| FILES.contains(point)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_actor_has_left_is_found() {
        let mountinfo = "\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
36 28 0:5 / /dev rw - devtmpfs udev rw
90 22 0:21 /meminfo /proc/zoneinfo rw - proc proc rw
91 22 0:21 /pressure/memory /proc/pressure/memory ro - proc proc rw
92 91 0:21 /pressure/memory /proc/pressure/memory ro - proc proc rw
93 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw
";
        let expected = ["/proc/zoneinfo", "/proc/pressure/memory", "/proc/pressure/memory"];
        assert_eq!(covered(mountinfo), expected);
    }
}
