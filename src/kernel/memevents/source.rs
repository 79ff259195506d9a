//! Where the ring and its programs come from.

use super::error::OpenError;
use super::program;
use super::program::Arguments;
use super::program::Style;
use super::record::Kind;
use super::MemEvents;
use crate::device;
use crate::sys::bpf;
use crate::sys::perf;
use crate::sys::ring::Ring;
use crate::sys::ring::SharedWords;
use rustix::io::Errno;
use std::ffi::CStr;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::path::PathBuf;

/// Where Android's boot loader of BPF programs pins AOSP's; the second place is the older one.
const PIN_DIRS: [&str; 2] = ["/sys/fs/bpf/memevents", "/sys/fs/bpf"];
const TRACEFS_DIRS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
const PINNED_RING: &str = "map_bpfMemEvents_lmkd_rb";

/// Bytes in our own ring: room for 682 records. AOSP's 4096 hold 42, which a few dozen tasks in
/// direct reclaim fill within milliseconds.
const OWN_RING_SIZE: u32 = 64 * 1024;

const TRACEPOINT: &str = "a vmscan tracepoint that AOSP's kernels have since 5.10";
const RING: &str = "BPF ring buffers, which come with Linux 5.8 and CONFIG_BPF_SYSCALL";

/// A tracepoint and what it reports.
pub(super) struct Tracepoint {
    pub(super) kind: Kind,
    pub(super) group: &'static str,
    pub(super) name: &'static CStr,
    /// Whether the source is of use without it.
    pub(super) optional: bool,
}

const fn tracepoint(kind: Kind, name: &'static CStr) -> Tracepoint {
    Tracepoint { kind, group: "vmscan", name, optional: false }
}

/// Ends before begins: a begin that is heard of has its end heard of too.
pub(super) const TRACEPOINTS: [Tracepoint; 6] = [
    tracepoint(Kind::DirectReclaimEnd, c"mm_vmscan_direct_reclaim_end"),
    tracepoint(Kind::DirectReclaimBegin, c"mm_vmscan_direct_reclaim_begin"),
    tracepoint(Kind::KswapdSleep, c"mm_vmscan_kswapd_sleep"),
    tracepoint(Kind::KswapdWake, c"mm_vmscan_kswapd_wake"),
    Tracepoint {
        kind: Kind::VendorKill,
        group: "android_vendor_lmk",
        name: c"android_trigger_vendor_lmk_kill",
        optional: true,
    },
    Tracepoint {
        kind: Kind::UpdateZoneinfo,
        group: "kmem",
        name: c"mm_calculate_totalreserve_pages",
        optional: true,
    },
];

pub(super) fn open(spacing_ms: u32) -> Result<MemEvents, OpenError> {
    let pinned = open_pinned(&PIN_DIRS.map(Path::new), &TRACEFS_DIRS.map(Path::new));
    // On a device SELinux lets nobody but the boot loader load programs. Elsewhere ours are better.
    if device::is_android() || pinned.is_ok() {
        return pinned;
    }
    load_own(spacing_ms, &TRACEPOINTS).map(|(events, _)| events)
}

/// AOSP's ring and programs, from the first directory that has the ring.
pub(super) fn open_pinned(dirs: &[&Path], tracefs: &[&Path]) -> Result<MemEvents, OpenError> {
    let (dir, ring_fd) = find_pinned_ring(dirs)?;
    let shape = bpf::map_shape(ring_fd.as_fd())
        .map_err(|errno| OpenError::new("asking for the size of AOSP's ring", RING, errno))?;
    if shape.map_type != bpf::MAP_TYPE_RINGBUF {
        return Err(OpenError::NotSupported { missing: RING, errno: Errno::INVAL });
    }
    let ring = Ring::map(ring_fd.as_fd(), shape.max_entries)
        .map_err(|errno| OpenError::new("mapping AOSP's ring", RING, errno))?;
    // What an earlier reader has left says nothing about now.
    ring.publish(ring.produced());
    let mut kinds = Vec::new();
    let mut attached = Vec::new();
    for tracepoint in &TRACEPOINTS {
        match attach_pinned(tracepoint, dir, tracefs) {
            Ok(event) => {
                kinds.push(tracepoint.kind);
                attached.push(event);
            }
            Err(_) if tracepoint.optional => {}
            Err(error) => return Err(error),
        }
    }
    Ok(MemEvents {
        ring_fd,
        ring,
        shared: None,
        shared_lost: 0,
        lost: 0,
        unexpected: 0,
        kinds,
        _attached: attached,
    })
}

fn find_pinned_ring<'a>(dirs: &[&'a Path]) -> Result<(&'a Path, OwnedFd), OpenError> {
    for dir in dirs {
        match open_pin(&dir.join(PINNED_RING)) {
            Ok(ring) => return Ok((dir, ring)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(OpenError::new("opening AOSP's ring", RING, errno)),
        }
    }
    Err(OpenError::NotLoadedYet)
}

fn attach_pinned(
    tracepoint: &Tracepoint,
    dir: &Path,
    tracefs: &[&Path],
) -> Result<OwnedFd, OpenError> {
    let program = match open_pin(&dir.join(pinned_program(tracepoint))) {
        Ok(program) => program,
        // The loader pins maps first.
        Err(Errno::NOENT) => return Err(OpenError::NotLoadedYet),
        Err(errno) => return Err(OpenError::new("opening AOSP's programs", TRACEPOINT, errno)),
    };
    let id = tracepoint_id(tracefs, tracepoint)
        .map_err(|errno| OpenError::new("reading a tracepoint's id", TRACEPOINT, errno))?;
    perf::attach_to_tracepoint(id, program.as_fd())
        .map_err(|errno| OpenError::new("attaching to a tracepoint", TRACEPOINT, errno))
}

fn pinned_program(tracepoint: &Tracepoint) -> String {
    let Tracepoint { group, name, .. } = tracepoint;
    format!("prog_bpfMemEvents_tracepoint_{group}_{}_lmkd", name.to_string_lossy())
}

/// The tracepoint's number, from the first of these places that has it. Where one has it and does
/// not give it, that is the error: a kernel that lacks it is not asked again.
fn tracepoint_id(tracefs: &[&Path], tracepoint: &Tracepoint) -> Result<u64, Errno> {
    let mut why = Errno::NOENT;
    for root in tracefs {
        let mut path = PathBuf::from(root);
        path.extend(["events", tracepoint.group, &tracepoint.name.to_string_lossy(), "id"]);
        match fs::read_to_string(path) {
            Ok(text) => return text.trim().parse().map_err(|_| Errno::INVAL),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => why = Errno::from_io_error(&error).unwrap_or(Errno::IO),
        }
    }
    Err(why)
}

fn open_pin(path: &Path) -> Result<OwnedFd, Errno> {
    bpf::obj_get(&c_path(path)?)
}

fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)
}

/// A ring and programs of our own, and the programs themselves beside them.
pub(super) fn load_own(
    spacing_ms: u32,
    tracepoints: &[Tracepoint],
) -> Result<(MemEvents, Vec<(Kind, OwnedFd)>), OpenError> {
    let ring_fd = program::create_ring(OWN_RING_SIZE)
        .map_err(|errno| OpenError::new("making a BPF ring buffer", RING, errno))?;
    let ring = Ring::map(ring_fd.as_fd(), OWN_RING_SIZE)
        .map_err(|errno| OpenError::new("mapping a BPF ring buffer", RING, errno))?;
    let shared_fd = program::create_shared()
        .map_err(|errno| OpenError::new("making a BPF array", RING, errno))?;
    let shared = SharedWords::map(shared_fd.as_fd())
        .map_err(|errno| OpenError::new("mapping a BPF array", RING, errno))?;
    let style = Style::Stamped {
        shared: shared_fd.as_fd(),
        spacing_ns: u64::from(spacing_ms).saturating_mul(1_000_000),
    };
    let mut programs = Vec::new();
    let mut kinds = Vec::new();
    let mut attached = Vec::new();
    for Tracepoint { kind, name, optional, .. } in tracepoints {
        if *kind == Kind::VendorKill {
            // Only Android's kernels have it, and there the programs are AOSP's.
            continue;
        }
        let program = program::load(*kind, Arguments::Raw, ring_fd.as_fd(), OWN_RING_SIZE, style)
            .map_err(|errno| OpenError::new("loading a BPF program", RING, errno))?;
        match bpf::raw_tracepoint_open(name, program.as_fd()) {
            Ok(link) => {
                kinds.push(*kind);
                attached.push(link);
            }
            Err(_) if *optional => {}
            Err(errno) => {
                return Err(OpenError::new("attaching to a tracepoint", TRACEPOINT, errno));
            }
        }
        programs.push((*kind, program));
    }
    let events = MemEvents {
        ring_fd,
        ring,
        shared: Some(shared),
        shared_lost: 0,
        lost: 0,
        unexpected: 0,
        kinds,
        _attached: attached,
    };
    Ok((events, programs))
}

/// Puts a ring and programs where a device's boot loader puts AOSP's, under the same names and of
/// the same kind: to try on a plain kernel what runs on a device. `dir` must be on a bpf file
/// system. Nothing is attached yet.
///
/// # Errors
///
/// What bpf(2) says: EPERM, EEXIST, EINVAL if `dir` is elsewhere.
pub fn pin_programs(dir: &Path, ring_size: u32) -> Result<(), Errno> {
    let ring = program::create_ring(ring_size)?;
    bpf::obj_pin(&c_path(&dir.join(PINNED_RING))?, ring.as_fd())?;
    for tracepoint in TRACEPOINTS.iter().filter(|t| t.kind != Kind::VendorKill) {
        let program = program::load(
            tracepoint.kind,
            Arguments::Traced,
            ring.as_fd(),
            ring_size,
            Style::Plain,
        )?;
        bpf::obj_pin(&c_path(&dir.join(pinned_program(tracepoint)))?, program.as_fd())?;
    }
    Ok(())
}

/// Puts a vendor's wish for a kill into the ring that is pinned in `dir`: what on a device the vendor's
/// kernel does, to try on a plain one, which has no such tracepoint.
///
/// # Errors
///
/// What bpf(2) says: EPERM, ENOENT if no ring is pinned there.
pub fn wish_as_vendor(dir: &Path, reason: u32, min_adj: i16) -> Result<(), Errno> {
    let ring = open_pin(&dir.join(PINNED_RING))?;
    let size = bpf::map_shape(ring.as_fd())?.max_entries;
    let program =
        program::load(Kind::VendorKill, Arguments::Raw, ring.as_fd(), size, Style::Plain)?;
    let min_adj = u64::from(min_adj.cast_unsigned());
    bpf::run_raw_tracepoint(program.as_fd(), &[u64::from(reason), min_adj])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracepoint_that_cannot_be_read_is_not_one_that_the_kernel_lacks() {
        let kmem = &TRACEPOINTS[5];
        let dir = std::env::temp_dir().join(format!("lmkd-tracefs-{}", std::process::id()));
        let [absent, unreadable, whole] = ["absent", "unreadable", "whole"].map(|n| dir.join(n));
        let id = |root: &Path| root.join("events/kmem/mm_calculate_totalreserve_pages/id");
        fs::create_dir_all(id(&unreadable)).unwrap();
        fs::create_dir_all(id(&whole).parent().unwrap()).unwrap();
        fs::write(id(&whole), "512\n").unwrap();
        let found = |roots: &[&PathBuf]| {
            let roots: Vec<&Path> = roots.iter().map(|root| root.as_path()).collect();
            tracepoint_id(&roots, kmem)
        };
        assert_eq!(found(&[&absent]), Err(Errno::NOENT));
        assert_eq!(found(&[&absent, &whole]), Ok(512));
        assert_eq!(found(&[&unreadable, &whole]), Ok(512));
        assert_eq!(found(&[&unreadable, &absent]), Err(Errno::ISDIR));
        fs::remove_dir_all(dir).unwrap();
    }
}
