//! `lmkctl status --openmetrics`: the text format that collectors of a fleet read.
//!
//! Source: the OpenMetrics specification, version 1.0: families with HELP, TYPE and UNIT, counters
//! that end in `_total`, base units (bytes, seconds), `# EOF` at the end.

use crate::history::History;
use crate::status;
use crate::words;
use lmkd::recorder::Spread;
use lmkd::recorder::Status;
use lmkd::recorder::Steps;
use lmkd::units::Kib;
use lmkd::units::Pages;
use std::fmt::Display;
use std::io;
use std::io::Write;

/// Writes all of it.
pub fn write(status: &Status, history: &History, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { out };
    build(&mut page, history)?;
    signals(&mut page, history)?;
    counters(&mut page, status)?;
    if let Some(Steps { to_decision, to_raise }) = &status.steps {
        let help = "From the event to the verdict.";
        latency(&mut page, "lmkd_kill_decision", help, to_decision)?;
        let help = "From the verdict to the victim's leader raised.";
        latency(&mut page, "lmkd_kill_raise", help, to_raise)?;
    }
    for (name, help, spread) in [
        ("lmkd_kill_signal", "From the event to SIGKILL.", &status.to_signal),
        ("lmkd_kill_memory", "From SIGKILL to its memory given back.", &status.to_release),
        ("lmkd_kill_exit", "From SIGKILL to the exit.", &status.to_exit),
    ] {
        latency(&mut page, name, help, spread)?;
    }
    gauges(&mut page, status)?;
    writeln!(page.out, "# EOF")
}

struct Page<'a> {
    out: &'a mut dyn Write,
}

impl Page<'_> {
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) -> io::Result<()> {
        writeln!(self.out, "# TYPE {name} {kind}")?;
        if !unit.is_empty() {
            writeln!(self.out, "# UNIT {name} {unit}")?;
        }
        writeln!(self.out, "# HELP {name} {help}")
    }

    fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> io::Result<()> {
        write!(self.out, "{name}")?;
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(self.out, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' })?;
        }
        writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" })
    }

    fn gauge(&mut self, name: &str, unit: &str, help: &str, value: impl Display) -> io::Result<()> {
        self.family(name, "gauge", unit, help)?;
        self.sample(name, &[], value)
    }
}

fn build(page: &mut Page<'_>, history: &History) -> io::Result<()> {
    let (version, kernel) = (history.header.version.to_string(), history.header.kernel.to_string());
    page.family("lmkd_build", "info", "", "The daemon and the kernel that it runs on.")?;
    page.sample("lmkd_build_info", &[("kernel", &kernel), ("version", &version)], 1)?;
    let pressure = words::pressure(history.sources.pressure);
    page.family("lmkd_pressure_source", "stateset", "", "What tells the daemon of pressure.")?;
    for state in ["waiting", "psi", "psi_unprivileged", "sampling"] {
        let on = u8::from(state == pressure);
        page.sample("lmkd_pressure_source", &[("lmkd_pressure_source", state)], on)?;
    }
    Ok(())
}

fn signals(page: &mut Page<'_>, history: &History) -> io::Result<()> {
    let Some(facts) = history.looked.as_ref().and_then(|looked| looked.facts(history.page()))
    else {
        return Ok(());
    };
    let bytes = |pages: Pages| to_bytes(pages.to_kib(facts.page));
    let signals = facts.signals;
    let marks = &signals.watermarks;
    let free = bytes(signals.free);
    page.gauge("lmkd_memory_free_bytes", "bytes", "Free memory without CMA areas.", free)?;
    page.family("lmkd_watermark_bytes", "gauge", "bytes", "What free memory is compared with.")?;
    for (name, mark) in [("min", marks.min), ("low", marks.low), ("high", marks.high)] {
        page.sample("lmkd_watermark_bytes", &[("watermark", name)], bytes(mark))?;
    }
    let cache = bytes(signals.file_cache);
    page.gauge("lmkd_file_cache_bytes", "bytes", "File cache.", cache)?;
    let swap = bytes(signals.free_swap);
    page.gauge("lmkd_swap_free_bytes", "bytes", "Free swap that can be filled.", swap)?;
    let low = bytes(signals.swap_low_threshold);
    page.gauge("lmkd_swap_low_bytes", "bytes", "Free swap below this is low.", low)?;
    let thrashing = Percent(signals.thrashing);
    page.gauge("lmkd_thrashing_ratio", "ratio", "Refaults by file cache.", thrashing)?;
    let limit = Percent(signals.thrashing_limit);
    page.gauge("lmkd_thrashing_limit_ratio", "ratio", "Thrashing above this kills.", limit)
}

fn counters(page: &mut Page<'_>, status: &Status) -> io::Result<()> {
    page.family("lmkd_kills", "counter", "", "Kills by reason.")?;
    for (reason, count) in status::by_reason(status) {
        page.sample("lmkd_kills_total", &[("reason", reason.name())], count)?;
    }
    let mut counter = |name: &str, help: &str, value: u64| {
        page.family(name, "counter", "", help)?;
        page.sample(&format!("{name}_total"), &[], value)
    };
    counter("lmkd_exits", "Victims whose exit was seen.", status.exits.into())?;
    counter("lmkd_proofs", "Kills that the kernel confirmed.", status.proven.into())?;
    counter("lmkd_kill_timeouts", "Waits that timed out.", status.timeouts.into())?;
    counter("lmkd_lost_events", "Times that reclaim events were lost.", status.lost_events)?;
    counter("lmkd_records", "Records of the flight recorder.", status.ring.records)
}

/// A summary has no sum here: the daemon keeps a histogram in fixed memory, not the sum.
fn latency(page: &mut Page<'_>, name: &str, help: &str, spread: &Spread) -> io::Result<()> {
    let name = format!("{name}_seconds");
    page.family(&name, "summary", "seconds", help)?;
    if spread.count > 0 {
        let all =
            [("0.5", spread.p50), ("0.9", spread.p90), ("0.99", spread.p99), ("1.0", spread.max)];
        for (quantile, micros) in all {
            page.sample(&name, &[("quantile", quantile)], Seconds(micros))?;
        }
    }
    page.sample(&format!("{name}_count"), &[], spread.count)
}

fn gauges(page: &mut Page<'_>, status: &Status) -> io::Result<()> {
    let registered = "Processes that clients have registered.";
    page.gauge("lmkd_registered_processes", "processes", registered, status.registered)?;
    page.gauge("lmkd_clients", "", "Connections to the daemon's socket.", status.clients)?;
    let polling = u8::from(status.polling);
    page.gauge("lmkd_polling", "", "Whether timed looks are under way.", polling)?;
    let owed = "Memory of victims that were given up on and still hold it.";
    page.gauge("lmkd_owed_bytes", "bytes", owed, to_bytes(status.owed))?;
    let resident = to_bytes(status.rss);
    page.gauge("lmkd_resident_bytes", "bytes", "Resident memory of the daemon.", resident)?;
    match status.descriptors {
        Some(count) => page.gauge("lmkd_descriptors", "", "Its open descriptors.", count),
        None => Ok(()),
    }
}

fn to_bytes(kib: Kib) -> i64 {
    kib.get().saturating_mul(1024)
}

/// Hundredths.
struct Percent(i64);

impl Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, (self.0 % 100).abs())
    }
}

/// Microseconds as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
