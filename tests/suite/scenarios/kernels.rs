//! Kernels and devices that lack something.

use crate::remote::is;
use crate::run::LogMark;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::BASE;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "low-ram",
        title: "a device with little memory",
        needs: Some(("test \"$(getprop ro.config.low_ram)\" = true", "ro.config.low_ram")),
        restarts_daemon: true,
        script: low_ram,
        ..BASE
    },
    Scenario {
        name: "no-psi",
        title: "a kernel without PSI",
        needs: Some(("! cat /proc/pressure/memory >/dev/null 2>&1", "psi=0")),
        restarts_daemon: true,
        script: no_psi,
        ..BASE
    },
    Scenario {
        name: "proc-files",
        title: "files of /proc that are missing or read-only",
        restarts_daemon: true,
        swap: Swap::Off,
        script: proc_files,
        ..BASE
    },
];

const ADJS: [i32; 5] = [950, 900, 800, 700, 200];

/// Presses until two have died.
fn two_deaths(run: &mut Run<'_>, speed: u64) -> Result<()> {
    run.household(20)?;
    let size = run.available_mib / 12;
    for adj in ADJS {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    run.press(run.available_mib + 5 * size, speed, 2)?;
    let deaths = run.deaths();
    run.check("memory was made", deaths.len() >= 2, format!("{deaths:?}"));
    Ok(())
}

fn low_ram(run: &mut Run<'_>) -> Result<()> {
    // What it says at its start is then of this scenario.
    run.restart_daemon()?;
    two_deaths(run, 15)?;
    let armed = run.own_log()?.iter().any(|line| line.contains("some 200 ms"));
    run.check("the pressure threshold is the one for low RAM", armed, "");
    Ok(())
}

fn no_psi(run: &mut Run<'_>) -> Result<()> {
    run.restart_daemon()?;
    let said = run.own_log()?.iter().any(|line| line.contains("psi=1"));
    run.check("the daemon says what is missing, and the remedy", said, "");
    two_deaths(run, 10)
}

/// Ways in which a file is not what it should be: what the daemon may say of it, which one it is, and what it shows
/// instead; nothing, if it is only read-only. All that is shown is what policy lets the daemon read anyway.
const SPOILT: [(&str, &str, Option<&str>); 6] = [
    ("zoneinfo", "/proc/zoneinfo", Some("/proc/meminfo")),
    ("vmstat", "/proc/vmstat", Some("/proc/meminfo")),
    ("meminfo", "/proc/meminfo", Some("/proc/vmstat")),
    ("pressure", "/proc/pressure/memory", Some("/dev/null")),
    // A folder without it.
    ("pressure", "/proc/pressure", Some("/proc/driver")),
    ("pressure", "/proc/pressure/memory", None),
];

/// One of these files after the other gives nothing, is missing, or cannot be written; the daemon goes on with what
/// is left.
fn proc_files(run: &mut Run<'_>) -> Result<()> {
    for (file, path, with) in SPOILT {
        run.note(format!("{path}: {}", with.unwrap_or("read-only")));
        let cover = json!({"do": "cover", "file": path, "with": with});
        let done = run.remote.order(cover).and_then(|_| spoilt(run, file));
        // Even if only a part of it was done: other scenarios need the file.
        run.remote.order(json!({"do": "uncover"}))?;
        done?;
        run.remote.empty_stage()?;
    }
    run.note("the files are back");
    run.restart_daemon()?;
    two_deaths(run, 25)
}

/// It runs on, does not spin, says what it cannot see, and kills if that is not what it decides by.
fn spoilt(run: &mut Run<'_>, file: &str) -> Result<()> {
    let mark = LogMark::lines(run.device)?;
    let begin = run.remote.mark();
    run.restart_daemon()?;
    let pid = run.pid;
    run.household(20)?;
    let size = run.available_mib / 12;
    for adj in [950, 900] {
        run.app(&format!("app-{adj}"), adj, size)?;
    }
    let before = run.look()?;
    std::thread::sleep(Duration::from_secs(2));
    let spent = run.look()?.cpu_percent_since(&before);
    run.check("it does not spin", spent < 20, format!("{file}: {spent}% of a CPU"));
    // What counts as available ends at the low watermark: a little more is pressure, and no disaster.
    run.press(run.available_mib.saturating_sub(2 * size + 20 + 16) + 8, 80, 1)?;
    // Without the kernel's word on pressure it looks once a second; without the numbers it cannot decide.
    let blind = file != "pressure";
    let limit = Duration::from_secs(10);
    let told = |event: &Value| is(event, "told").then_some(());
    let killed = run.remote.wait("a kill", begin, if blind { Duration::ZERO } else { limit }, told);
    let log = mark.since(run.device)?;
    let grave = |line: &&String| line.contains(" W lowmem") || line.contains(" E lowmem");
    let said = log.iter().filter(grave).any(|line| line.contains(file));
    let seen = format!("{file}: {killed:?}, {}", log.join("; "));
    run.check("it says what it cannot see", said, seen.clone());
    run.check("it kills by what it can see", blind || killed.is_ok(), seen);
    let now = crate::install::pid(run.device)?;
    run.check("it runs on", pid == now, format!("{file}: {pid}, then {now}"));
    Ok(())
}
