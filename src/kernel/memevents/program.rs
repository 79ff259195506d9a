//! Our own BPF programs, for kernels that nobody has loaded AOSP's into.
//!
//! One program per tracepoint, assembled here: about forty instructions each, so neither a compiler
//! nor an object file is needed. Each reserves a record, fills it in, stamps it with thread and
//! time, and submits it. No helper that is called demands the GPL.
//!
//! Which records wake the daemon is decided here, in the kernel, because a wake-up that does not
//! happen is the cheapest. Ends of reclaim only set the record straight and wait in the ring for
//! the next reader, who comes before every look. So do changes of the zones: a balloon that hands
//! pages back to its hypervisor brings thousands in a second. Signs of scarce memory wake it at most
//! once per spacing and kind, a vendor's wish always, and whatever it is when the ring is half full.

use super::record::offset;
use super::record::Kind;
use super::record::RECORD_LEN;
use crate::sys::bpf;
use crate::sys::bpf::Insn;
use rustix::io::Errno;
use std::ffi::CStr;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// Index of the count of lost records in the shared words.
pub const LOST: usize = 0;
/// Bytes in the shared words: lost records, then when each kind of sign last woke the daemon.
const SHARED_LEN: u32 = 24;

const LICENSE: &CStr = c"Apache-2.0";

// Helpers, by their number in `enum bpf_func_id`.
const KTIME_GET_NS: i32 = 5;
const GET_CURRENT_PID_TGID: i32 = 14;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_SUBMIT: i32 = 132;
const RINGBUF_QUERY: i32 = 134;

const RB_ADAPTIVE: i32 = 0;
const RB_NO_WAKEUP: i32 = 1;
const RB_FORCE_WAKEUP: i32 = 2;
/// What `RINGBUF_QUERY` is asked for: bytes that wait to be read.
const RB_AVAIL_DATA: i32 = 0;

/// How a tracepoint hands its arguments to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// Raw: each in a u64, in the order of the kernel's declaration.
    Raw,
    /// As in the trace record: ints after the 8 bytes that all records begin with.
    Traced,
}

/// How programs stamp their records and wake the reader.
#[derive(Clone, Copy, Debug)]
pub enum Style<'a> {
    /// As AOSP's: no stamps, and whoever has read everything is woken by the next record.
    Plain,
    /// Stamped, waking sparingly.
    Stamped {
        /// The shared words.
        shared: BorrowedFd<'a>,
        /// Nanoseconds between two wake-ups for the same kind of sign.
        spacing_ns: u64,
    },
}

/// A ring of `size` bytes.
pub fn create_ring(size: u32) -> Result<OwnedFd, Errno> {
    bpf::map_create(&bpf::MapShape {
        map_type: bpf::MAP_TYPE_RINGBUF,
        max_entries: size,
        ..bpf::MapShape::default()
    })
}

/// The shared words.
pub fn create_shared() -> Result<OwnedFd, Errno> {
    bpf::map_create(&bpf::MapShape {
        map_type: bpf::MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: SHARED_LEN,
        max_entries: 1,
        map_flags: bpf::MAP_MMAPABLE,
    })
}

/// The program that reports one kind of event into a ring of `ring_size` bytes.
pub fn load(
    kind: Kind,
    arguments: Arguments,
    ring: BorrowedFd<'_>,
    ring_size: u32,
    style: Style<'_>,
) -> Result<OwnedFd, Errno> {
    let prog_type = match arguments {
        Arguments::Raw => bpf::PROG_TYPE_RAW_TRACEPOINT,
        Arguments::Traced => bpf::PROG_TYPE_TRACEPOINT,
    };
    let code = assemble(kind, arguments, ring, ring_size, style);
    bpf::prog_load(prog_type, &code, LICENSE, &mut [])
}

// Registers. 0 holds results, 1 to 3 arguments, 6 to 9 survive calls.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const CONTEXT: u8 = 6;
const RECORD: u8 = 7;
const NOW: u8 = 8;
const FLAGS: u8 = 9;

fn assemble(
    kind: Kind,
    arguments: Arguments,
    ring: BorrowedFd<'_>,
    ring_size: u32,
    style: Style<'_>,
) -> Vec<Insn> {
    let mut asm = Assembler::default();
    asm.copy(CONTEXT, R1);
    asm.load_map(R1, ring);
    asm.set(R2, RECORD_LEN.cast_signed());
    asm.set(R3, 0);
    asm.call(RINGBUF_RESERVE);
    let full = asm.jump_if_zero(R0);

    asm.copy(RECORD, R0);
    asm.store_constant(RECORD, offset::TYPE, i32::from(kind.number()));
    for word in 1..11 {
        asm.store_constant(RECORD, word * 8, 0);
    }
    let fields: &[i16] = match kind {
        Kind::KswapdWake => &[offset::NODE, offset::ZONE, offset::ORDER],
        Kind::KswapdSleep => &[offset::NODE],
        Kind::VendorKill => &[offset::NODE, offset::ZONE],
        _ => &[],
    };
    // The traced ints lie at 8, 12, 16: the same places that AOSP's record has them.
    for (&field, raw) in fields.iter().zip([0, 8, 16]) {
        match arguments {
            Arguments::Raw => asm.load_word(R1, CONTEXT, raw),
            Arguments::Traced => asm.load_int(R1, CONTEXT, field),
        }
        asm.store_int(RECORD, field, R1);
    }

    let Style::Stamped { shared, spacing_ns } = style else {
        asm.set(FLAGS, RB_ADAPTIVE);
        asm.submit();
        asm.land(full);
        asm.leave();
        return asm.code;
    };

    asm.call(GET_CURRENT_PID_TGID);
    asm.store_int(RECORD, offset::TASK, R0);
    asm.call(KTIME_GET_NS);
    asm.copy(NOW, R0);
    asm.store_word(RECORD, offset::STAMP, NOW);

    asm.set(FLAGS, RB_FORCE_WAKEUP);
    asm.load_map(R1, ring);
    asm.set(R2, RB_AVAIL_DATA);
    asm.call(RINGBUF_QUERY);
    let half_full = asm.jump_if_above(R0, (ring_size / 2).cast_signed());
    let last_wake = match kind {
        Kind::KswapdWake => Some(8),
        Kind::DirectReclaimBegin => Some(16),
        _ => None,
    };
    if let Some(last_wake) = last_wake {
        // Two CPUs may both find the spacing over and both wake the daemon: once, for it.
        asm.load_map_value(R1, shared, last_wake);
        asm.load_word(R2, R1, 0);
        let never_yet = asm.jump_if_zero(R2);
        asm.copy(R3, NOW);
        asm.subtract(R3, R2);
        asm.load_constant(R2, spacing_ns);
        let too_early = asm.jump_if_less(R3, R2);
        asm.land(never_yet);
        asm.store_word(R1, 0, NOW);
        asm.submit();
        asm.leave();
        asm.land(too_early);
    }
    if kind != Kind::VendorKill {
        asm.set(FLAGS, RB_NO_WAKEUP);
    }
    asm.land(half_full);
    asm.submit();
    asm.leave();

    asm.land(full);
    asm.load_map_value(R1, shared, 0);
    asm.set(R2, 1);
    asm.add_atomically(R1, R2);
    asm.leave();
    asm.code
}

/// A jump whose target is not known yet.
#[must_use]
struct Jump(usize);

/// Instructions by what they do; the codes are those of `include/uapi/linux/bpf.h`.
#[derive(Default)]
struct Assembler {
    code: Vec<Insn>,
}

impl Assembler {
    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.code.push(Insn::new(code, dst, src, off, imm));
    }

    fn copy(&mut self, dst: u8, src: u8) {
        self.push(0xbf, dst, src, 0, 0);
    }

    fn set(&mut self, dst: u8, value: i32) {
        self.push(0xb7, dst, 0, 0, value);
    }

    fn subtract(&mut self, dst: u8, src: u8) {
        self.push(0x1f, dst, src, 0, 0);
    }

    /// A 64-bit constant takes two instructions; the source says what it is.
    fn load_wide(&mut self, dst: u8, meaning: u8, low: i32, high: i32) {
        self.push(0x18, dst, meaning, 0, low);
        self.push(0, 0, 0, 0, high);
    }

    #[allow(clippy::cast_possible_truncation, reason = "split into its halves")]
    fn load_constant(&mut self, dst: u8, value: u64) {
        self.load_wide(dst, 0, (value as u32).cast_signed(), ((value >> 32) as u32).cast_signed());
    }

    /// `BPF_PSEUDO_MAP_FD`
    fn load_map(&mut self, dst: u8, map: BorrowedFd<'_>) {
        self.load_wide(dst, 1, map.as_raw_fd(), 0);
    }

    /// `BPF_PSEUDO_MAP_VALUE`: the address of a byte of an array's only element.
    fn load_map_value(&mut self, dst: u8, map: BorrowedFd<'_>, offset: i32) {
        self.load_wide(dst, 2, map.as_raw_fd(), offset);
    }

    fn load_word(&mut self, dst: u8, base: u8, offset: i16) {
        self.push(0x79, dst, base, offset, 0);
    }

    fn load_int(&mut self, dst: u8, base: u8, offset: i16) {
        self.push(0x61, dst, base, offset, 0);
    }

    fn store_word(&mut self, base: u8, offset: i16, src: u8) {
        self.push(0x7b, base, src, offset, 0);
    }

    fn store_int(&mut self, base: u8, offset: i16, src: u8) {
        self.push(0x63, base, src, offset, 0);
    }

    fn store_constant(&mut self, base: u8, offset: i16, value: i32) {
        self.push(0x7a, base, 0, offset, value);
    }

    fn add_atomically(&mut self, base: u8, src: u8) {
        self.push(0xdb, base, src, 0, 0);
    }

    fn call(&mut self, helper: i32) {
        self.push(0x85, 0, 0, 0, helper);
    }

    /// Returns 0; the result of a tracepoint program is not looked at, but has to be one.
    fn leave(&mut self) {
        self.set(R0, 0);
        self.push(0x95, 0, 0, 0, 0);
    }

    fn submit(&mut self) {
        self.copy(R1, RECORD);
        self.copy(R2, FLAGS);
        self.call(RINGBUF_SUBMIT);
    }

    fn jump(&mut self, code: u8, dst: u8, src: u8, imm: i32) -> Jump {
        self.push(code, dst, src, 0, imm);
        Jump(self.code.len() - 1)
    }

    fn jump_if_zero(&mut self, dst: u8) -> Jump {
        self.jump(0x15, dst, 0, 0)
    }

    fn jump_if_above(&mut self, dst: u8, value: i32) -> Jump {
        self.jump(0x25, dst, 0, value)
    }

    fn jump_if_less(&mut self, dst: u8, src: u8) -> Jump {
        self.jump(0xad, dst, src, 0)
    }

    /// Makes a jump go to the next instruction.
    fn land(&mut self, jump: Jump) {
        let distance = self.code.len() - jump.0 - 1;
        self.code[jump.0].off = i16::try_from(distance).unwrap_or(0);
    }
}
