//! One of the suite's result files as a story.

use anyhow::ensure;
use anyhow::Context;
use anyhow::Result;
use lmkd::pages::Fate;
use lmkd::pages::Kill;
use lmkd::pages::Life;
use lmkd::pages::Panel;
use lmkd::pages::Row;
use lmkd::pages::Series;
use lmkd::pages::Stay;
use lmkd::pages::Story;
use lmkd::pages::Table;
use lmkd::pages::Unit;
use serde_json::Value;

/// The version of result files that is read here.
const FORMAT: u64 = 1;

/// A scenario that was run.
pub struct Outcome {
    pub scenario: String,
    pub daemon: String,
    pub device: String,
    pub ok: bool,
    pub figures: Value,
    /// Milliseconds from signal to exit, of kills by lmkd.
    pub exits: Vec<f64>,
    /// Milliseconds from signal to packet.
    pub packets: Vec<f64>,
    pub story: Story,
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Milliseconds as seconds.
fn seconds(value: &Value) -> Option<f64> {
    Some(value.as_f64()? / 1000.0)
}

fn mib(value: &Value) -> f64 {
    value.as_f64().map_or(f64::NAN, |kb| kb / 1024.0)
}

impl Outcome {
    /// Of a result file's content; `n` tells it from the others of its page.
    pub fn new(file: &Value, n: usize) -> Result<Self> {
        let format = file["format"].as_u64().context("no format")?;
        ensure!(format == FORMAT, "format {format}, and only {FORMAT} is known here");
        let scenario = text(&file["scenario"]);
        let daemon = text(&file["daemon"]);
        let device = format!(
            "Linux {}, {:.0} MiB, pages of {} KiB",
            text(&file["device"]["kernel"]),
            mib(&file["device"]["memory_kb"]),
            file["device"]["page_kb"],
        );
        let ok = file["ok"].as_bool().context("no ok")?;
        let kills = kills(file);
        let mut about = vec![text(&file["title"]), device.clone()];
        for check in list(&file["checks"]).iter().filter(|check| check["ok"] != Value::Bool(true)) {
            about.push(format!("Failed: {}: {}", text(&check["name"]), text(&check["detail"])));
        }
        let story = Story {
            id: format!("scenario-{n}"),
            title: format!("{scenario}, {daemon}: {}", if ok { "pass" } else { "FAIL" }),
            text: about,
            from: 0.0,
            to: seconds(&file["length_ms"]).context("no length_ms")?,
            panels: panels(file),
            lives: lives(file, &kills),
            kills,
            tables: tables(file),
        };
        let by_lmkd =
            || list(&file["kills"]).iter().filter(|kill| text(&kill["by"]).starts_with("lmkd"));
        let since = |kill: &Value, end: &str| Some(kill[end].as_f64()? - kill["ms"].as_f64()?);
        Ok(Self {
            exits: by_lmkd().filter_map(|kill| since(kill, "exit_ms")).collect(),
            packets: by_lmkd().filter_map(|kill| since(kill, "told_ms")).collect(),
            figures: file["figures"].clone(),
            scenario,
            daemon,
            device,
            ok,
            story,
        })
    }
}

fn kills(file: &Value) -> Vec<Kill> {
    let by_daemon = list(&file["kills"]).iter().map(|kill| (kill, text(&kill["by"])));
    let by_kernel =
        list(&file["oom_kills"]).iter().map(|kill| (kill, "the kernel's OOM killer".to_owned()));
    let mut all: Vec<(&Value, String)> = by_daemon.chain(by_kernel).collect();
    all.sort_by(|a, b| {
        a.0["ms"].as_f64().unwrap_or(0.0).total_cmp(&b.0["ms"].as_f64().unwrap_or(0.0))
    });
    let kill = |(n, (kill, by)): (usize, (&Value, String))| {
        let start = kill["ms"].as_f64();
        let since = |name: &str| Some(kill[name].as_f64()? - start?);
        let mut more = Vec::new();
        if let Some(kb) = kill["freed_kb"].as_f64() {
            more.push(("freed".to_owned(), format!("{kb:.0} kB")));
        }
        if let Some(ms) = since("told_ms") {
            more.push(("packet read after".to_owned(), format!("{ms:.1} ms")));
        }
        Kill {
            at: seconds(&kill["ms"]).unwrap_or(0.0),
            label: (n + 1).to_string(),
            victim: format!("'{}' ({})", kill["name"].as_str().unwrap_or("?"), kill["pid"]),
            adj: kill["adj"].as_i64().and_then(|adj| i32::try_from(adj).ok()),
            rule: format!("by {by}"),
            reason: text(&kill["reason"]),
            latency_ms: since("exit_ms"),
            more,
            ..Kill::default()
        }
    };
    all.into_iter().enumerate().map(kill).collect()
}

fn line(file: &Value, name: &str, value: impl Fn(&Value) -> f64) -> Series {
    let points = list(&file["samples"]).iter();
    let points = points.filter_map(|sample| Some((seconds(&sample["ms"])?, value(sample))));
    Series { name: name.to_owned(), points: points.collect() }
}

/// The share of time under stall between a sample and the one before it, percent.
fn pressure(file: &Value, name: &str, field: &str) -> Series {
    let samples = list(&file["samples"]);
    let share = |pair: &[Value]| {
        let [before, now] = pair else { return None };
        let passed = now["ms"].as_f64()? - before["ms"].as_f64()?;
        let stalled = (now[field].as_f64()? - before[field].as_f64()?) / 1000.0;
        Some((seconds(&now["ms"])?, if passed > 0.0 { stalled / passed * 100.0 } else { f64::NAN }))
    };
    Series { name: name.to_owned(), points: samples.windows(2).filter_map(share).collect() }
}

fn panels(file: &Value) -> Vec<Panel> {
    let mut panels = vec![Panel {
        title: "Memory".to_owned(),
        series: vec![
            line(file, "free", |sample| mib(&sample["free_kb"])),
            line(file, "file cache", |sample| mib(&sample["file_kb"])),
            line(file, "available", |sample| mib(&sample["available_kb"])),
        ],
        ..Panel::default()
    }];
    let swap = line(file, "free swap", |sample| mib(&sample["swap_free_kb"]));
    let total = line(file, "all swap", |sample| mib(&sample["swap_total_kb"]));
    if total.points.iter().any(|(_, value)| *value > 0.0) {
        panels.push(Panel {
            title: "Swap".to_owned(),
            series: vec![swap],
            thresholds: vec![total],
            ..Panel::default()
        });
    }
    let [some, full] = [("some tasks", "some_us"), ("all tasks", "full_us")]
        .map(|(name, field)| pressure(file, name, field));
    if some.points.is_empty() {
        panels[0].about = "This kernel tells of no pressure.".to_owned();
    } else {
        panels.push(Panel {
            title: "Pressure".to_owned(),
            about: "Share of the time since the sample before that tasks stalled for memory."
                .to_owned(),
            unit: Unit::Percent,
            series: vec![some, full],
            ..Panel::default()
        });
    }
    let late = list(&file["frames"]["late"]).iter().flat_map(|frame| {
        let (at, took) = (frame["ms"].as_f64(), frame["took_ms"].as_f64());
        let (at, took) = (at.unwrap_or(0.0) / 1000.0, took.unwrap_or(0.0));
        // A frame stands alone: up from nothing and down again.
        [(at, 0.0), (at, took), (at, 0.0)]
    });
    let late: Vec<(f64, f64)> = late.collect();
    if !late.is_empty() {
        panels.push(Panel {
            title: "Late frames".to_owned(),
            about: "How long the foreground app took for a frame that was late.".to_owned(),
            unit: Unit::Millis,
            series: vec![Series { name: "frame".to_owned(), points: late }],
            ..Panel::default()
        });
    }
    panels
}

fn lives(file: &Value, kills: &[Kill]) -> Vec<Life> {
    let end = seconds(&file["length_ms"]).unwrap_or(0.0);
    let life = |app: &Value| {
        let pid = app["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok())?;
        let died = seconds(&app["died_ms"]);
        let adjs: Vec<(f64, i32)> = list(&app["adj"])
            .iter()
            .filter_map(|set| {
                Some((seconds(&set["ms"])?, i32::try_from(set["adj"].as_i64()?).ok()?))
            })
            .collect();
        let last = died.unwrap_or(end);
        let ends = adjs.iter().skip(1).map(|(at, _)| *at).chain([last]);
        let registered = adjs.first().map_or(last, |(at, _)| *at);
        let stays = adjs.iter().zip(ends).map(|((from, adj), to)| Stay {
            from: *from,
            to: to.max(*from),
            adj: Some(*adj),
        });
        let born = seconds(&app["born_ms"]).unwrap_or(0.0);
        let before = (born < registered).then_some(Stay { from: born, to: registered, adj: None });
        let stays: Vec<Stay> = before.into_iter().chain(stays).collect();
        let victim = format!("({pid})");
        let mine = |kill: &Kill| kill.victim.ends_with(&victim) && kill.at <= last + 0.001;
        let fate = match (died, kills.iter().rposition(mine)) {
            (Some(_), Some(kill)) => Fate::Killed(kill),
            (Some(_), None) => Fate::Exited,
            (None, _) => Fate::Lives,
        };
        Some(Life { name: text(&app["name"]), pid, stays, fate })
    };
    let mut lives: Vec<Life> = list(&file["apps"]).iter().filter_map(life).collect();
    // The victims first, in their order, then by what comes next.
    lives.sort_by_key(|life| {
        let turn = if let Fate::Killed(kill) = life.fate { kill } else { usize::MAX };
        (turn, -life.stays.last().and_then(|stay| stay.adj).unwrap_or(-1000), life.pid)
    });
    lives
}

fn tables(file: &Value) -> Vec<Table> {
    let table = |caption: &str, columns: &[&str], rows: Vec<Vec<String>>| Table {
        caption: caption.to_owned(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        rows: rows.into_iter().map(|cells| Row { cells, ..Row::default() }).collect(),
    };
    let checks = list(&file["checks"]).iter().map(|check| {
        let result = if check["ok"] == Value::Bool(true) { "pass" } else { "FAIL" };
        vec![result.to_owned(), text(&check["name"]), text(&check["detail"])]
    });
    let notes = list(&file["notes"]).iter().map(|note| {
        vec![format!("{:.3} s", seconds(&note["ms"]).unwrap_or(0.0)), text(&note["text"])]
    });
    let log = list(&file["log"]).iter().map(|entry| vec![text(entry)]);
    let all = [
        table("Checks", &["result", "check", "found"], checks.collect()),
        table("What the scenario did", &["at", "what"], notes.collect()),
        table("The daemon's log", &["line"], log.collect()),
    ];
    all.into_iter().filter(|table| !table.rows.is_empty()).collect()
}
