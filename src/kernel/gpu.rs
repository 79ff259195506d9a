//! Memory that the GPU holds, as Android's own BPF program counts it.

use crate::sys::bpf;
use crate::sys::bpf::NumberMap;
use crate::units::Kib;
use std::ffi::CStr;

/// Where Android's boot loader of BPF programs pins the totals. Key 0 holds that of all GPUs and
/// processes, in bytes.
const TOTALS: &CStr = c"/sys/fs/bpf/map_gpuMem_gpu_mem_total_map";

/// The GPU's memory, where the kernel counts it.
#[derive(Debug, Default)]
pub struct GpuMemory {
    totals: Option<NumberMap>,
}

impl GpuMemory {
    /// Looks for the count, unless it was found before: Android's boot brings it.
    pub fn find(&mut self) {
        if self.totals.is_none() {
            self.totals = bpf::obj_get_read_only(TOTALS).and_then(NumberMap::new).ok();
        }
    }

    /// What the GPU holds now; 0 if nobody counts it. One system call.
    #[must_use]
    pub fn total(&self) -> Kib {
        let bytes = self.totals.as_ref().and_then(|totals| totals.first().ok()).unwrap_or(0);
        Kib(i64::try_from(bytes / 1024).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_the_gpu_holds_is_read_from_the_pinned_map() {
        crate::testing::with_mounts(
            "mount -t bpf bpf /sys/fs/bpf",
            "kernel::gpu::tests::what_the_gpu_holds_is_read_from_the_pinned_map",
            read_own_map,
        );
    }

    fn read_own_map() {
        let mut gpu = GpuMemory::default();
        gpu.find();
        assert_eq!(gpu.total(), Kib(0), "as before a device's boot is over");
        // The shape of Android's: pairs of GPU and process, packed into 64 bits.
        let shape = bpf::MapShape {
            map_type: bpf::MAP_TYPE_HASH,
            key_size: 8,
            value_size: 8,
            max_entries: 64,
            map_flags: 0,
        };
        let map = match bpf::map_create(&shape) {
            Ok(map) => map,
            Err(errno) => return eprintln!("skipped: making a BPF map: {errno}"),
        };
        bpf::obj_pin(TOTALS, map.as_fd()).unwrap();
        gpu.find();
        assert_eq!(gpu.total(), Kib(0), "nothing is counted yet");
        let map = NumberMap::new(map).unwrap();
        for (bytes, kib) in [(5_000_000, 4882), (u64::MAX, 18_014_398_509_481_983)] {
            map.set_first(bytes).unwrap();
            assert_eq!(gpu.total(), Kib(kib));
        }
    }

    #[test]
    fn a_map_of_another_kind_is_not_read() {
        let shape = bpf::MapShape {
            map_type: bpf::MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: 64,
            max_entries: 1,
            map_flags: 0,
        };
        let Ok(map) = bpf::map_create(&shape) else { return eprintln!("skipped: no BPF here") };
        assert_eq!(NumberMap::new(map).map(drop), Err(rustix::io::Errno::INVAL));
    }
}
