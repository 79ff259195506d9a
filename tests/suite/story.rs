//! What one scenario left behind, as the JSON file that reports are drawn from.
//!
//! One object per file, `NAME.DAEMON.json`. Times are milliseconds since the scenario began, sizes kB:
//!
//! ```text
//! {"format": 1, "scenario": "slow-growth", "title": "...", "daemon": "lmkd", "ok": true,
//!  "device": {"serial": "127.0.0.1:6520", "kernel": "6.1.0-56-cloud-amd64", "memory_kb": 493000, "page_kb": 4},
//!  "length_ms": 12000,
//!  "checks":  [{"name": "victims fall in oom_score_adj", "ok": true, "detail": "[900, 800]"}],
//!  "samples": [{"ms": 0, "free_kb": 1, "file_kb": 1, "available_kb": 1, "swap_total_kb": 0, "swap_free_kb": 0,
//!               "some_us": 0, "full_us": 0}],
//!  "apps":    [{"pid": 120, "name": "cached-1", "kb": 25600, "born_ms": 5, "died_ms": 900, "signal": 9,
//!               "adj": [{"ms": 7, "adj": 900}]}],
//!  "kills":   [{"ms": 880, "pid": 120, "name": "cached-1", "adj": 900, "by": "lmkd", "reason": "...",
//!               "exit_ms": 900, "told_ms": 881, "freed_kb": 25600, "outsider": false}],
//!  "oom_kills": [{"ms": 950, "pid": 120}],
//!  "notes":   [{"ms": 400, "text": "hog: 25 MiB/s"}],
//!  "frames":  {"count": 700, "over_16_ms": 3, "over_100_ms": 1, "over_1000_ms": 0, "longest_ms": 130,
//!              "late": [{"ms": 860, "took_ms": 130}]},
//!  "figures": {"some_ms": 300, "full_ms": 20, "kills": 2, "freed_kb_per_kill": 25600, "oom_kills": 0,
//!              "daemon_cpu_ms": 12, "daemon_wakeups": 40, "frames_over_16_ms": 3, "frames_over_100_ms": 1,
//!              "frames_over_1000_ms": 0},
//!  "log": ["Kill 'cached-1' (120), uid 10000, ..."]}
//! ```
//!
//! `some_us` and `full_us` are the kernel's running totals of /proc/pressure/memory (null without PSI): pressure is
//! their slope. `died_ms`, `signal`, `exit_ms` and `told_ms` are null for what did not happen. A kill's latency is
//! `exit_ms - ms`; `told_ms` is when a subscribed client read the daemon's packet.

use serde_json::json;
use serde_json::Value;

/// The number in every file; it changes when a reader of old files would misread a new one.
pub const FORMAT: u32 = 1;

/// A moment's memory.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub ms: f64,
    pub free_kb: u64,
    pub file_kb: u64,
    pub available_kb: u64,
    pub swap_total_kb: u64,
    pub swap_free_kb: u64,
    pub some_us: Option<u64>,
    pub full_us: Option<u64>,
}

/// A process of the scenario.
#[derive(Clone, Debug, Default)]
pub struct App {
    pub pid: u32,
    pub name: String,
    pub kb: u64,
    pub born_ms: f64,
    pub died_ms: Option<f64>,
    pub signal: Option<i32>,
    /// Its importance from that time on; empty for what was never registered.
    pub adj: Vec<(f64, i32)>,
}

/// A SIGKILL that a process, not the kernel, sent to one of the apps; or a SIGTERM, if the guard sent it. Also a SIGKILL
/// of the guard's to somebody else.
#[derive(Clone, Debug, Default)]
pub struct Kill {
    pub ms: f64,
    pub pid: u32,
    pub name: String,
    pub adj: Option<i32>,
    /// Name of the sending thread.
    pub by: String,
    pub reason: Option<String>,
    pub exit_ms: Option<f64>,
    pub told_ms: Option<f64>,
    pub freed_kb: Option<u64>,
    /// It was a SIGTERM.
    pub asked: bool,
    /// The victim was none of the actor's: its name and oom_score_adj are the daemon's word.
    pub outsider: bool,
}

/// How smoothly the foreground app ran.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    pub count: u64,
    pub over_16_ms: u64,
    pub over_100_ms: u64,
    pub over_1000_ms: u64,
    pub longest_ms: f64,
    /// Frames that took more than 100 ms: when, and how long.
    pub late: Vec<(f64, f64)>,
}

/// One thing that a scenario must have shown.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: &'static str,
    pub ok: bool,
    pub detail: String,
}

/// What daemons are compared by.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub some_ms: f64,
    pub full_ms: f64,
    pub kills: u64,
    pub freed_kb_per_kill: u64,
    pub oom_kills: u64,
    pub daemon_cpu_ms: u64,
    pub daemon_wakeups: u64,
}

/// The machine that it ran on.
#[derive(Clone, Debug, Default)]
pub struct Device {
    pub serial: String,
    pub kernel: String,
    pub memory_kb: u64,
    pub page_kb: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Story {
    pub scenario: String,
    pub title: String,
    pub daemon: String,
    pub device: Device,
    pub length_ms: f64,
    pub checks: Vec<Check>,
    pub samples: Vec<Sample>,
    pub apps: Vec<App>,
    pub kills: Vec<Kill>,
    /// Processes that the kernel's OOM killer chose: when and which.
    pub oom_kills: Vec<(f64, u32)>,
    pub notes: Vec<(f64, String)>,
    pub frames: Option<Frames>,
    pub figures: Figures,
    pub log: Vec<String>,
}

impl Story {
    /// Whether every check held.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    /// The file's contents.
    pub fn to_json(&self) -> Value {
        let frames = self.frames.as_ref();
        json!({
            "format": FORMAT,
            "scenario": self.scenario,
            "title": self.title,
            "daemon": self.daemon,
            "ok": self.ok(),
            "device": {
                "serial": self.device.serial,
                "kernel": self.device.kernel,
                "memory_kb": self.device.memory_kb,
                "page_kb": self.device.page_kb,
            },
            "length_ms": self.length_ms,
            "checks": list(&self.checks, |check| json!({
                "name": check.name, "ok": check.ok, "detail": check.detail,
            })),
            "samples": list(&self.samples, |sample| json!({
                "ms": sample.ms,
                "free_kb": sample.free_kb,
                "file_kb": sample.file_kb,
                "available_kb": sample.available_kb,
                "swap_total_kb": sample.swap_total_kb,
                "swap_free_kb": sample.swap_free_kb,
                "some_us": sample.some_us,
                "full_us": sample.full_us,
            })),
            "apps": list(&self.apps, |app| json!({
                "pid": app.pid,
                "name": app.name,
                "kb": app.kb,
                "born_ms": app.born_ms,
                "died_ms": app.died_ms,
                "signal": app.signal,
                "adj": list(&app.adj, |(ms, adj)| json!({"ms": ms, "adj": adj})),
            })),
            "kills": list(&self.kills, |kill| json!({
                "ms": kill.ms,
                "pid": kill.pid,
                "name": kill.name,
                "adj": kill.adj,
                "by": kill.by,
                "reason": kill.reason,
                "exit_ms": kill.exit_ms,
                "told_ms": kill.told_ms,
                "freed_kb": kill.freed_kb,
                "outsider": kill.outsider,
            })),
            "oom_kills": list(&self.oom_kills, |(ms, pid)| json!({"ms": ms, "pid": pid})),
            "notes": list(&self.notes, |(ms, text)| json!({"ms": ms, "text": text})),
            "frames": frames.map(|frames| json!({
                "count": frames.count,
                "over_16_ms": frames.over_16_ms,
                "over_100_ms": frames.over_100_ms,
                "over_1000_ms": frames.over_1000_ms,
                "longest_ms": frames.longest_ms,
                "late": list(&frames.late, |(ms, took)| json!({"ms": ms, "took_ms": took})),
            })),
            "figures": {
                "some_ms": self.figures.some_ms,
                "full_ms": self.figures.full_ms,
                "kills": self.figures.kills,
                "freed_kb_per_kill": self.figures.freed_kb_per_kill,
                "oom_kills": self.figures.oom_kills,
                "daemon_cpu_ms": self.figures.daemon_cpu_ms,
                "daemon_wakeups": self.figures.daemon_wakeups,
                "frames_over_16_ms": frames.map_or(0, |frames| frames.over_16_ms),
                "frames_over_100_ms": frames.map_or(0, |frames| frames.over_100_ms),
                "frames_over_1000_ms": frames.map_or(0, |frames| frames.over_1000_ms),
            },
            "log": self.log,
        })
    }
}

fn list<T>(items: &[T], each: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(each).collect()
}
