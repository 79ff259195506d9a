//! Kernels and devices that lack something.

use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::scenarios::BASE;
use anyhow::Result;
use std::time::Duration;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "low-ram",
        title: "a device with little memory",
        needs: Some(("test \"$(getprop ro.config.low_ram)\" = true", "ro.config.low_ram")),
        script: low_ram,
        ..BASE
    },
    Scenario {
        name: "no-psi",
        title: "a kernel without PSI",
        needs: Some(("! cat /proc/pressure/memory >/dev/null 2>&1", "psi=0")),
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
    two_deaths(run, 15)?;
    let armed = run.log()?.iter().any(|line| line.contains("some 200 ms"));
    run.check("the pressure threshold is the one for low RAM", armed, "");
    Ok(())
}

fn no_psi(run: &mut Run<'_>) -> Result<()> {
    let said = run.log()?.iter().any(|line| line.contains("psi=1"));
    run.check("the daemon says what is missing, and the remedy", said, "");
    two_deaths(run, 10)
}

/// Each of these files gives nothing, or cannot be written; the daemon goes on with what is left.
fn proc_files(run: &mut Run<'_>) -> Result<()> {
    let hide = "for file in zoneinfo vmstat pressure/memory; do
        mount -o bind /data/local/tmp/empty /proc/$file || exit 1; done";
    let show = "for file in zoneinfo vmstat pressure/memory; do umount -l /proc/$file; done; true";
    run.device.shell(
        "rm -f /data/local/tmp/empty; : >/data/local/tmp/empty; chmod 444 /data/local/tmp/empty",
    )?;
    run.device.shell(hide)?;
    let blind = blindly(run);
    run.device.shell(show)?;
    blind?;
    run.note("the files are back");
    run.restart_daemon()?;
    two_deaths(run, 25)
}

fn blindly(run: &mut Run<'_>) -> Result<()> {
    run.restart_daemon()?;
    let first = run.pid;
    std::thread::sleep(Duration::from_secs(5));
    let now = crate::install::pid(run.device)?;
    run.check("without the files it runs on", first == now, format!("{first}, then {now}"));
    let before = run.look()?;
    std::thread::sleep(Duration::from_secs(2));
    let after = run.look()?;
    let spent = after.cpu_percent_since(&before);
    run.check("and does not spin", spent < 20, format!("{spent}% of a CPU"));
    let complaints = run
        .own_log()?
        .iter()
        .filter(|line| line.contains("zoneinfo") || line.contains("vmstat"))
        .count();
    run.check("and says what is missing", complaints > 0, format!("{complaints} lines"));
    Ok(())
}
