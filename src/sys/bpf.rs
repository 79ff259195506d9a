//! bpf(2): maps, programs, pins and raw tracepoints.
//!
//! The attribute structures are the leading members of `union bpf_attr` in
//! `include/uapi/linux/bpf.h`; the kernel takes what it is not given as zero.

use super::check;
use rustix::io::Errno;
use std::ffi::CStr;
use std::mem::size_of;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
#[cfg(test)]
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_long = 17;

/// `BPF_F_RDONLY`: a descriptor that the map cannot be changed through.
const READ_ONLY: u32 = 1 << 3;

/// `BPF_MAP_TYPE_HASH`
pub const MAP_TYPE_HASH: u32 = 1;
/// `BPF_MAP_TYPE_ARRAY`
pub const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_RINGBUF` (Linux 5.8)
pub const MAP_TYPE_RINGBUF: u32 = 27;
/// `BPF_F_MMAPABLE`: the values of an array may be mapped (Linux 5.5).
pub const MAP_MMAPABLE: u32 = 1 << 10;
/// `BPF_PROG_TYPE_TRACEPOINT`
pub const PROG_TYPE_TRACEPOINT: u32 = 5;
/// `BPF_PROG_TYPE_RAW_TRACEPOINT`
pub const PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// One eBPF instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination and source register, one per half byte in the order of [`Insn::new`].
    registers: u8,
    /// Offset of a jump or a memory access.
    pub off: i16,
    /// Constant.
    pub imm: i32,
}

impl Insn {
    /// An instruction over registers 0 to 10.
    #[must_use]
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        // A C bit field: its first member lies in the low half on little-endian machines only.
        let registers = if cfg!(target_endian = "little") {
            (src << 4) | (dst & 15)
        } else {
            (dst << 4) | (src & 15)
        };
        Self { code, registers, off, imm }
    }
}

/// The shape of a map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapShape {
    /// `MAP_TYPE_*`
    pub map_type: u32,
    /// Bytes in a key; 0 for a ring.
    pub key_size: u32,
    /// Bytes in a value; 0 for a ring.
    pub value_size: u32,
    /// Elements; bytes for a ring, a power of two of whole pages.
    pub max_entries: u32,
    /// `MAP_MMAPABLE` or 0.
    pub map_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
}

#[repr(C)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_map_info` up to `map_flags`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    map_type: u32,
    id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// Creates a map.
///
/// # Errors
///
/// EINVAL if the kernel does not know the type or refuses the size; EPERM without CAP_BPF, or on
/// kernels before 5.11 when RLIMIT_MEMLOCK is too small; ENOSYS without CONFIG_BPF_SYSCALL.
pub fn map_create(shape: &MapShape) -> Result<OwnedFd, Errno> {
    bpf_fd(BPF_MAP_CREATE, &mut { *shape })
}

/// The shape of an existing map.
///
/// # Errors
///
/// EBADF or EINVAL if the descriptor is not a map's; EPERM or EACCES if not permitted.
pub fn map_shape(map: BorrowedFd<'_>) -> Result<MapShape, Errno> {
    let mut info = MapInfo::default();
    let mut attr = InfoByFd {
        bpf_fd: number(map)?,
        info_len: length(size_of::<MapInfo>())?,
        info: (&raw mut info).expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(MapShape {
        map_type: info.map_type,
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        map_flags: info.map_flags,
    })
}

#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// A map of numbers, one value of eight bytes for a key of four or eight.
#[derive(Debug)]
pub struct NumberMap(OwnedFd);

impl NumberMap {
    /// The map behind a descriptor.
    ///
    /// # Errors
    ///
    /// EINVAL if it is of another kind; what [`map_shape`] says.
    pub fn new(map: OwnedFd) -> Result<Self, Errno> {
        // A map with a value for each CPU would hand out all of them.
        match map_shape(map.as_fd())? {
            MapShape {
                map_type: MAP_TYPE_HASH | MAP_TYPE_ARRAY,
                key_size: 4 | 8,
                value_size: 8,
                ..
            } => Ok(Self(map)),
            _ => Err(Errno::INVAL),
        }
    }

    /// The value of key 0.
    ///
    /// # Errors
    ///
    /// ENOENT if there is none; EPERM or EACCES if not permitted.
    pub fn first(&self) -> Result<u64, Errno> {
        let (key, mut value) = (0_u64, 0_u64);
        let mut attr = Element {
            map_fd: number(self.0.as_fd())?,
            padding: 0,
            key: (&raw const key).expose_provenance() as u64,
            value: (&raw mut value).expose_provenance() as u64,
            flags: 0,
        };
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
        Ok(value)
    }

    /// Sets the value of key 0.
    #[cfg(test)]
    pub(crate) fn set_first(&self, value: u64) -> Result<(), Errno> {
        let key = 0_u64;
        let mut attr = Element {
            map_fd: number(self.0.as_fd())?,
            padding: 0,
            key: (&raw const key).expose_provenance() as u64,
            value: (&raw const value).expose_provenance() as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }
}

/// Has the verifier check a program and loads it. What it says goes to `log`, if that is not
/// empty, as a NUL-terminated text.
///
/// # Errors
///
/// EACCES or EINVAL if the verifier refuses the program; ENOSPC if `log` is too small; EPERM
/// without CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8).
pub fn prog_load(
    prog_type: u32,
    code: &[Insn],
    license: &CStr,
    log: &mut [u8],
) -> Result<OwnedFd, Errno> {
    let mut attr = ProgLoad {
        prog_type,
        insn_cnt: length(code.len())?,
        insns: code.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        ..ProgLoad::default()
    };
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = length(log.len())?;
        attr.log_buf = log.as_mut_ptr().expose_provenance() as u64;
    }
    bpf_fd(BPF_PROG_LOAD, &mut attr)
}

/// Opens a map or a program by its name on a bpf file system.
///
/// # Errors
///
/// ENOENT if nothing is pinned there; EACCES or EPERM if not permitted.
pub fn obj_get(path: &CStr) -> Result<OwnedFd, Errno> {
    obj_get_with(path, 0)
}

/// As [`obj_get`], of a map that is only read.
///
/// # Errors
///
/// As [`obj_get`].
pub fn obj_get_read_only(path: &CStr) -> Result<OwnedFd, Errno> {
    obj_get_with(path, READ_ONLY)
}

fn obj_get_with(path: &CStr, file_flags: u32) -> Result<OwnedFd, Errno> {
    let pathname = path.as_ptr().expose_provenance() as u64;
    bpf_fd(BPF_OBJ_GET, &mut Object { pathname, bpf_fd: 0, file_flags })
}

/// Gives a map or a program a name on a bpf file system.
///
/// # Errors
///
/// EEXIST if the name is taken; EINVAL if it is not on a bpf file system.
pub fn obj_pin(path: &CStr, object: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = Object {
        pathname: path.as_ptr().expose_provenance() as u64,
        bpf_fd: number(object)?,
        file_flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Runs a raw tracepoint program at a tracepoint, by the tracepoint's bare name, for as long as
/// the returned descriptor lives. Needs no tracefs.
///
/// # Errors
///
/// ENOENT if the kernel has no such tracepoint; EINVAL if the program is of another type.
pub fn raw_tracepoint_open(name: &CStr, program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    bpf_fd(
        BPF_RAW_TRACEPOINT_OPEN,
        &mut RawTracepoint {
            name: name.as_ptr().expose_provenance() as u64,
            prog_fd: number(program)?,
            padding: 0,
        },
    )
}

/// Runs a raw tracepoint program once, here, with the tracepoint's arguments given.
///
/// # Errors
///
/// EPERM without the right to use bpf(2); EINVAL for a program of another type, or too few arguments.
pub(crate) fn run_raw_tracepoint(program: BorrowedFd<'_>, args: &[u64]) -> Result<(), Errno> {
    #[repr(C)]
    #[derive(Default)]
    struct TestRun {
        prog_fd: u32,
        retval: u32,
        data_sizes: [u32; 2],
        data: [u64; 2],
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
    }
    let mut attr = TestRun {
        prog_fd: number(program)?,
        ctx_size_in: length(std::mem::size_of_val(args))?,
        ctx_in: args.as_ptr().expose_provenance() as u64,
        ..TestRun::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut attr).map(drop)
}

fn number(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)
}

fn length(len: usize) -> Result<u32, Errno> {
    u32::try_from(len).map_err(|_| Errno::INVAL)
}

/// One bpf(2) call. Every pointer inside `attr` is made by the callers above from a reference that
/// outlives the call, together with its length.
fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long, Errno> {
    // SAFETY: `attr` is a live structure of the size that is passed with it, laid out as the
    // kernel's union for this command; what it points to is live and as long as it says.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) })
}

/// A bpf(2) call that makes a descriptor; the kernel makes them close-on-exec.
fn bpf_fd<T>(command: libc::c_long, attr: &mut T) -> Result<OwnedFd, Errno> {
    let raw = i32::try_from(bpf(command, attr)?).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
