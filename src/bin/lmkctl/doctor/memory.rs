//! The machine's memory: what a decision reads, swap, and who else kills.

use super::finding::Finding;
use super::settings::Settings;
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

/// Looks at all of it; with the sample that it took, if one can be taken.
pub fn examine(settings: &Settings) -> (Vec<Finding>, Option<Sample>) {
    let (decision, sample) = decision(settings);
    let mut findings = vec![decision, swap(sample.as_ref())];
    findings.extend(generations());
    findings.push(panic_on_oom());
    findings.push(other_killers());
    (findings, sample)
}

/// What a decision looks at, read by the code that the daemon reads it with.
fn decision(settings: &Settings) -> (Finding, Option<Sample>) {
    const CHECK: &str = "samples";
    let page = PageSize::of_this_kernel();
    let mut sampler = Sampler::open(Path::new("/proc"), settings.pressure_file(), page);
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
        Err(error) => {
            let remedy = "let the daemon read /proc/vmstat, /proc/meminfo and /proc/zoneinfo";
            (Finding::broken(CHECK, error, "no decision is possible", remedy), None)
        }
    }
}

fn swap(sample: Option<&Sample>) -> Finding {
    const CHECK: &str = "swap";
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let devices: Vec<&str> =
        swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let total = sample.map_or(Pages::ZERO, |sample| sample.meminfo.swap_total);
    if total == Pages::ZERO {
        return Finding::degraded(
            CHECK,
            "none",
            "the reasons that speak of swap never hold, and anonymous memory cannot be reclaimed",
            "zram; without swap rely on LOW_MEM and on reclaim events",
        );
    }
    let mib = total.to_kib(PageSize::of_this_kernel()).get() / 1024;
    let ratios: Vec<String> = devices.iter().filter_map(|device| compression(device)).collect();
    let and = if ratios.is_empty() { "" } else { "; " };
    Finding::ok(CHECK, format_args!("{mib} MiB: {}{and}{}", devices.join(", "), ratios.join(", ")))
}

/// How well a zram device compresses at present.
fn compression(device: &str) -> Option<String> {
    let name = device.rsplit('/').next().filter(|name| name.starts_with("zram"))?;
    let stat = fs::read_to_string(format!("/sys/block/{name}/mm_stat")).ok()?;
    let mut numbers = stat.split_whitespace().map(str::parse::<u64>);
    let (stored, compressed) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let tenths = stored.saturating_mul(10).checked_div(compressed)?;
    Some(format!("{name} compresses {}.{} to 1 at present", tenths / 10, tenths % 10))
}

/// The multi-generational LRU. Its `min_ttl_ms` has the kernel's own OOM killer protect working
/// sets; source: `Documentation/admin-guide/mm/multigen_lru.rst`.
fn generations() -> Option<Finding> {
    const CHECK: &str = "lru_gen";
    let read = |name| fs::read_to_string(format!("/sys/kernel/mm/lru_gen/{name}"));
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

fn panic_on_oom() -> Finding {
    const CHECK: &str = "panic_on_oom";
    match fs::read_to_string("/proc/sys/vm/panic_on_oom").as_deref().map(str::trim) {
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

fn other_killers() -> Finding {
    const CHECK: &str = "other_killers";
    let names = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
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
