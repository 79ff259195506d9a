//! Runs scenarios one after the other, and prints and keeps what they showed.

use crate::adb::Device;
use crate::args::Args;
use crate::install;
use crate::interrupt;
use crate::judge;
use crate::judge::Evidence;
use crate::latency::Latencies;
use crate::remote::is;
use crate::remote::Remote;
use crate::run::look;
use crate::run::Guard;
use crate::run::LogMark;
use crate::run::Look;
use crate::run::Run;
use crate::run::Scenario;
use crate::run::Swap;
use crate::state::State;
use crate::state::ACTOR;
use crate::state::CACHE;
use crate::state::FOLDER;
use crate::state::LMKCTL;
use crate::state::RECORDING;
use crate::state::SWAPS;
use crate::story::Check;
use crate::story::Device as Machine;
use crate::story::Story;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::time::Duration;
use std::time::Instant;

/// The kernel's record of a kill is no later than that.
const SIGNAL_LIMIT: Duration = Duration::from_secs(5);
/// Size of the file that stands for the code of apps: more than most scenarios keep in use.
const CACHE_MIB: u32 = 1024;

/// The kernel's counter of OOM kills.
fn oom_kills(device: &Device) -> Result<u64> {
    let line = device.shell("grep '^oom_kill ' /proc/vmstat")?;
    line.trim().rsplit(' ').next().and_then(|number| number.parse().ok()).context("oom_kill")
}

/// A file that memory can be mapped from and whose pages the kernel can drop, and how many MiB it has.
///
/// On a device that lives in memory, a disk; else a file of our own, written anew if an earlier run left it short.
fn cache_file(device: &Device) -> Result<(String, u64)> {
    let script = format!(
        "case $(stat -f -c %T {FOLDER}) in
        *tmpfs* | *ramfs* | *rootfs* | UNKNOWN*) for disk in /dev/vd? /dev/block/vd?; do
            [ ! -b $disk ] || {{ echo $disk $(($(cat /sys/class/block/${{disk##*/}}/size) / 2048)); break; }}
            done ;;
        *) file={CACHE}
            [ $(stat -c %s $file 2>/dev/null || echo 0) = $(({CACHE_MIB} * 1048576)) ] ||
                dd if=/dev/zero of=$file bs=1048576 count={CACHE_MIB} 2>/dev/null ||
                {{ rm -f $file; echo 'no room for the file' >&2; exit 1; }}
            echo $file {CACHE_MIB} ;; esac"
    );
    let found = device.shell(&script)?;
    let found = found.trim().split_once(' ');
    let (file, mib) = found.context("the device has no disk to map memory from")?;
    device.shell(&format!("chmod a+r {file}"))?;
    Ok((file.to_owned(), mib.parse().context("the size of the disk")?))
}

/// The shell commands that turn the device's swap on or off; where there is none, half the memory in zram.
fn swap_script(swap: Swap, before: &State) -> String {
    let own = before.own_swap();
    match swap {
        Swap::Off => {
            format!("{SWAPS} | while read -r file priority; do swapoff $file || exit 1; done")
        }
        Swap::On if own.is_empty() => "[ $(wc -l </proc/swaps) -gt 1 ] && exit 0
            for disk in /dev/block/zram0 /dev/zram0; do [ ! -b $disk ] || break; done
            if [ $(cat /sys/block/zram0/disksize) = 0 ]; then
                read -r name total unit </proc/meminfo
                echo lzo-rle >/sys/block/zram0/comp_algorithm
                echo $((total / 2))K >/sys/block/zram0/disksize
            fi
            mkswap $disk >/dev/null && swapon $disk"
            .to_owned(),
        Swap::On => format!("[ $(wc -l </proc/swaps) -gt 1 ] && exit 0\n set -e\n{own}"),
    }
}

/// Runs every scenario asked for; whether all passed.
pub fn all(device: &Device, args: &Args, guard: Guard, before: &State) -> Result<bool> {
    // Apps, which are users of their own, start the actor and map the file.
    device.shell(&format!("mkdir -p {FOLDER} && chmod 755 {FOLDER}"))?;
    device.push(&args.actor, ACTOR)?;
    device.shell(&format!("chmod 755 {ACTOR}"))?;
    if let Some(lmkctl) = &args.lmkctl {
        device.push(lmkctl, LMKCTL)?;
        device.shell(&format!("chmod 755 {LMKCTL}"))?;
    }
    let cache = cache_file(device)?;
    if guard != Guard::Lmkd {
        install::stop(device)?;
    }
    let (mut passed, mut failure, mut first) = (true, None, None);
    let mut latencies = Latencies::default();
    for scenario in args.scenarios() {
        let played = match lacks(device, &scenario) {
            Ok(Some(what)) => {
                println!("skip {}: needs {what}", scenario.name);
                continue;
            }
            Ok(None) => one(device, args, guard, &scenario, &cache, before, &mut first),
            Err(error) => Err(error),
        };
        let story = match played {
            Ok(story) => story,
            Err(error) => {
                passed = false;
                println!("{} {}: {error:#}", verdict(guard, false), scenario.name);
                // What broke this scenario must not take the others with it, unless nothing answers any more.
                if let Err(error) = interrupt::check().and_then(|()| recover(device, guard)) {
                    failure = Some(error);
                    break;
                }
                continue;
            }
        };
        let path = args.out.join(format!("{}.{}.json", scenario.name, guard.name()));
        std::fs::write(&path, story.to_json().to_string())
            .with_context(|| path.display().to_string())?;
        if args.lmkctl.is_some() && guard == Guard::Lmkd {
            let file = args.out.join(format!("{}.rec", scenario.name));
            let recorded = device.shell(&format!("{LMKCTL} record {RECORDING}"));
            if let Err(error) = recorded.and_then(|_| device.pull(RECORDING, &file)) {
                println!("     no recording: {error:#}");
            }
        }
        print(&story, guard);
        latencies.add(&story.log);
        passed &= story.ok();
    }
    if guard == Guard::Lmkd {
        println!("latencies of the run: {latencies}");
    }
    if failure.is_some() {
        interrupt::put_off();
    }
    if guard != Guard::Lmkd {
        install::start(device)?;
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(passed),
    }
}

/// What the device does not have that the scenario needs.
fn lacks(device: &Device, scenario: &Scenario) -> Result<Option<&'static str>> {
    let Some((condition, what)) = scenario.needs else { return Ok(None) };
    Ok((!device.fulfils(condition)?).then_some(what))
}

/// The first word of a scenario's line. Of other guards only the figures count: they have nothing to pass.
fn verdict(guard: Guard, ok: bool) -> &'static str {
    match (guard, ok) {
        (Guard::Lmkd, true) => "pass",
        (Guard::Lmkd, false) => "fail",
        (Guard::Earlyoom | Guard::Nobody, _) => "played",
    }
}

/// Waits until the device answers and, where it has one, its daemon takes connections again.
fn recover(device: &Device, guard: Guard) -> Result<()> {
    device.wait_until("an answer of the device", Duration::from_secs(60), "true")?;
    match guard {
        Guard::Lmkd => listening_pid(device).map(drop),
        Guard::Earlyoom | Guard::Nobody => Ok(()),
    }
}

/// The daemon's process once it listens: init leaves 5 s between a crash and the next start.
fn listening_pid(device: &Device) -> Result<u32> {
    install::wait_until_it_listens(device)?;
    let lives = "test -d /proc/$(getprop init.svc_debug_pid.lmkd)/fd";
    device.wait_until("the daemon's process", Duration::from_secs(60), lives)?;
    install::pid(device)
}

fn print(story: &Story, guard: Guard) {
    let verdict = verdict(guard, story.ok());
    println!("{verdict} {} ({}, {:.1} s)", story.scenario, story.daemon, story.length_ms / 1000.0);
    for check in &story.checks {
        if !check.ok {
            println!("     not: {}: {}", check.name, check.detail);
        }
    }
    if !story.kills.is_empty() && guard == Guard::Lmkd {
        let mut latencies = Latencies::default();
        latencies.add(&story.log);
        println!("     {latencies}");
    }
    for kill in &story.kills {
        let latency = kill.exit_ms.map_or(0.0, |exit| exit - kill.ms);
        println!(
            "     {:>8.0} ms: {} ({}) gone after {latency:.1} ms; {}",
            kill.ms,
            kill.name,
            kill.adj.unwrap_or(0),
            kill.reason.as_deref().unwrap_or("?"),
        );
    }
}

/// One scenario, from an empty stage to an empty stage.
fn one(
    device: &Device,
    args: &Args,
    guard: Guard,
    scenario: &Scenario,
    (cache, cache_mib): &(String, u64),
    found: &State,
    first: &mut Option<Look>,
) -> Result<Story> {
    interrupt::check()?;
    // Another scenario may have ended in the middle.
    let settled = found.settle(device)?;
    let swap = swap_script(scenario.swap, found);
    device.shell(&format!("sync; echo 3 >/proc/sys/vm/drop_caches\n{swap}"))?;
    let mut remote = Remote::start(ACTOR, cache)?;
    let hello = remote.since(0).into_iter().find(|event| is(event, "hello")).unwrap_or_default();
    let pid = guard_pid(device, args, guard, &mut remote)?;
    if settled && guard == Guard::Lmkd {
        // init's own word to the daemon may come later.
        for order in ["connect", "update_props", "disconnect"] {
            remote.order(json!({"do": order}))?;
        }
    }
    let before = pid.map(|pid| look(&mut remote, pid)).transpose()?;
    let oom_before = oom_kills(device)?;
    let refused_before = refusals(device)?;
    let (logged, recorded) = (LogMark::lines(device)?, LogMark::records(device)?);
    let mut run = Run::new(device, &mut remote, guard, pid.unwrap_or(0), *cache_mib)?;
    let done = (scenario.script)(&mut run);
    let events = run.collect()?;
    let Run { mut checks, notes, pid, restarted, .. } = run;
    let name = "the script ran to its end";
    checks.insert(0, Check { name, ok: done.is_ok(), detail: why(&done) });
    // Before the stage is cleared, so that what it costs the daemon is not counted.
    let spent = (pid > 0).then(|| look(&mut remote, pid).ok()).flatten();
    let Cleared { stage, answer, after } = clear(&mut remote, guard, pid);
    if guard == Guard::Lmkd {
        let traced = hello["trace"].as_str().unwrap_or("no hello");
        // Else there are no signals to judge.
        checks.push(Check {
            name: "the kernel's record is there",
            ok: traced == "yes",
            detail: traced.to_owned(),
        });
        let name = "the stage could be cleared";
        checks.push(Check { name, ok: stage.is_ok(), detail: why(&stage) });
        if stage.is_ok() {
            checks.push(Check {
                name: "the daemon answers",
                ok: answer.is_ok(),
                detail: why(&answer),
            });
        }
    }
    let (lines, records) = match guard {
        Guard::Lmkd => (logged.since(device)?, recorded.since(device)?),
        Guard::Earlyoom | Guard::Nobody => (Vec::new(), Vec::new()),
    };
    let all = kernels_word(&remote, &lines, &records);
    let mut refusals = refusals(device)?;
    refusals.retain(|line| !refused_before.contains(line));
    refusals.extend(lines.iter().filter(|line| is_refusal(line)).cloned());
    let evidence = Evidence {
        events: &events,
        all: &all,
        log: &lines,
        records: &records,
        actor: remote.pid(),
        before,
        after: if guard == Guard::Lmkd { after.map(|after| costs(after, spent)) } else { spent },
        oom_kills: (oom_before, oom_kills(device)?),
        refusals: &refusals,
        restarts_daemon: scenario.restarts_daemon,
        restarted,
        unseen: guard == Guard::Lmkd && after.is_none() && may_run_on(device, pid),
        first: first.filter(|first| first.pid == pid),
        framework: hello["framework"] == true,
    };
    let mut story = Story {
        scenario: scenario.name.to_owned(),
        title: scenario.title.to_owned(),
        daemon: guard.name().to_owned(),
        device: machine(device, &hello),
        checks,
        ..Story::default()
    };
    *first = evidence.first.or(after);
    judge::tell(&mut story, &evidence);
    if guard == Guard::Lmkd {
        judge::judge(&mut story, &evidence);
    } else {
        // What it was played for is its figures.
        story.checks.truncate(1);
    }
    let start = events.iter().filter_map(|event| event["us"].as_u64()).min().unwrap_or(0);
    let at = |us: u64| Duration::from_micros(us.saturating_sub(start)).as_secs_f64() * 1000.0;
    story.notes = notes.into_iter().map(|(us, text)| (at(us), text)).collect();
    drop(remote);
    Ok(story)
}

/// Memory and descriptors of the end, costs of the scenario itself.
fn costs(after: Look, spent: Option<Look>) -> Look {
    let Some(spent) = spent else { return after };
    let Look { cpu_ms, wakeups, minor_faults, .. } = spent;
    Look { cpu_ms, wakeups, minor_faults, ..after }
}

fn machine(device: &Device, hello: &Value) -> Machine {
    Machine {
        serial: device.serial.clone(),
        kernel: hello["kernel"].as_str().unwrap_or("").to_owned(),
        memory_kb: hello["machine"]["total_kb"].as_u64().unwrap_or(0),
        page_kb: hello["page_kb"].as_u64().unwrap_or(0),
    }
}

/// Who watches, once that is up.
fn guard_pid(
    device: &Device,
    args: &Args,
    guard: Guard,
    remote: &mut Remote,
) -> Result<Option<u32>> {
    match guard {
        Guard::Nobody => Ok(None),
        Guard::Lmkd => listening_pid(device).map(Some),
        Guard::Earlyoom => {
            let command = args.earlyoom.as_ref().context("--earlyoom is missing")?;
            let argv = ["sh".to_owned(), "-c".to_owned(), format!("exec {command}")];
            let order = json!({"do": "run", "name": "earlyoom", "argv": argv});
            let pid = remote.order(order)?["pid"].as_u64().context("no pid")?;
            Ok(Some(u32::try_from(pid)?))
        }
    }
}

/// All that the actor has told so far, with the kernel's word on each kill that the daemon has told of: it may come later.
fn kernels_word(remote: &Remote, lines: &[String], records: &[String]) -> Vec<Value> {
    let start = Instant::now();
    for pid in judge::claimed(&remote.since(0), lines, records) {
        let signal = |event: &Value| (is(event, "sigkill") && event["pid"] == pid).then_some(());
        // What does not come is the judge's concern.
        let _ = remote.wait("a signal", 0, SIGNAL_LIMIT.saturating_sub(start.elapsed()), signal);
    }
    remote.since(0)
}

/// Why something is not so; empty if it is.
fn why<T>(what: &Result<T>) -> String {
    what.as_ref().map_or_else(|error| format!("{error:#}"), |_| String::new())
}

/// A stage after a scenario.
struct Cleared {
    /// All that was on it has ended.
    stage: Result<()>,
    /// The daemon's, if the stage is empty.
    answer: Result<()>,
    /// The daemon.
    after: Option<Look>,
}

/// Ends all that is on stage, waits until the daemon has noticed, and looks at it.
fn clear(remote: &mut Remote, guard: Guard, pid: u32) -> Cleared {
    let mut cleared = Cleared { stage: remote.empty_stage(), answer: Ok(()), after: None };
    if guard != Guard::Lmkd {
        return cleared;
    }
    if cleared.stage.is_ok() {
        // After the answer all earlier events of the daemon's loop have been served.
        cleared.answer = remote.order(json!({"do": "count"})).map(drop);
        cleared.stage = remote.order(json!({"do": "disconnect"})).map(drop);
        std::thread::sleep(Duration::from_millis(300));
    }
    cleared.after = look(remote, pid).ok();
    cleared
}

/// Whether a daemon that could not be looked at is still the one that init has started: adb may have broken, which is not
/// the daemon's. True also if init cannot be asked.
fn may_run_on(device: &Device, pid: u32) -> bool {
    let known = device.property("init.svc_debug_pid.lmkd");
    known.map_or(true, |known| known == pid.to_string())
}

/// What SELinux has refused the daemon so far.
fn refusals(device: &Device) -> Result<Vec<String>> {
    let text = device.shell("dmesg | grep 'avc: .*scontext=u:r:lmkd:s0' || true")?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// A line of the daemon's that says it had no right to something: EPERM or EACCES.
fn is_refusal(line: &str) -> bool {
    ["Operation not permitted", "Permission denied", "EPERM", "EACCES"]
        .iter()
        .any(|words| line.contains(words))
}
