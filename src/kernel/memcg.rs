//! Memory cgroups of registered apps: how much of each the kernel should leave alone.
//!
//! In the v1 hierarchy this is `memory.soft_limit_in_bytes`, the size above which a group is
//! reclaimed first. In v2 Android writes the same number to `memory.low`, the size below which a
//! group is not reclaimed while others can be. (Kernel documentation: `cgroup-v1/memory.rst`,
//! `cgroup-v2.rst`.)
//!
//! Writing one allocates nothing: the hierarchy is found once, paths are built on the stack. The
//! same way leads to what a victim's group has used.

use super::memcg_usage::UsageFiles;
use super::process::ProcDir;
use super::process::ProcError;
use super::reader;
use super::ParseError;
use crate::oom_score_adj::OomScoreAdj;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::cell::OnceCell;
use std::ffi::CStr;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

/// Why an app's memory was not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemcgError {
    /// No hierarchy with a memory controller is mounted where this process sees it.
    NoHierarchy,
    /// Whether there is one could not be found out.
    Unknown(Errno),
    /// The process's group is not below the mount that was found.
    OutOfSight,
    /// The process is in the root group, which is everybody's.
    Root,
    /// Its group could not be asked for.
    Process(ProcError),
    /// The group's file could not be opened, read or written.
    File(&'static str, Errno),
    /// The group's file does not say what it should.
    Text(ParseError),
}

impl fmt::Display for MemcgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHierarchy => write!(f, "no memory cgroups are mounted"),
            Self::Unknown(error) => write!(f, "memory cgroups cannot be looked for: {error}"),
            Self::OutOfSight => write!(f, "its memory cgroup cannot be seen from here"),
            Self::Root => write!(f, "it has no memory cgroup of its own"),
            Self::Process(error) => write!(f, "its memory cgroup is unknown: {error}"),
            Self::File(name, error) => write!(f, "{name} of its cgroup: {error}"),
            Self::Text(error) => write!(f, "its cgroup's {error}"),
        }
    }
}

impl std::error::Error for MemcgError {}

/// The size that an app of this adj keeps, in bytes.
///
/// Eight MiB times the number that AOSP gives for each range; a launcher (600 to 699) gets as much
/// as the lowest perceptible one. AOSP writes the same to v1's soft limit, above which a group is
/// reclaimed from first, and to v2's `memory.low`, below which it is last: the order is the same.
#[must_use]
pub fn protected_bytes(adj: OomScoreAdj) -> u64 {
    const UNIT: u64 = 8 << 20;
    let multiplier = match adj.get() {
        700.. => 0,
        600..=699 => 1,
        400..=599 => 0,
        300..=399 => 1,
        200..=299 => 8,
        100..=199 => 10,
        0..=99 => 20,
        _ => 64,
    };
    UNIT * multiplier
}

/// Longest line of `/proc/PID/cgroup`, and longest path below the mount, that is understood.
const PATH: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V1,
    V2,
}

impl Version {
    const fn file(self) -> &'static str {
        match self {
            Self::V1 => "memory.soft_limit_in_bytes",
            Self::V2 => "memory.low",
        }
    }

    /// The group named by a line of `/proc/PID/cgroup`, `ID:CONTROLLERS:PATH`, if the line is this
    /// hierarchy's.
    fn group(self, line: &[u8]) -> Option<&[u8]> {
        let mut fields = line.splitn(3, |byte| *byte == b':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = match self {
            Self::V1 => controllers.split(|byte| *byte == b',').any(|name| name == b"memory"),
            Self::V2 => id == b"0" && controllers.is_empty(),
        };
        ours.then_some(path)
    }
}

/// A line of `/proc/self/mountinfo` that mounts a hierarchy with the memory controller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// The group that is mounted, `/` for all.
    root: Vec<u8>,
    point: PathBuf,
}

impl Mount {
    /// `ID PARENT DEVICE ROOT POINT OPTIONS [TAG]... - TYPE SOURCE SUPER-OPTIONS`
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = unescape(fields.by_ref().nth(3)?);
        let point = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
        let kind = fields.by_ref().skip_while(|field| *field != b"-").nth(1)?;
        let mut options = fields.nth(1)?.split(|byte| *byte == b',');
        let version = match kind {
            b"cgroup" if options.any(|option| option == b"memory") => Version::V1,
            b"cgroup2" => Version::V2,
            _ => return None,
        };
        Some(Self { version, root, point })
    }

    /// The one to use. The memory controller is in one hierarchy only: where v1 has it, v2 does
    /// not. Of several mounts of it the one that shows most is taken.
    fn choose(mountinfo: &[u8]) -> Option<Self> {
        let mounts = mountinfo.split(|byte| *byte == b'\n').filter_map(Self::parse);
        mounts.min_by_key(|mount| (mount.version, mount.root.len()))
    }

    /// The path of a group's file below the mount.
    fn file_of<'b>(
        &self,
        group: &[u8],
        name: &'static str,
        buffer: &'b mut [u8],
    ) -> Result<&'b CStr, MemcgError> {
        let below = match self.root.as_slice() {
            b"/" => Some(group),
            root => group.strip_prefix(root).filter(|rest| rest.first().is_none_or(|b| *b == b'/')),
        };
        let below = below.ok_or(MemcgError::OutOfSight)?;
        // Seen from a cgroup namespace, a group outside it.
        if below.split(|byte| *byte == b'/').any(|name| name == b"..") {
            return Err(MemcgError::OutOfSight);
        }
        let below = below.strip_prefix(b"/").unwrap_or(below);
        if below.is_empty() {
            return Err(MemcgError::Root);
        }
        let mut out = &mut *buffer;
        let parts = [below, b"/", name.as_bytes(), b"\0"];
        parts
            .iter()
            .try_for_each(|part| out.write_all(part))
            .map_err(|_| MemcgError::File(name, Errno::NAMETOOLONG))?;
        CStr::from_bytes_until_nul(buffer).map_err(|_| MemcgError::File(name, Errno::NAMETOOLONG))
    }
}

/// Undoes mountinfo's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<3>().and_then(|digits| octal(*digits));
        match code.filter(|_| *first == b'\\') {
            Some(byte) => {
                text.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                text.push(*first);
                rest = after;
            }
        }
    }
    text
}

fn octal(digits: [u8; 3]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 8).ok()
}

/// The hierarchy that has the memory controller, held open.
#[derive(Debug)]
pub struct MemoryCgroups {
    mount: Mount,
    dir: OwnedFd,
}

impl MemoryCgroups {
    /// Finds the hierarchy among this process's mounts. Allocates.
    ///
    /// # Errors
    ///
    /// [`MemcgError::NoHierarchy`], also if its mount point may not be opened; [`MemcgError::Unknown`]
    /// if the kernel has run out of something.
    pub fn find() -> Result<Self, MemcgError> {
        Self::among(std::fs::read("/proc/self/mountinfo"))
    }

    fn among(mountinfo: io::Result<Vec<u8>>) -> Result<Self, MemcgError> {
        let mountinfo = mountinfo.map_err(|error| {
            MemcgError::Unknown(Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let mount = Mount::choose(&mountinfo).ok_or(MemcgError::NoHierarchy)?;
        let dir = open_dir(&mount.point).map_err(|errno| match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => MemcgError::Unknown(errno),
            _ => MemcgError::NoHierarchy,
        })?;
        Ok(Self { mount, dir })
    }

    /// Opens the file that protects a process's group. Whether the process still is the one meant
    /// is to be asked between this and [`Self::protect`].
    ///
    /// # Errors
    ///
    /// The process has no group of its own, or its file cannot be opened.
    pub fn open(&self, proc: &ProcDir, pid: i32) -> Result<OwnedFd, MemcgError> {
        self.open_file(proc, pid, self.mount.version.file(), OFlags::WRONLY)
    }

    /// Opens what tells what a process's group, which with Android is its app's or its own, has used,
    /// to be read again and again. Should the process go to another group, it tells of the one before.
    ///
    /// # Errors
    ///
    /// The process has no group of its own, or its file cannot be opened.
    pub fn open_usage(&self, proc: &ProcDir, pid: i32) -> Result<UsageFiles, MemcgError> {
        let open = |name| self.open_file(proc, pid, name, OFlags::RDONLY);
        let stat = open(UsageFiles::STAT)?;
        Ok(match self.mount.version {
            Version::V1 => UsageFiles::v1(stat),
            // Kernels without swap do not have the other.
            Version::V2 => UsageFiles::v2(stat, open(UsageFiles::SWAP).ok()),
        })
    }

    fn open_file(
        &self,
        proc: &ProcDir,
        pid: i32,
        name: &'static str,
        access: OFlags,
    ) -> Result<OwnedFd, MemcgError> {
        let lines = proc.open_cgroup(pid).map_err(MemcgError::Process)?;
        let mut path = [0; PATH];
        let mut found = Err(MemcgError::OutOfSight);
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        reader::read_lines(lines.as_fd(), &mut [0; PATH], |line| {
            if let Some(group) = self.mount.version.group(line) {
                found = self.mount.file_of(group, name, &mut path).and_then(|path| {
                    rustix::fs::openat(&self.dir, path, flags, Mode::empty())
                        .map_err(|errno| MemcgError::File(name, errno))
                });
            }
            Ok(())
        })
        .map_err(|error| MemcgError::Process(error.into()))?;
        found
    }

    /// Writes a size to a file of [`Self::open`].
    ///
    /// # Errors
    ///
    /// What write(2) says: the group may be gone by now.
    pub fn protect(&self, file: &OwnedFd, bytes: u64) -> Result<(), MemcgError> {
        let mut text = [0; 20];
        let mut out = &mut text[..];
        // Twenty digits are the most that 64 bits have.
        let _ = write!(out, "{bytes}");
        let left = out.len();
        let text = text.get(..text.len().saturating_sub(left)).unwrap_or(&[]);
        rustix::io::write(file, text)
            .map(drop)
            .map_err(|errno| MemcgError::File(self.mount.version.file(), errno))
    }
}

/// What was found of the hierarchy, once that is known.
#[derive(Debug, Default)]
pub struct Lookup(OnceCell<Result<MemoryCgroups, MemcgError>>);

impl Lookup {
    /// What is known, without looking.
    #[must_use]
    pub fn known(&self) -> Option<&MemoryCgroups> {
        self.0.get()?.as_ref().ok()
    }

    /// Looks with `find`, such as [`MemoryCgroups::find`], unless it is known what there is.
    ///
    /// # Errors
    ///
    /// Those of `find`.
    pub fn get(
        &self,
        find: impl FnOnce() -> Result<MemoryCgroups, MemcgError>,
    ) -> Result<&MemoryCgroups, MemcgError> {
        if self.0.get().is_none() {
            match find() {
                // The next time it may be found out.
                Err(error @ MemcgError::Unknown(_)) => return Err(error),
                found => self.0.get_or_init(|| found),
            };
        }
        self.0.get().map_or(Err(MemcgError::NoHierarchy), |found| found.as_ref().map_err(|e| *e))
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a Linux 6.18 host that mounts both, the memory controller in v1.
    const HYBRID: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    /// Version 2 alone, as systemd mounts it.
    const UNIFIED: &[u8] = b"\
24 29 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
33 24 0:28 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

    fn group(version: Version, lines: &[u8]) -> Option<&[u8]> {
        lines.split(|byte| *byte == b'\n').find_map(|line| version.group(line))
    }

    fn file_of(mount: &Mount, group: &[u8]) -> Result<String, MemcgError> {
        let mut buffer = [0; PATH];
        let name = mount.version.file();
        mount.file_of(group, name, &mut buffer).map(|path| path.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_could_not_be_found_out_is_looked_for_again_and_what_was_found_is_not() {
        let out_of = |errno: Errno| MemoryCgroups::among(Err(errno.into()));
        let lookup = Lookup::default();
        for errno in [Errno::MFILE, Errno::NOMEM] {
            let error = lookup.get(|| out_of(errno)).map(drop);
            assert_eq!(error, Err(MemcgError::Unknown(errno)));
        }
        let (file, root) = (b"1 1 0:1 / / rw - cgroup2 cgroup2 rw".to_vec(), Path::new("/"));
        assert_eq!(lookup.get(|| MemoryCgroups::among(Ok(file))).unwrap().mount.point, root);
        assert!(lookup.get(|| out_of(Errno::MFILE)).is_ok() && lookup.known().is_some());
        let lookup = Lookup::default();
        let none = lookup.get(|| MemoryCgroups::among(Ok(Vec::new()))).map(drop);
        assert_eq!(none, Err(MemcgError::NoHierarchy));
        let again = lookup.get(|| out_of(Errno::MFILE)).map(drop);
        assert_eq!((again, lookup.known().is_some()), (none, false));
    }

    #[test]
    fn each_range_of_adj_keeps_what_aosp_gives_it() {
        let mib = |adj| protected_bytes(OomScoreAdj::new(adj).unwrap()) >> 20;
        let table = [
            (1000, 0),
            (700, 0),
            (699, 8),
            (600, 8),
            (599, 0),
            (400, 0),
            (399, 8),
            (300, 8),
            (299, 64),
            (200, 64),
            (199, 80),
            (100, 80),
            (99, 160),
            (0, 160),
            (-1, 512),
            (-1000, 512),
        ];
        for (adj, expected) in table {
            assert_eq!(mib(adj), expected, "adj {adj}");
        }
    }

    #[test]
    fn v1_is_taken_where_it_has_the_memory_controller_else_v2() {
        let found = Mount::choose(HYBRID).unwrap();
        assert_eq!((found.version, found.point), (Version::V1, "/sys/fs/cgroup/memory".into()));
        let found = Mount::choose(UNIFIED).unwrap();
        assert_eq!((found.version, found.point), (Version::V2, "/sys/fs/cgroup".into()));
        assert_eq!(Mount::choose(b""), None);
        assert_eq!(Mount::choose(b"31 23 0:28 / /sys/fs/cgroup rw -\n- - -\n"), None);
    }

    #[test]
    fn a_mount_point_with_a_space_and_a_part_of_the_hierarchy_are_understood() {
        let line =
            b"35 31 0:32 /apps /mnt/my\\040groups rw shared:1 master:2 - cgroup none rw,memory";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.point, PathBuf::from("/mnt/my groups"));
        assert_eq!(
            file_of(&mount, b"/apps/uid_10001/pid_77").unwrap(),
            "uid_10001/pid_77/memory.soft_limit_in_bytes"
        );
        assert_eq!(file_of(&mount, b"/apps"), Err(MemcgError::Root));
        assert_eq!(file_of(&mount, b"/application"), Err(MemcgError::OutOfSight));
        assert_eq!(file_of(&mount, b"/system"), Err(MemcgError::OutOfSight));
    }

    #[test]
    fn the_group_stands_in_its_hierarchys_line() {
        let hybrid = b"9:name=systemd:/\n4:memory:/a:b/c\n3:cpuset:/\n0::/other\n";
        assert_eq!(group(Version::V1, hybrid), Some(&b"/a:b/c"[..]));
        assert_eq!(group(Version::V2, hybrid), Some(&b"/other"[..]));
        let joined = b"5:cpu,memory:/x\n";
        assert_eq!(group(Version::V1, joined), Some(&b"/x"[..]));
        assert_eq!(group(Version::V2, joined), None);
        assert_eq!(group(Version::V1, b"4:memory2:/a\n4:memory\n\n"), None);
    }

    #[test]
    fn an_android_app_is_found_in_v2() {
        let mount = Mount::choose(UNIFIED).unwrap();
        let group = group(Version::V2, b"0::/apps/uid_10123/pid_4711\n").unwrap();
        assert_eq!(file_of(&mount, group).unwrap(), "apps/uid_10123/pid_4711/memory.low");
    }

    #[test]
    fn neither_the_root_group_nor_one_outside_the_namespace_is_written() {
        let mount = Mount::choose(UNIFIED).unwrap();
        assert_eq!(file_of(&mount, b"/"), Err(MemcgError::Root));
        assert_eq!(file_of(&mount, b""), Err(MemcgError::Root));
        assert_eq!(file_of(&mount, b"/../.."), Err(MemcgError::OutOfSight));
        assert_eq!(file_of(&mount, b"/a/../b"), Err(MemcgError::OutOfSight));
    }

    #[test]
    fn a_path_that_does_not_fit_is_an_error_and_not_another_path() {
        let mount = Mount::choose(UNIFIED).unwrap();
        let long = [b'/', b'a'].repeat(PATH / 2);
        let error = MemcgError::File("memory.low", Errno::NAMETOOLONG);
        assert_eq!(file_of(&mount, &long), Err(error));
    }
}
