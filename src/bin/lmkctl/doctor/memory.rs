//! The machine's memory: what a decision reads, swap, and who else kills.

use super::finding::Finding;
use lmkd::clock::MonoTime;
use lmkd::kernel::Sample;
use lmkd::kernel::Sampler;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use std::fs;
use std::path::Path;

/// Programs that kill under memory pressure.
const KILLERS: &[&str] =
    &["earlyoom", "low-memory-moni", "nohang", "oomd", "psi-notify", "systemd-oomd", "uresourced"];

/// Looks at all of it below `root`; with the sample that it took, if one can be taken.
pub fn examine(root: &Path, pressure: &Path) -> (Vec<Finding>, Option<Sample>) {
    let (decision, sample) = decision(root, pressure);
    let mut findings = vec![decision];
    findings.extend(sample.as_ref().map(|sample| swap(root, sample)));
    findings.extend(generations(root));
    findings.push(panic_on_oom(root));
    findings.push(other_killers(root));
    (findings, sample)
}

/// What a decision looks at, read by the code that the daemon reads it with.
fn decision(root: &Path, pressure: &Path) -> (Finding, Option<Sample>) {
    const CHECK: &str = "samples";
    let page = PageSize::of_this_kernel();
    let mut sampler = Sampler::open(&root.join("proc"), pressure, page);
    let mut sample = Sample::default();
    match sampler.read(MonoTime::now(), true, &mut sample) {
        Ok(()) => {
            let marks = sample.watermarks.unwrap_or_default();
            let mib = |pages: Pages| pages.to_kib(page).get() / 1024;
            let (total, free) = (mib(sample.meminfo.total), mib(sample.meminfo.free));
            let [min, low, high] = [marks.min, marks.low, marks.high].map(mib);
            let found =
                format!("{total} MiB, {free} MiB free, watermarks {min}, {low} and {high} MiB");
            (Finding::ok(CHECK, found), Some(sample))
        }
        Err(error) if error.costs_watermarks_only() => {
            let effect =
                "watermarks are those read last; where none ever were, no rule about them \
                          applies: LOW_MEM and others never kill";
            let remedy = "let the daemon read /proc/zoneinfo";
            (Finding::degraded(CHECK, error, effect, remedy), Some(sample))
        }
        Err(error) => {
            let remedy = "let the daemon read /proc/vmstat, /proc/meminfo and /proc/zoneinfo";
            (Finding::broken(CHECK, error, "no decision is possible", remedy), None)
        }
    }
}

fn swap(root: &Path, sample: &Sample) -> Finding {
    const CHECK: &str = "swap";
    let swaps = fs::read_to_string(root.join("proc/swaps")).unwrap_or_default();
    let devices: Vec<&str> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let total = sample.meminfo.swap_total;
    if total == Pages::ZERO {
        return Finding::degraded(
            CHECK,
            "none",
            "the reasons that speak of swap never hold, and anonymous memory cannot be reclaimed",
            "zram; without swap rely on LOW_MEM and on reclaim events",
        );
    }
    let mib = total.to_kib(PageSize::of_this_kernel()).get() / 1024;
    let ratios: Vec<String> =
        devices.iter().filter_map(|device| compression(root, device)).collect();
    let and = if ratios.is_empty() { "" } else { "; " };
    Finding::ok(CHECK, format_args!("{mib} MiB: {}{and}{}", devices.join(", "), ratios.join(", ")))
}

/// How well a zram device compresses at present.
fn compression(root: &Path, device: &str) -> Option<String> {
    let name = device.rsplit('/').next().filter(|name| name.starts_with("zram"))?;
    let stat = fs::read_to_string(root.join(format!("sys/block/{name}/mm_stat"))).ok()?;
    let mut numbers = stat.split_whitespace().map(str::parse::<u64>);
    let (stored, compressed) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let tenths = stored.saturating_mul(10).checked_div(compressed)?;
    Some(format!("{name} compresses {}.{} to 1 at present", tenths / 10, tenths % 10))
}

/// The multi-generational LRU. Its `min_ttl_ms` has the kernel's own OOM killer protect working
/// sets; source: `Documentation/admin-guide/mm/multigen_lru.rst`.
fn generations(root: &Path) -> Option<Finding> {
    const CHECK: &str = "lru_gen";
    let read = |name| fs::read_to_string(root.join("sys/kernel/mm/lru_gen").join(name));
    let enabled = read("enabled").ok()?;
    let ttl = read("min_ttl_ms").unwrap_or_default();
    Some(match ttl.trim() {
        "" | "0" => Finding::ok(CHECK, format_args!("enabled = {}", enabled.trim())),
        ttl => Finding::degraded(
            CHECK,
            format_args!("min_ttl_ms = {ttl}"),
            "the kernel's OOM killer acts first, by its own choice of victim",
            "write 0 to /sys/kernel/mm/lru_gen/min_ttl_ms",
        ),
    })
}

fn panic_on_oom(root: &Path) -> Finding {
    const CHECK: &str = "panic_on_oom";
    match fs::read_to_string(root.join("proc/sys/vm/panic_on_oom")).as_deref().map(str::trim) {
        Ok("0") => Finding::ok(CHECK, "0"),
        Ok(value) => Finding::degraded(
            CHECK,
            value,
            "should memory run out before the daemon's victim is gone, the machine goes down",
            "sysctl vm.panic_on_oom=0",
        ),
        Err(error) => Finding::unknown(CHECK, error),
    }
}

fn other_killers(root: &Path) -> Finding {
    const CHECK: &str = "other_killers";
    let names = fs::read_dir(root.join("proc")).into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<i32>().ok()?;
        Some(fs::read_to_string(path.join("comm")).ok()?.trim_end().to_owned())
    });
    let mut found: Vec<String> = names.filter(|name| KILLERS.contains(&name.as_str())).collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => Finding::ok(CHECK, "none seen"),
        _ => Finding::degraded(
            CHECK,
            format_args!("{} runs", found.join(", ")),
            "two killers answer the same pressure: more is killed than need be",
            "run one of them",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;
    use std::path::PathBuf;

    /// A tree of files that is gone at the end of the test.
    struct Tree(PathBuf);

    impl Tree {
        /// The files of this machine that a decision reads, and those named.
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("doctor-{name}-{}", std::process::id()));
            let tree = Self(root);
            for file in ["vmstat", "meminfo", "zoneinfo"] {
                let text = fs::read_to_string(Path::new("/proc").join(file)).unwrap();
                tree.put(&format!("proc/{file}"), &text);
            }
            for (file, text) in files {
                tree.put(file, text);
            }
            tree
        }

        fn put(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn without(self, file: &str) -> Self {
            fs::remove_file(self.0.join(file)).unwrap();
            self
        }

        fn state(&self, check: &str) -> Option<State> {
            let (findings, _) = examine(&self.0, &self.0.join("proc/pressure/memory"));
            findings.iter().find(|finding| finding.check() == check).map(Finding::state)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn without_counters_no_decision_is_possible_and_without_watermarks_fewer_are() {
        let tree = Tree::new("samples", &[]);
        assert_eq!(tree.state("samples"), Some(State::Ok));
        let tree = tree.without("proc/zoneinfo");
        assert_eq!(tree.state("samples"), Some(State::Degraded));
        for file in ["vmstat", "meminfo"] {
            let tree = Tree::new(file, &[]).without(&format!("proc/{file}"));
            assert_eq!([tree.state("samples"), tree.state("swap")], [Some(State::Broken), None]);
        }
    }

    #[test]
    fn a_machine_without_swap_is_found() {
        let tree = Tree::new("swap", &[]);
        let with = |swap: &str| {
            let text = fs::read_to_string(Path::new("/proc").join("meminfo")).unwrap();
            let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("Swap")).collect();
            let swap = format!("SwapCached: 0 kB\nSwapTotal: {swap} kB\nSwapFree: 0 kB\n");
            tree.put("proc/meminfo", &(lines.join("\n") + "\n" + &swap));
            tree.state("swap")
        };
        assert_eq!([with("0"), with("4096")], [Some(State::Degraded), Some(State::Ok)]);
    }

    #[test]
    fn a_kernel_that_guards_working_sets_itself_is_found() {
        let with = |ttl| {
            let files = [
                ("sys/kernel/mm/lru_gen/enabled", "0x0007\n"),
                ("sys/kernel/mm/lru_gen/min_ttl_ms", ttl),
            ];
            Tree::new("lru_gen", &files).state("lru_gen")
        };
        assert_eq!([with("0\n"), with("1000\n")], [Some(State::Ok), Some(State::Degraded)]);
        assert_eq!(Tree::new("no_lru_gen", &[]).state("lru_gen"), None);
    }

    #[test]
    fn a_machine_that_goes_down_when_memory_is_out_is_found() {
        let with = |value| {
            Tree::new("panic", &[("proc/sys/vm/panic_on_oom", value)]).state("panic_on_oom")
        };
        assert_eq!([with("0\n"), with("2\n")], [Some(State::Ok), Some(State::Degraded)]);
        assert_eq!(Tree::new("no_panic", &[]).state("panic_on_oom"), Some(State::Unknown));
    }

    #[test]
    fn another_killer_is_found_by_its_name() {
        let with =
            |name: &str| Tree::new(name.trim(), &[("proc/77/comm", name)]).state("other_killers");
        assert_eq!([with("earlyoom\n"), with("sh\n")], [Some(State::Degraded), Some(State::Ok)]);
    }
}
