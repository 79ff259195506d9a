//! Control groups that a signalled victim is put into, so that it gets to die.
//!
//! All of its threads move with one write of its id to a held `cgroup.procs`. A move can wait for
//! locks that tasks short of memory hold, so it is the reaper's, never the loop's.

use crate::pidfd::PidFd;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Android's groups for what the user sees: all CPUs, and the share of them that goes with it.
/// (cgroups.json and task_profiles.json of the platform, profiles CPUSET_SP_FOREGROUND and
/// SCHED_SP_FOREGROUND.)
const FOREGROUND: [&str; 2] = ["/dev/cpuset/foreground", "/dev/cpuctl/foreground"];

/// Held `cgroup.procs` files.
#[derive(Debug)]
pub(super) struct Groups {
    foreground: [Option<OwnedFd>; 2],
    running: Option<OwnedFd>,
}

impl Groups {
    /// Those that this machine has and lets the daemon write to. Allocates.
    pub fn open() -> Self {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let freezer = freezer_mount(&mounts).and_then(|path| std::str::from_utf8(path).ok());
        Self { foreground: FOREGROUND.map(members), running: freezer.and_then(members) }
    }

    /// This as a foreground group.
    #[cfg(test)]
    pub fn of(group: OwnedFd) -> Self {
        Self { foreground: [Some(group), None], running: None }
    }

    /// Moves a process to Android's foreground groups.
    pub fn bring_forward(&self, pid: i32, pidfd: &PidFd) {
        self.foreground.iter().flatten().for_each(|group| join(group, pid, pidfd));
    }

    /// Takes a process out of a frozen group of cgroup v1, in which it could not even die.
    pub fn thaw(&self, pid: i32, pidfd: &PidFd) {
        self.running.iter().for_each(|group| join(group, pid, pidfd));
    }
}

fn members(group: &str) -> Option<OwnedFd> {
    let path = Path::new(group).join("cgroup.procs");
    rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// A process that is gone by now, or may not be moved, dies where it is. The kernel takes ids here:
/// whether this one is still the victim's is asked right before.
fn join(group: &OwnedFd, pid: i32, pidfd: &PidFd) {
    if !pidfd.holds_its_pid() {
        return;
    }
    let mut text = [0_u8; 12];
    let mut out = &mut text[..];
    // An i32 has eleven characters at most.
    let _ = write!(out, "{pid}");
    let left = out.len();
    let moved =
        rustix::io::write(group, text.get(..text.len().saturating_sub(left)).unwrap_or(&[]));
    if moved.is_ok() && !pidfd.holds_its_pid() {
        log::warn!("process {pid} was reaped while it was moved: another may have been by its id");
    }
}

/// Where the v1 hierarchy with the freezer is mounted whole, by `/proc/self/mountinfo`: `ID PARENT
/// DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE SUPER-OPTIONS`. Its topmost group is never
/// frozen.
fn freezer_mount(mountinfo: &[u8]) -> Option<&[u8]> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let whole = fields.by_ref().nth(3)? == b"/";
        let point = fields.next()?;
        let kind = fields.by_ref().skip_while(|field| *field != b"-").nth(1)?;
        let mut options = fields.nth(1)?.split(|byte| *byte == b',');
        (whole && kind == b"cgroup" && options.any(|option| option == b"freezer")).then_some(point)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_no_longer_holds_its_id_is_not_moved() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id().cast_signed();
        let pidfd = PidFd::open(pid).unwrap();
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        let mut text = [0; 16];
        join(&writer, pid, &pidfd);
        let read = rustix::io::read(&reader, &mut text).unwrap();
        assert_eq!(text[..read], *pid.to_string().as_bytes());
        child.kill().unwrap();
        child.wait().unwrap();
        join(&writer, pid, &pidfd);
        assert!(rustix::io::read(&reader, &mut text).is_err());
    }

    #[test]
    fn the_freezer_is_found_among_the_mounts() {
        let mounts = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            31 30 0:27 /part /part rw shared:9 - cgroup cgroup rw,freezer\n\
            36 31 0:30 / /sys/fs/cgroup/freezer rw,nosuid shared:9 - cgroup cgroup rw,freezer\n\
            37 31 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(freezer_mount(mounts), Some(&b"/sys/fs/cgroup/freezer"[..]));
        assert_eq!(freezer_mount(b"37 31 0:31 / /c rw - cgroup2 cgroup2 rw,freezer\n\n"), None);
    }
}
