//! The parsers against texts recorded on several kernels, against the procfs crate on this one,
//! and against bytes that no kernel ever wrote.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use lmkd::clock::MonoTime;
use lmkd::kernel::meminfo;
use lmkd::kernel::pressure;
use lmkd::kernel::vmstat;
use lmkd::kernel::zoneinfo;
use lmkd::kernel::Meminfo;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::kernel::Vmstat;
use lmkd::kernel::Watermarks;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// The /proc of one kernel as it was recorded.
struct Recorded {
    name: String,
    dir: PathBuf,
    page: PageSize,
}

impl Recorded {
    fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/proc");
        let mut all: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| {
                let dir = entry.unwrap().path();
                let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
                let page = if name.contains("16k") { 16 } else { 4 };
                Self { name, dir, page: PageSize::from_bytes(page * 1024) }
            })
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert!(all.len() > 1, "no recordings");
        all
    }

    fn named(name: &str) -> Self {
        Self::all().into_iter().find(|recorded| recorded.name == name).unwrap()
    }

    fn text(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.dir.join(file)).unwrap()
    }

    fn vmstat(&self) -> Vmstat {
        vmstat::parse(&self.text("vmstat")).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn meminfo(&self) -> Meminfo {
        let meminfo = meminfo::parse(&self.text("meminfo"), self.page);
        meminfo.unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn zoneinfo(&self) -> (Watermarks, Option<Pages>) {
        zoneinfo::parse(&self.text("zoneinfo")).unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    fn watermarks(&self) -> Watermarks {
        self.zoneinfo().0
    }
}

#[test]
fn every_recording_is_read() {
    for recorded in Recorded::all() {
        let (name, meminfo) = (&recorded.name, recorded.meminfo());
        assert!(meminfo.total > meminfo.free && meminfo.free > Pages(0), "{name}");
        assert!(recorded.vmstat().nr_free_pages > 0, "{name}");
        let marks = recorded.watermarks();
        assert!(Pages(0) < marks.min && marks.min < marks.low && marks.low < marks.high, "{name}");
        assert!(marks.high < meminfo.total && marks.high <= marks.total_reserve, "{name}");
        for file in ["memory", "io", "cpu"] {
            let averages = pressure::parse(&recorded.text(&format!("pressure/{file}")));
            assert!(averages.unwrap().full_centi.is_some(), "{name} {file}");
        }
    }
}

/// Expected values were taken from the same texts with awk.
#[test]
fn the_numbers_are_those_in_the_files() {
    let expected = [
        ("linux-6.1-x86_64", [1128, 1298, 1468, 1468], 112_896),
        ("linux-6.12-arm64-16k", [171, 213, 255, 287], 28_783),
        ("linux-6.12-x86_64-3-nodes", [9224, 11_470, 13_716, 13_812], 171_391),
        ("linux-6.18-x86_64", [33_226, 37_449, 41_672, 41_704], 975_186),
    ];
    for (name, [min, low, high, total_reserve], nr_free_pages) in expected {
        let recorded = Recorded::named(name);
        assert_eq!(recorded.zoneinfo().1, Some(Pages(0)), "{name}");
        let [min, low, high, total_reserve] = [min, low, high, total_reserve].map(Pages);
        assert_eq!(recorded.watermarks(), Watermarks { min, low, high, total_reserve }, "{name}");
        assert_eq!(recorded.vmstat().nr_free_pages, nr_free_pages, "{name}");
    }
    let vmstat = Recorded::named("linux-6.18-x86_64").vmstat();
    assert_eq!((vmstat.nr_inactive_file, vmstat.nr_active_file), (712_735, 355_359));
    assert_eq!(vmstat.refault, 1_667_490);
    let meminfo = Recorded::named("linux-6.18-x86_64").meminfo();
    assert_eq!(meminfo.free, Pages(18_662_012 / 4));
    assert_eq!(meminfo.cached, Pages(4_211_512 / 4));
    assert_eq!(meminfo.dirty, Pages(162_324 / 4));
}

#[test]
fn a_kernel_under_pressure_shows_what_it_does() {
    let recorded = Recorded::named("linux-6.1-x86_64-swapping");
    let expected = Vmstat {
        nr_free_pages: 1705,
        nr_inactive_file: 1,
        nr_active_file: 0,
        refault: 0,
        pgscan_kswapd: 122_295,
        pgscan_direct: 13_585,
        pgscan_direct_throttle: 1,
        pgrefill: 51_261,
    };
    assert_eq!(recorded.vmstat(), expected);
    let meminfo = recorded.meminfo();
    assert_eq!(meminfo.swap_cached, Pages(660 / 4));
    assert_eq!(meminfo.swap_total - meminfo.swap_free, Pages(307_196 / 4) - Pages(204_028 / 4));
    let averages = pressure::parse(&recorded.text("pressure/memory")).unwrap();
    assert_eq!((averages.some_centi, averages.full_centi), (4148, Some(4129)));
}

#[test]
fn kilobytes_become_pages_of_the_recorded_size() {
    let meminfo = Recorded::named("linux-6.12-arm64-16k").meminfo();
    assert_eq!(meminfo.total, Pages(483_632 / 16));
    assert_eq!(meminfo.cma_free, Pages(32_384 / 16));
    assert_eq!(meminfo.kernel_stack, Pages(896 / 16));
}

#[test]
fn a_kernel_without_cma_has_none_free() {
    assert_eq!(Recorded::named("linux-6.1-x86_64").meminfo().cma_free, Pages(0));
}

/// A torn counter must not look like a small one: all or nothing of what every kernel prints.
#[test]
fn a_torn_file_is_refused_or_read_as_the_whole() {
    for recorded in Recorded::all() {
        let whole = recorded.vmstat();
        let text = recorded.text("vmstat");
        for end in 0..text.len() {
            if let Ok(torn) = vmstat::parse(&text[..end]) {
                let throttle = whole.pgscan_direct_throttle;
                assert_eq!(Vmstat { pgscan_direct_throttle: throttle, ..torn }, whole);
            }
        }
        let whole = recorded.meminfo();
        let text = recorded.text("meminfo");
        for end in 0..text.len() {
            if let Ok(torn) = meminfo::parse(&text[..end], recorded.page) {
                assert_eq!((torn.free, torn.swap_free), (whole.free, whole.swap_free));
                assert_eq!((torn.shmem, torn.inactive_file), (whole.shmem, whole.inactive_file));
            }
        }
    }
}

#[test]
fn a_sampler_reads_a_recorded_proc() {
    for recorded in Recorded::all() {
        let psi = recorded.dir.join("pressure/memory");
        let mut sampler = Sampler::open(&recorded.dir, &psi, recorded.page);
        let mut sample = Sample::default();
        sampler.read(MonoTime::from_millis(5), true, &mut sample).unwrap();
        assert_eq!(sample.now, MonoTime::from_millis(5));
        assert_eq!(sample.vmstat, recorded.vmstat());
        assert_eq!(sample.meminfo, recorded.meminfo());
        assert_eq!(sample.watermarks, Some(recorded.watermarks()));
        assert_eq!(sample.boost, recorded.zoneinfo().1);
        assert!(sample.stall.is_some());
        sampler.read(MonoTime::from_millis(6), false, &mut sample).unwrap();
        assert_eq!(sample.watermarks, None);
    }
}

#[test]
fn a_missing_file_costs_the_round_and_is_named() {
    let nowhere = Path::new("/nonexistent");
    let mut sampler = Sampler::open(nowhere, &nowhere.join("psi"), PageSize::SMALL);
    let error = sampler.read(MonoTime::ZERO, true, &mut Sample::default()).unwrap_err();
    assert_eq!(error.file, "vmstat");
    assert!(!error.costs_watermarks_only());
    assert!(error.to_string().starts_with("vmstat: "), "{error}");
    assert_eq!(sampler.read_pressure(), lmkd::kernel::PressureInfo::default());
}

#[test]
fn a_zoneinfo_that_cannot_be_read_costs_the_watermarks_alone() {
    let recorded = Recorded::named("linux-6.1-x86_64");
    let proc = std::env::temp_dir().join(format!("lmkd-no-zoneinfo-{}", std::process::id()));
    fs::create_dir_all(&proc).unwrap();
    for name in ["vmstat", "meminfo"] {
        fs::copy(recorded.dir.join(name), proc.join(name)).unwrap();
    }
    fs::write(proc.join("zoneinfo"), "Node 0, zone   Normal\n  pages free 1\n").unwrap();
    let psi = recorded.dir.join("pressure/memory");
    let mut sampler = Sampler::open(&proc, &psi, recorded.page);
    let mut sample = Sample { watermarks: Some(recorded.watermarks()), ..Sample::default() };
    let error = sampler.read(MonoTime::ZERO, true, &mut sample).unwrap_err();
    fs::remove_dir_all(&proc).unwrap();
    assert!(error.costs_watermarks_only(), "{error}");
    assert_eq!(sample.watermarks, None);
    assert_eq!((sample.vmstat, sample.meminfo), (recorded.vmstat(), recorded.meminfo()));
    assert!(sample.stall.is_some());
}

#[test]
fn a_missing_pressure_file_costs_only_the_stall() {
    let recorded = Recorded::named("linux-6.1-x86_64");
    let mut sampler = Sampler::open(&recorded.dir, Path::new("/nonexistent"), recorded.page);
    let mut sample = Sample::default();
    sampler.read(MonoTime::ZERO, false, &mut sample).unwrap();
    assert_eq!(sample.stall, None);
}

#[cfg(feature = "linux")]
mod against_procfs {
    use super::*;
    use procfs::Current;
    use procfs::FromBufRead;

    /// Both readers get the same text of the running kernel.
    #[test]
    fn meminfo_is_read_as_the_procfs_crate_reads_it() {
        let text = std::fs::read("/proc/meminfo").unwrap();
        let theirs = procfs::Meminfo::from_buf_read(&text[..]).unwrap();
        let page = PageSize::of_this_kernel();
        let ours = meminfo::parse(&text, page).unwrap();
        let pages = |bytes: u64| {
            Pages(i64::try_from(bytes / 1024).unwrap().checked_div(page.kib()).unwrap())
        };
        let optional = |bytes: Option<u64>| pages(bytes.unwrap_or(0));
        let expected = Meminfo {
            total: pages(theirs.mem_total),
            free: pages(theirs.mem_free),
            cached: pages(theirs.cached),
            swap_cached: pages(theirs.swap_cached),
            buffers: pages(theirs.buffers),
            shmem: optional(theirs.shmem),
            unevictable: optional(theirs.unevictable),
            swap_total: pages(theirs.swap_total),
            swap_free: pages(theirs.swap_free),
            active_anon: optional(theirs.active_anon),
            inactive_anon: optional(theirs.inactive_anon),
            active_file: optional(theirs.active_file),
            inactive_file: optional(theirs.inactive_file),
            sreclaimable: optional(theirs.s_reclaimable),
            sunreclaim: optional(theirs.s_unreclaim),
            kernel_stack: optional(theirs.kernel_stack),
            page_tables: optional(theirs.page_tables),
            ion_heap: Pages(0),
            ion_heap_pool: Pages(0),
            cma_free: optional(theirs.cma_free),
            dirty: pages(theirs.dirty),
        };
        assert_eq!(ours, expected);
    }

    /// The crate reads the running kernel itself, so counters are compared with a reading before
    /// and one after.
    #[test]
    fn vmstat_is_read_as_the_procfs_crate_reads_it() {
        let before = procfs::vmstat().unwrap();
        let ours = vmstat::parse(&std::fs::read("/proc/vmstat").unwrap()).unwrap();
        let after = procfs::vmstat().unwrap();
        let between = |value: i64, key: &str| {
            let (low, high) = (before[key], after[key]);
            assert!((low..=high).contains(&value), "{key}: {low} {value} {high}");
        };
        between(ours.refault, "workingset_refault_file");
        between(ours.pgscan_kswapd, "pgscan_kswapd");
        between(ours.pgscan_direct, "pgscan_direct");
        between(ours.pgscan_direct_throttle, "pgscan_direct_throttle");
        between(ours.pgrefill, "pgrefill");
    }

    #[test]
    fn pressure_is_read_as_the_procfs_crate_reads_it() {
        let Ok(text) = std::fs::read("/proc/pressure/memory") else {
            eprintln!("skipped: this kernel has no PSI");
            return;
        };
        let theirs = procfs::MemoryPressure::from_buf_read(&text[..]).unwrap();
        let ours = pressure::parse(&text).unwrap();
        let percent = |centi: i64| format!("{}.{:02}", centi / 100, centi % 100);
        assert_eq!(percent(ours.some_centi), format!("{:.2}", theirs.some.avg10));
        assert_eq!(percent(ours.full_centi.unwrap()), format!("{:.2}", theirs.full.avg10));
    }

    #[test]
    fn the_running_kernel_gives_a_sample() {
        let psi = Path::new("/proc/pressure/memory");
        let mut sampler = Sampler::open(Path::new("/proc"), psi, PageSize::of_this_kernel());
        let mut sample = Sample::default();
        sampler.read(MonoTime::now(), true, &mut sample).unwrap();
        let total = procfs::Meminfo::current().unwrap().mem_total / 1024;
        let ours = sample.meminfo.total.to_kib(PageSize::of_this_kernel()).get();
        assert!(u64::try_from(ours).unwrap().abs_diff(total) < 64);
        assert!(sample.watermarks.unwrap().high > Pages(0));
    }
}

mod never_panics {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn parse_all(text: &[u8]) {
        let _ = vmstat::parse(text);
        let _ = meminfo::parse(text, PageSize::SMALL);
        let _ = meminfo::parse(text, PageSize::from_bytes(65_536));
        let _ = zoneinfo::parse(text);
        let _ = pressure::parse(text);
    }

    fn recordings() -> Vec<Vec<u8>> {
        const FILES: [&str; 4] = ["vmstat", "meminfo", "zoneinfo", "pressure/memory"];
        let all = Recorded::all();
        all.iter().flat_map(|recorded| FILES.map(|file| recorded.text(file))).collect()
    }

    proptest! {
        #[test]
        fn on_any_bytes(text in vec(any::<u8>(), 0..4096)) {
            parse_all(&text);
        }

        /// Bytes at random do not get far; a recording with some of its bytes exchanged does.
        #[test]
        fn on_recordings_with_errors(
            which in any::<prop::sample::Index>(),
            edits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..64),
        ) {
            let texts = recordings();
            let mut text = which.get(&texts).clone();
            for (at, byte) in edits {
                let at = at.index(text.len());
                text[at] = byte;
            }
            parse_all(&text);
        }

        #[test]
        fn on_numbers_of_any_length(digits in "[0-9]{1,40}", text in 0..4_usize) {
            let texts = recordings();
            let text = String::from_utf8(texts[text].clone()).unwrap();
            let text: String = text
                .lines()
                .map(|line| line.replace(|c: char| c.is_ascii_digit(), "7"))
                .map(|line| line.replace("77", &digits) + "\n")
                .collect();
            parse_all(text.as_bytes());
        }
    }
}
