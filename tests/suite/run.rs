//! One scenario on the device: what its script can do, and what is collected for the judge.

use crate::adb::Device;
use crate::install;
use crate::interrupt;
use crate::judge::is_recorded;
use crate::remote::is;
use crate::remote::Remote;
use crate::story::Check;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::time::Duration;

/// Who watches over memory in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// The daemon under test, started by init.
    Lmkd,
    /// Debian's earlyoom, with the priorities of the apps.
    Earlyoom,
    /// Nobody but the kernel.
    Nobody,
}

impl Guard {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lmkd => "lmkd",
            Self::Earlyoom => "earlyoom",
            Self::Nobody => "none",
        }
    }
}

/// The device's swap during a scenario.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Swap {
    Off,
    On,
}

/// A scenario: a script and what it means.
#[derive(Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// Part of the set that every kernel has to pass.
    pub core: bool,
    /// Daemons are compared by it.
    pub compared: bool,
    pub swap: Swap,
    /// A shell condition that the device has to fulfil, and what it says.
    pub needs: Option<(&'static str, &'static str)>,
    /// The script itself ends the daemon under test.
    pub restarts_daemon: bool,
    pub script: fn(&mut Run<'_>) -> Result<()>,
}

/// What a daemon looked like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    pub pid: u32,
    pub rss_kb: u64,
    pub fds: u64,
    /// Without those that stand for other processes.
    pub own_fds: u64,
    pub cpu_ms: u64,
    pub wakeups: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// Processes and threads that the device has started since it booted.
    pub born: u64,
    /// When this was, by the device's monotonic clock.
    pub us: u64,
}

impl Look {
    /// How much CPU was used since an earlier look, percent of the time between on the device.
    pub fn cpu_percent_since(&self, earlier: &Self) -> u64 {
        let cpu_us = self.cpu_ms.saturating_sub(earlier.cpu_ms).saturating_mul(1000);
        cpu_us.saturating_mul(100) / self.us.saturating_sub(earlier.us).max(1)
    }

    /// How often a second it woke up since an earlier look.
    pub fn wakeups_a_second_since(&self, earlier: &Self) -> u64 {
        let wakeups = self.wakeups.saturating_sub(earlier.wakeups).saturating_mul(1_000_000);
        wakeups / self.us.saturating_sub(earlier.us).max(1)
    }
}

/// One scenario under way.
pub struct Run<'a> {
    pub device: &'a Device,
    pub remote: &'a mut Remote,
    pub guard: Guard,
    /// Index of the scenario's first event.
    pub mark: usize,
    /// The guard's process.
    pub pid: u32,
    pub checks: Vec<Check>,
    pub notes: Vec<(u64, String)>,
    /// How much of a file there is to be mapped.
    pub cache_mib: u64,
    /// Memory that could be had at the beginning.
    pub available_mib: u64,
    /// Processes that do not exit for the time being, whatever they get.
    pub held: Vec<u32>,
    /// The daemon after the script had it start anew.
    pub restarted: Option<Look>,
    now_us: u64,
    logged: LogMark,
    recorded: LogMark,
}

/// Without another SIGKILL for so long on the device, and with the consequences of all, it is over.
const QUIET_US: u64 = 1_000_000;
/// The consequences get no longer than this.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// The same at a scenario's end, where they have been waited for already.
const COLLECT_LIMIT: Duration = Duration::from_secs(3);

impl<'a> Run<'a> {
    /// Begins with an empty stage.
    pub fn new(
        device: &'a Device,
        remote: &'a mut Remote,
        guard: Guard,
        pid: u32,
        cache_mib: u64,
    ) -> Result<Self> {
        let mark = remote.mark();
        let (logged, recorded) = (LogMark::lines(device)?, LogMark::records(device)?);
        let sample = remote.wait("a sample", mark, Duration::from_secs(20), |event| {
            is(event, "sample").then(|| event.clone())
        })?;
        Ok(Self {
            device,
            remote,
            guard,
            mark,
            pid,
            checks: Vec::new(),
            notes: Vec::new(),
            cache_mib,
            available_mib: sample["available_kb"].as_u64().unwrap_or(0) / 1024,
            held: Vec::new(),
            restarted: None,
            now_us: sample["us"].as_u64().unwrap_or(0),
            logged,
            recorded,
        })
    }

    /// Notes whether something held.
    pub fn check(&mut self, name: &'static str, ok: bool, detail: impl Into<String>) {
        self.checks.push(Check { name, ok, detail: detail.into() });
    }

    /// A word at this point of time in the report.
    pub fn note(&mut self, text: impl Into<String>) {
        let events = self.remote.since(self.mark);
        let now = events.iter().filter_map(|event| event["us"].as_u64()).max();
        self.notes.push((now.unwrap_or(self.now_us), text.into()));
    }

    /// system_server connects, where there is a daemon to connect to, and asks how many it has killed so far.
    pub fn connect(&mut self) -> Result<()> {
        if self.guard == Guard::Lmkd {
            self.remote.order(json!({"do": "connect"}))?;
            self.remote.order(json!({"do": "count"}))?;
        }
        Ok(())
    }

    /// An app that just holds memory; returns its pid.
    pub fn app(&mut self, name: &str, adj: i32, mib: u64) -> Result<u32> {
        self.spawn(json!({"name": name, "adj": adj, "mib": mib}))
    }

    /// Any app; see the actor's orders.
    pub fn spawn(&mut self, mut shape: Value) -> Result<u32> {
        shape["do"] = "spawn".into();
        let answer = self.remote.order(shape)?;
        let pid = answer["pid"].as_u64().context("no pid")?;
        Ok(u32::try_from(pid)?)
    }

    /// Those who are on every stage: what may not die, and the app that the user looks at.
    ///
    /// `cache_mib` is file memory that the system keeps using, as far as there is a file.
    pub fn household(&mut self, cache_mib: u64) -> Result<()> {
        if cache_mib > self.cache_mib {
            self.note(format!("a file cache of {} MiB, not {cache_mib}", self.cache_mib));
        }
        let cache_mib = cache_mib.min(self.cache_mib);
        self.connect()?;
        self.spawn(json!({"name": "system_server", "adj": -900, "mib": 4, "kind": "sparse"}))?;
        if cache_mib > 0 {
            let reader = json!({"name": "media.swcodec", "adj": -800, "mib": cache_mib, "kind": "file", "role": "read"});
            self.spawn(reader)?;
        }
        self.spawn(json!({"name": "foreground", "adj": 0, "mib": 12, "role": "foreground"}))?;
        self.spawn(json!({"name": "hog", "mib": 0, "role": "grow"}))?;
        Ok(())
    }

    /// Lets the hog take `mib` at so many MiB a second, but no more once `deaths` apps have died, if that is not 0.
    /// Returns how many MiB it got.
    pub fn press(&mut self, mib: u64, speed: u64, deaths: u64) -> Result<u64> {
        self.press_meanwhile(mib, speed, deaths, |_| Ok(()))
    }

    /// The same, with something to do while it grows.
    pub fn press_meanwhile(
        &mut self,
        mib: u64,
        speed: u64,
        deaths: u64,
        meanwhile: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<u64> {
        let mark = self.remote.mark();
        self.note(format!("hog: {speed} MiB/s"));
        let order =
            json!({"do": "grow", "name": "hog", "mib": mib, "speed": speed, "deaths": deaths});
        self.remote.order(order)?;
        meanwhile(self)?;
        let limit = Duration::from_secs(60 + 4 * mib / speed.max(1));
        let grown = self.remote.wait("the hog", mark, limit, |event| {
            if is(event, "death") && event["name"] == "hog" {
                return Some(Err(()));
            }
            is(event, "grown").then(|| Ok(event["mib"].as_u64().unwrap_or(0)))
        })?;
        let Ok(grown) = grown else { bail!("the hog died") };
        self.note("hog: stops");
        self.settle()?;
        Ok(grown)
    }

    /// Waits for the consequences: each process that got a SIGKILL is dead and a subscriber was told, and no other
    /// follows. What does not come in time is the judge's concern.
    pub fn settle(&self) -> Result<()> {
        let start = std::time::Instant::now();
        while start.elapsed() < SETTLE_LIMIT && !self.is_settled(&self.remote.since(self.mark)) {
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// The events to judge: those so far, with the consequences of every SIGKILL among them. One that comes as they are
    /// taken is waited for as well.
    pub fn collect(&self) -> Result<Vec<Value>> {
        let start = std::time::Instant::now();
        loop {
            let events = self.remote.since(self.mark);
            if self.is_settled(&events) || start.elapsed() > COLLECT_LIMIT {
                return Ok(events);
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_settled(&self, events: &[Value]) -> bool {
        let now = events.iter().filter_map(|event| event["us"].as_u64()).max().unwrap_or(0);
        let stop = events.iter().rfind(|event| is(event, "grown"));
        let mut last = stop.and_then(|event| event["us"].as_u64()).unwrap_or(0);
        let apps: Vec<&Value> = events.iter().filter(|event| is(event, "app")).collect();
        for kill in events.iter().filter(|event| self.is_signal(event)) {
            let pid = &kill["pid"];
            if !apps.iter().any(|app| app["pid"] == *pid) {
                continue;
            }
            last = last.max(kill["us"].as_u64().unwrap_or(0));
            let saw = |kind| events.iter().any(|event| is(event, kind) && event["pid"] == *pid);
            let held = self.held.iter().any(|held| pid == held);
            let told = self.guard != Guard::Lmkd || saw("told");
            if !(told && (held || saw("death"))) {
                return false;
            }
        }
        // Its parent may tell of a death before the kernel's record does.
        let by_signal =
            |event: &&Value| is(event, "death") && event["ended"] == false && event["end"] == 9;
        if !events.iter().filter(by_signal).all(|death| is_recorded(events, death)) {
            return false;
        }
        now.saturating_sub(last) >= QUIET_US
    }

    /// A SIGKILL that came from another than the actor and the kernel.
    fn is_signal(&self, event: &Value) -> bool {
        is(event, "sigkill") && event["kernel"] == false && event["by_tid"] != self.remote.pid()
    }

    /// Names of the apps that got a SIGKILL, in its order. Deaths may come in another.
    pub fn victims(&self) -> Vec<String> {
        self.victims_since(0)
    }

    /// The same from that time of the device on, in microseconds.
    pub fn victims_since(&self, us: u64) -> Vec<String> {
        let events = self.remote.since(self.mark);
        let mut kills: Vec<&Value> = events.iter().filter(|event| self.is_signal(event)).collect();
        kills.retain(|event| event["us"].as_u64() >= Some(us));
        kills.sort_by_key(|event| event["us"].as_u64());
        let name = |kill: &Value| {
            let app = events.iter().rfind(|app| is(app, "app") && app["pid"] == kill["pid"])?;
            app["name"].as_str().map(str::to_owned)
        };
        kills.into_iter().filter_map(name).collect()
    }

    /// Registered apps that have died without the actor's doing, in order.
    pub fn deaths(&self) -> Vec<String> {
        let events = self.remote.since(self.mark);
        let deaths = events.iter().filter(|event| is(event, "death") && event["ended"] != true);
        deaths.filter_map(|event| event["name"].as_str().map(str::to_owned)).collect()
    }

    /// SIGKILLs to a process that came from another: when, and by whom.
    pub fn signals(&self, pid: u32) -> Vec<(u64, String)> {
        let events = self.remote.since(self.mark);
        let ours = events.iter().filter(|event| self.is_signal(event) && event["pid"] == pid);
        let text = |event: &Value| event["by"].as_str().unwrap_or("").to_owned();
        ours.map(|event| (event["us"].as_u64().unwrap_or(0), text(event))).collect()
    }

    /// Keeps an app from exiting once it is killed.
    pub fn hold(&mut self, name: &str, pid: u32) -> Result<()> {
        self.held.push(pid);
        self.remote.order(json!({"do": "hold", "name": name})).map(drop)
    }

    /// Lets it go, and waits until it has exited.
    pub fn release(&mut self, name: &str, pid: u32) -> Result<()> {
        self.held.retain(|held| *held != pid);
        self.remote.order(json!({"do": "release", "name": name}))?;
        self.remote.wait("an exit", self.mark, Duration::from_secs(30), |event| {
            (is(event, "death") && event["pid"] == pid).then_some(())
        })
    }

    /// When a process was seen dead by its parent.
    pub fn died(&self, pid: u32) -> Option<u64> {
        let events = self.remote.since(self.mark);
        events.iter().find(|event| is(event, "death") && event["pid"] == pid)?["us"].as_u64()
    }

    /// The daemon's lines of this scenario.
    pub fn own_log(&self) -> Result<Vec<String>> {
        self.logged.since(self.device)
    }

    /// The daemon's event records of this scenario.
    pub fn own_records(&self) -> Result<Vec<String>> {
        self.recorded.since(self.device)
    }

    /// What the guard has cost so far.
    pub fn look(&mut self) -> Result<Look> {
        look(self.remote, self.pid)
    }

    /// Has the daemon start anew and system_server connect; for tunables that are read at start.
    pub fn restart_daemon(&mut self) -> Result<()> {
        self.remote.order(json!({"do": "disconnect"}))?;
        install::restart(self.device)?;
        self.is_new()
    }

    /// The daemon is another process now, and is compared with what that looks like at its beginning.
    pub fn is_new(&mut self) -> Result<()> {
        self.pid = install::pid(self.device)?;
        self.restarted = Some(self.look()?);
        Ok(())
    }
}

/// What a process has cost so far.
pub fn look(remote: &mut Remote, pid: u32) -> Result<Look> {
    let seen = remote.order(json!({"do": "look", "pid": pid}))?;
    let number = |key: &str| seen[key].as_u64().unwrap_or(0);
    Ok(Look {
        pid,
        rss_kb: number("rss_kb"),
        fds: number("fds"),
        own_fds: number("own_fds"),
        cpu_ms: number("cpu_ms"),
        wakeups: number("wakeups"),
        minor_faults: number("minor_faults"),
        major_faults: number("major_faults"),
        born: number("born"),
        us: number("us"),
    })
}

/// A place in what the device keeps of the daemon's: the line before it. The device forgets old lines, so counting them is
/// no good.
pub struct LogMark {
    command: &'static str,
    before: Option<String>,
}

impl LogMark {
    /// The end of its log.
    pub fn lines(device: &Device) -> Result<Self> {
        Self::new(device, "logcat -d -s lowmemorykiller")
    }

    /// The end of its event records of kills. Ids of processes come again, so those of earlier kills are no good either.
    pub fn records(device: &Device) -> Result<Self> {
        Self::new(device, "logcat -d -b events -s killinfo")
    }

    fn new(device: &Device, command: &'static str) -> Result<Self> {
        let before = device.shell(command)?.lines().next_back().map(str::to_owned);
        Ok(Self { command, before })
    }

    /// The lines after it; all, once it is forgotten itself.
    pub fn since(&self, device: &Device) -> Result<Vec<String>> {
        let text = device.shell(self.command)?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        // A line begins with its time, so there are no two.
        let before = lines.iter().rposition(|line| Some(line) == self.before.as_ref());
        Ok(lines.split_off(before.map_or(0, |before| before + 1)))
    }
}
