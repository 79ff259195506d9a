//! What the machine looks like from outside the processes: memory, pressure, a daemon's own costs.

use crate::out::Out;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The number after `name` in a file of lines.
fn number(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Memory and pressure as of now.
pub fn sample() -> Value {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let vmstat = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let pressure = fs::read_to_string("/proc/pressure/memory").unwrap_or_default();
    let mut totals =
        pressure.lines().filter_map(|line| line.rsplit('=').next()?.parse::<u64>().ok());
    let kb = |name| number(&meminfo, name);
    json!({
        "total_kb": kb("MemTotal:"),
        "free_kb": kb("MemFree:"),
        // Pages of a block device count as buffers.
        "file_kb": kb("Cached:").zip(kb("Buffers:")).map(|(cached, buffers)| cached + buffers),
        "available_kb": kb("MemAvailable:"),
        "swap_total_kb": kb("SwapTotal:"),
        "swap_free_kb": kb("SwapFree:"),
        "some_us": totals.next(),
        "full_us": totals.next(),
        "oom_kill": number(&vmstat, "oom_kill "),
    })
}

/// Sends a sample out every 100 ms.
pub fn watch(out: Out) {
    std::thread::spawn(move || {
        let _ = lmkd::sys::sched::set_fifo(0, 1);
        loop {
            out.event("sample", sample());
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

/// Whether a system_server of the device's own is there, so that the actor's is not the only one.
pub fn has_framework() -> bool {
    let is_it = |folder: &Path| {
        fs::read(folder.join("cmdline")).is_ok_and(|line| line.starts_with(b"system_server\0"))
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.map(|process| process.path()).any(|folder| is_it(&folder))
}

/// Whether a descriptor of the process `pid` stands for another process: a daemon has such for everyone who registers.
fn is_of_a_process(link: &str, pid: u32) -> bool {
    let of = || link.strip_prefix("/proc/")?.split('/').next()?.parse::<u32>().ok();
    // A file of its own in newer kernels.
    link == "anon_inode:[pidfd]" || link.starts_with("pidfd:") || of().is_some_and(|of| of != pid)
}

/// What a daemon has cost so far: all its threads together, but page faults of its first one alone,
/// which decides and kills.
pub fn look(pid: u32) -> Result<Value> {
    let folder = format!("/proc/{pid}");
    // VmRSS of the kernels before 6.2 lags by up to 64 pages a thread; what maps are summed up to does not.
    let rollup = format!("{folder}/smaps_rollup");
    let rollup = fs::read_to_string(&rollup).context(rollup)?;
    // After the name, which may hold anything: state is the third field, minor and major faults
    // the 10th and 12th, utime and stime the 14th and 15th.
    let fields = |file: String| -> Result<Vec<u64>> {
        let stat = fs::read_to_string(file)?;
        let after = stat.rsplit_once(") ").context("stat")?.1;
        Ok(after.split(' ').map(|field| field.parse().unwrap_or(0)).collect())
    };
    let (all, first) =
        (fields(format!("{folder}/stat"))?, fields(format!("{folder}/task/{pid}/stat"))?);
    let field = |of: &[u64], number: usize| of.get(number - 3).copied().unwrap_or(0);
    let ticks = field(&all, 14) + field(&all, 15);
    let (mut switches, mut tids) = (0, Vec::new());
    for task in fs::read_dir(format!("{folder}/task"))? {
        let task = task?;
        tids.extend(task.file_name().to_str().and_then(|tid| tid.parse::<u32>().ok()));
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        switches += number(&status, "voluntary_ctxt_switches:").unwrap_or(0);
    }
    let (mut fds, mut own_fds) = (0_u32, 0_u32);
    for fd in fs::read_dir(format!("{folder}/fd"))? {
        let Ok(link) = fs::read_link(fd?.path()) else { continue };
        fds += 1;
        own_fds += u32::from(!is_of_a_process(&link.to_string_lossy(), pid));
    }
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    Ok(json!({
        "pid": pid,
        // What signals are told to be from.
        "tids": tids,
        "exe": fs::read_link(format!("{folder}/exe")).unwrap_or_default(),
        "rss_kb": number(&rollup, "Rss:"),
        "fds": fds,
        // Without those that stand for other processes.
        "own_fds": own_fds,
        // A tick is 10 ms to user space on every architecture.
        "cpu_ms": ticks * 10,
        "wakeups": switches,
        "minor_faults": field(&first, 10),
        "major_faults": field(&first, 12),
        // How many processes and threads the device has started since it booted.
        "born": number(&stat, "processes "),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_other_processes_are_told_from_a_daemons_own() {
        let others = ["anon_inode:[pidfd]", "pidfd:[4026]", "/proc/71/statm", "/proc/71/task/72"];
        for link in others {
            assert!(is_of_a_process(link, 70), "{link}");
        }
        let own = [
            "anon_inode:[eventpoll]",
            "socket:[71]",
            "/proc/meminfo",
            "/proc/70/stat",
            "/dev/null",
        ];
        for link in own {
            assert!(!is_of_a_process(link, 70), "{link}");
        }
    }
}
