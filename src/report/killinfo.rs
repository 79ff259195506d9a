//! The `killinfo` record: 38 numbers about a kill and the state that led to it.
//!
//! Order, names and types are those of AOSP's `event.logtags` for lmkd; tools index the values by
//! position.

use crate::kernel::Meminfo;
use crate::kernel::PressureInfo;
use crate::oom_score_adj::OomScoreAdj;
use crate::policy::KillReason;
use crate::policy::WakeupInfo;
use crate::units::Kib;
use crate::units::PageSize;
use crate::units::Pages;
use std::fmt;

/// The record's tag in Android's events buffer.
pub const TAG: u32 = 10_195_355;

/// How many values it has.
pub const COUNT: usize = 38;

/// Its length in bytes: tag, list header, and a type byte with four bytes for each value.
pub const SIZE: usize = 4 + 2 + COUNT * 5;

/// All that is recorded of one kill.
#[derive(Clone, Copy, Debug)]
pub struct KillInfo {
    /// The victim's process id.
    pub pid: i32,
    /// Its user id.
    pub uid: u32,
    /// Its adj, as registered.
    pub adj: OomScoreAdj,
    /// No process below it was a candidate.
    pub min_adj: OomScoreAdj,
    /// Its resident memory.
    pub rss: Kib,
    /// Its memory in swap.
    pub swap: Kib,
    /// Why it was killed; None prints as -1.
    pub reason: Option<KillReason>,
    /// Memory as the decision saw it.
    pub meminfo: Meminfo,
    /// The page size that `meminfo` counts in.
    pub page: PageSize,
    /// How the daemon came to look.
    pub wakeup: WakeupInfo,
    /// Memory of the GPU, 0 if the kernel does not tell.
    pub gpu: Kib,
    /// Thrashing at the decision, percent.
    pub thrashing: i64,
    /// Highest thrashing since the last kill, percent.
    pub max_thrashing: i64,
    /// Stalls at the decision.
    pub pressure: PressureInfo,
}

/// One value, of one of the two types that the record has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Int(i32),
    Float(f32),
}

/// A number as the record holds it: saturated.
fn int(value: i64) -> Value {
    let end = if value < 0 { i32::MIN } else { i32::MAX };
    Value::Int(i32::try_from(value).unwrap_or(end))
}

/// Hundredths of a percent as percent. More than 100 % cannot be.
fn percent(centi: i64) -> Value {
    Value::Float(f32::from(u16::try_from(centi.clamp(0, 10_000)).unwrap_or(0)) / 100.0)
}

impl KillInfo {
    /// The values with their names, in order.
    fn values(&self) -> [(&'static str, Value); COUNT] {
        let kib = |pages: Pages| int(pages.to_kib(self.page).get());
        let (mem, wakeup, psi) = (&self.meminfo, &self.wakeup, &self.pressure);
        [
            ("Pid", Value::Int(self.pid)),
            ("Uid", int(self.uid.into())),
            ("OomAdj", Value::Int(self.adj.get())),
            ("MinOomAdj", Value::Int(self.min_adj.get())),
            ("TaskSize", int(self.rss.get())),
            ("kill_reasons", Value::Int(self.reason.map_or(-1, KillReason::number))),
            ("MemFree", kib(mem.free)),
            ("Cached", kib(mem.cached)),
            ("SwapCached", kib(mem.swap_cached)),
            ("Buffers", kib(mem.buffers)),
            ("Shmem", kib(mem.shmem)),
            ("Unevictable", kib(mem.unevictable)),
            ("SwapTotal", kib(mem.swap_total)),
            ("SwapFree", kib(mem.swap_free)),
            ("ActiveAnon", kib(mem.active_anon)),
            ("InactiveAnon", kib(mem.inactive_anon)),
            ("ActiveFile", kib(mem.active_file)),
            ("InactiveFile", kib(mem.inactive_file)),
            ("SReclaimable", kib(mem.sreclaimable)),
            ("SUnreclaim", kib(mem.sunreclaim)),
            ("KernelStack", kib(mem.kernel_stack)),
            ("PageTables", kib(mem.page_tables)),
            ("IonHeap", kib(mem.ion_heap)),
            ("IonHeapPool", kib(mem.ion_heap_pool)),
            ("CmaFree", kib(mem.cma_free)),
            ("MsSinceEvent", int(wakeup.since_event_ms)),
            ("MsSincePrevWakeup", int(wakeup.since_previous_ms)),
            ("WakeupsSinceEvent", Value::Int(wakeup.wakeups_since_event)),
            ("SkippedWakeups", Value::Int(wakeup.skipped)),
            ("TaskSwapSize", int(self.swap.get())),
            ("GPU", int(self.gpu.get())),
            ("Thrashing", int(self.thrashing)),
            ("MaxThrashing", int(self.max_thrashing)),
            ("PsiMemSome", percent(psi.mem_some)),
            ("PsiMemFull", percent(psi.mem_full)),
            ("PsiIoSome", percent(psi.io_some)),
            ("PsiIoFull", percent(psi.io_full)),
            ("PsiCpuSome", percent(psi.cpu_some)),
        ]
    }

    /// The record as liblog's event format has it: the tag, a list of [`COUNT`], each value after a
    /// byte for its type, all little-endian.
    #[must_use]
    pub fn encode(&self) -> [u8; SIZE] {
        const INT: u8 = 0;
        const LIST: u8 = 3;
        const FLOAT: u8 = 4;
        let count = u8::try_from(COUNT).unwrap_or(u8::MAX);
        let mut record = [0; SIZE];
        let (head, list) = record.split_at_mut(6);
        head[..4].copy_from_slice(&TAG.to_le_bytes());
        head[4..].copy_from_slice(&[LIST, count]);
        for (slot, (_, value)) in list.chunks_exact_mut(5).zip(self.values()) {
            let (kind, bytes) = match value {
                Value::Int(value) => (INT, value.to_le_bytes()),
                Value::Float(value) => (FLOAT, value.to_le_bytes()),
            };
            slot[0] = kind;
            slot[1..].copy_from_slice(&bytes);
        }
        record
    }
}

/// The record as a JSON object of one line, for machines without logd.
impl fmt::Display for KillInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = '{';
        for (name, value) in self.values() {
            match value {
                Value::Int(value) => write!(f, "{separator}\"{name}\":{value}")?,
                Value::Float(value) => write!(f, "{separator}\"{name}\":{value:.2}")?,
            }
            separator = ',';
        }
        f.write_str("}")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every value its own position, as far as its type allows.
    pub fn numbered() -> KillInfo {
        KillInfo {
            pid: 1,
            uid: 2,
            adj: OomScoreAdj::saturating(3),
            min_adj: OomScoreAdj::saturating(4),
            rss: Kib(5),
            swap: Kib(30),
            reason: Some(KillReason::LowMemAndSwapUtil),
            meminfo: Meminfo {
                free: Pages(7),
                cached: Pages(8),
                swap_cached: Pages(9),
                buffers: Pages(10),
                shmem: Pages(11),
                unevictable: Pages(12),
                swap_total: Pages(13),
                swap_free: Pages(14),
                active_anon: Pages(15),
                inactive_anon: Pages(16),
                active_file: Pages(17),
                inactive_file: Pages(18),
                sreclaimable: Pages(19),
                sunreclaim: Pages(20),
                kernel_stack: Pages(21),
                page_tables: Pages(22),
                ion_heap: Pages(23),
                ion_heap_pool: Pages(24),
                cma_free: Pages(25),
                ..Meminfo::default()
            },
            page: PageSize::from_bytes(1024),
            wakeup: WakeupInfo {
                since_event_ms: 26,
                since_previous_ms: 27,
                wakeups_since_event: 28,
                skipped: 29,
            },
            gpu: Kib(31),
            thrashing: 32,
            max_thrashing: 33,
            pressure: PressureInfo {
                mem_some: 3400,
                mem_full: 3500,
                io_some: 3600,
                io_full: 3700,
                cpu_some: 3825,
            },
        }
    }

    #[test]
    fn the_record_has_the_bytes_that_liblog_would_send() {
        let record = numbered().encode();
        assert_eq!(record.len(), 196);
        // 10195355 = 0x009b919b, a list of 38.
        assert_eq!(record[..6], [0x9b, 0x91, 0x9b, 0x00, 3, 38]);
        for position in 1..=33_u8 {
            let at = 6 + (usize::from(position) - 1) * 5;
            assert_eq!(record[at..at + 5], [0, position, 0, 0, 0], "value {position}");
        }
        assert_eq!(record[171..176], [4, 0x00, 0x00, 0x08, 0x42], "34.0");
        assert_eq!(record[191..], [4, 0x00, 0x00, 0x19, 0x42], "38.25");
    }

    #[test]
    fn values_saturate_and_a_missing_reason_is_minus_one() {
        let info = KillInfo { rss: Kib(i64::MAX), reason: None, ..numbered() };
        let record = info.encode();
        assert_eq!(record[26..31], [0, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(record[31..36], [0, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn memory_is_told_in_kilobytes_whatever_the_page_size() {
        let info = KillInfo { page: PageSize::from_bytes(16384), ..numbered() };
        assert_eq!(info.encode()[36..41], [0, 112, 0, 0, 0]);
    }

    #[test]
    fn as_text_it_is_one_json_object() {
        let text = numbered().to_string();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.as_object().unwrap().len(), COUNT);
        assert_eq!(value["kill_reasons"], 6);
        assert_eq!(value["PsiCpuSome"], 38.25);
        assert!(!text.contains('\n'));
    }
}
