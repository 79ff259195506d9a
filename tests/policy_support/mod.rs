//! Reads decision vectors and tables: JSON in, the policy's own types out.

use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::kernel::Stall;
use lmkd::kernel::Watermarks;
use lmkd::policy::Level;
use lmkd::policy::Trigger;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use serde_json::Map;
use serde_json::Value;

/// Tunables from properties by name, clamped as the daemon clamps them.
pub fn tunables(set: &Value) -> Tunables {
    let low_ram = set["low_ram"].as_bool().unwrap_or(false);
    let mut t = if low_ram { Tunables::low_ram_defaults() } else { Tunables::default() };
    let number = |name: &str, default: i64| set[name].as_i64().unwrap_or(default);
    t.kill_timeout_ms = number("kill_timeout_ms", t.kill_timeout_ms);
    t.pressure_after_kill_min_score =
        number("pressure_after_kill_min_score", t.pressure_after_kill_min_score);
    t.swap_free_low_percentage =
        number("swap_free_low_percentage", t.swap_free_low_percentage).clamp(0, 100);
    t.psi_window_size_ms = number("psi_window_size_ms", t.psi_window_size_ms);
    t.thrashing_limit = number("thrashing_limit", t.thrashing_limit).max(0);
    t.thrashing_limit_decay =
        number("thrashing_limit_decay", t.thrashing_limit_decay).clamp(0, 100);
    let critical = t.thrashing_limit.saturating_mul(3);
    t.thrashing_limit_critical = number("thrashing_limit_critical", critical).max(0);
    t.swap_util_max = number("swap_util_max", t.swap_util_max).clamp(0, 100);
    t.filecache_min_kb = number("filecache_min_kb", t.filecache_min_kb);
    t.stall_limit_critical = number("stall_limit_critical", t.stall_limit_critical);
    t.direct_reclaim_threshold_ms =
        number("direct_reclaim_threshold_ms", t.direct_reclaim_threshold_ms);
    t.swap_compression_ratio = number("swap_compression_ratio", t.swap_compression_ratio);
    t.swap_compression_ratio_div =
        number("swap_compression_ratio_div", t.swap_compression_ratio_div);
    t.relaxed_available_memory = set["relaxed_available_memory"].as_bool().unwrap_or(false);
    t.lowmem_min_oom_score = number("lowmem_min_oom_score", t.lowmem_min_oom_score).max(201);
    t.use_minfree_levels = set["use_minfree_levels"].as_bool().unwrap_or(false);
    t.use_new_strategy = set["use_new_strategy"].as_bool();
    t
}

/// The files of the kernel as a sequence last gave them; a step names only what changed.
#[derive(Default)]
pub struct Files {
    vmstat: Map<String, Value>,
    meminfo: Map<String, Value>,
    zones: Value,
}

impl Files {
    /// Takes over what the step gives.
    pub fn update(&mut self, step: &Value) {
        for (held, key) in [(&mut self.vmstat, "vmstat"), (&mut self.meminfo, "meminfo_kb")] {
            for (name, value) in step[key].as_object().into_iter().flatten() {
                held.insert(name.clone(), value.clone());
            }
        }
        if let Some(zones) = step.get("zones") {
            self.zones = zones.clone();
        }
    }

    /// The watermarks that the zones add up to.
    pub fn watermarks(&self) -> Watermarks {
        let mut marks = Watermarks::default();
        for zone in self.zones.as_array().into_iter().flatten() {
            let number = |name: &str| zone[name].as_i64().unwrap_or(0);
            let protection = zone["protection"].as_array().into_iter().flatten();
            let protection = protection.filter_map(Value::as_i64).max().unwrap_or(0);
            let levels = [number("min"), number("low"), number("high")];
            marks.add_zone(number("present"), levels, protection);
        }
        marks
    }

    /// The sample of a step, without watermarks.
    pub fn sample(&self, step: &Value, page: PageSize) -> Sample {
        let mut sample = Sample { now: time(step, "t").unwrap(), ..Sample::default() };
        let vm = |name: &str| self.vmstat.get(name).and_then(Value::as_i64).unwrap_or(0);
        let v = &mut sample.vmstat;
        v.nr_free_pages = vm("nr_free_pages");
        v.nr_inactive_file = vm("nr_inactive_file");
        v.nr_active_file = vm("nr_active_file");
        v.refault = match vm("workingset_refault") {
            0 => vm("workingset_refault_file"),
            refault => refault,
        };
        v.pgscan_kswapd = vm("pgscan_kswapd");
        v.pgscan_direct = vm("pgscan_direct");
        v.pgscan_direct_throttle = vm("pgscan_direct_throttle");
        v.pgrefill = vm("pgrefill");
        let kb = |name: &str| {
            Kib(self.meminfo.get(name).and_then(Value::as_i64).unwrap_or(0)).to_pages(page)
        };
        let m = &mut sample.meminfo;
        m.free = kb("MemFree");
        m.cached = kb("Cached");
        m.swap_cached = kb("SwapCached");
        m.buffers = kb("Buffers");
        m.shmem = kb("Shmem");
        m.unevictable = kb("Unevictable");
        m.swap_total = kb("SwapTotal");
        m.swap_free = kb("SwapFree");
        m.active_anon = kb("Active(anon)");
        m.inactive_anon = kb("Inactive(anon)");
        m.active_file = kb("Active(file)");
        m.inactive_file = kb("Inactive(file)");
        m.cma_free = kb("CmaFree");
        m.dirty = kb("Dirty");
        // Written with two decimals, so the nearest hundredth is the number meant.
        #[allow(clippy::cast_possible_truncation)]
        let centi = |avg10: f64| Stall { full_avg10_centi: (avg10 * 100.0).round() as i64 };
        sample.stall = step["psi_full_avg10"].as_f64().map(centi);
        sample
    }
}

/// `NAME_ms` and `NAME_ns` of a step as a moment.
pub fn time(step: &Value, name: &str) -> Option<MonoTime> {
    let part = |unit: &str| step[format!("{name}_{unit}")].as_u64();
    let nanos = part("ms")?.saturating_mul(1_000_000).saturating_add(part("ns").unwrap_or(0));
    Some(MonoTime::from_nanos(nanos))
}

pub fn trigger(step: &Value) -> Trigger {
    let number = |name: &str| i32::try_from(step[name].as_i64().unwrap()).unwrap();
    match step["source"].as_str().unwrap() {
        "event" => Trigger::Event(match step["level"].as_str().unwrap() {
            "low" => Level::Low,
            "medium" => Level::Medium,
            "critical" => Level::Critical,
            other => panic!("level {other}"),
        }),
        "poll" => Trigger::Poll,
        "kswapd_wake" => Trigger::KswapdWake,
        "vendor" => {
            Trigger::Vendor { reason: number("vendor_reason"), min_adj: number("vendor_min_adj") }
        }
        other => panic!("source {other}"),
    }
}
