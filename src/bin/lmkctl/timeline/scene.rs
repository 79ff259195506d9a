//! The lines of a story: memory, watermarks, swap, pressure, thrashing, each with its thresholds.

use super::Moment;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::pages::float;
use lmkd::pages::Panel;
use lmkd::pages::Series;
use lmkd::pages::Unit;
use lmkd::policy::Level;
use lmkd::policy::Signals;
use lmkd::policy::Trigger;
use lmkd::recorder::Look;
use lmkd::units::PageSize;
use lmkd::units::Pages;

/// A look as one telling has it: the facts are the recorded ones, signals and settings may be a
/// replay's.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The recorded look.
    pub moment: Moment<'a>,
    /// What the decision made of it.
    pub signals: Option<Signals>,
    /// What it compared that with.
    pub tunables: Option<&'a Tunables>,
}

impl<'a> View<'a> {
    /// As it was recorded.
    pub fn recorded(moment: Moment<'a>) -> Self {
        let signals = moment.look.seen.as_ref().and_then(|seen| seen.verdict.signals);
        Self { moment, signals, tunables: moment.tunables }
    }

    fn sample(&self) -> Option<&'a Sample> {
        self.moment.look.seen.as_ref().map(|seen| &seen.sample)
    }
}

fn mib(pages: Pages, page: PageSize) -> f64 {
    float(pages.to_kib(page).get()) / 1024.0
}

fn file_cache(sample: &Sample) -> Pages {
    sample.meminfo.active_file + sample.meminfo.inactive_file
}

fn centi_percent(value: i64) -> f64 {
    float(value) / 100.0
}

/// Free memory, file cache, free swap and stall at a look.
pub fn memory_in_words(look: &Look, page: PageSize) -> String {
    let Some(seen) = &look.seen else { return "memory was not looked at".to_owned() };
    let sample = &seen.sample;
    let free = seen.verdict.signals.map_or(sample.meminfo.free, |signals| signals.free);
    let (free, file) = (mib(free, page), mib(file_cache(sample), page));
    let mut text = format!("free {free:.1} MiB, file cache {file:.1} MiB");
    let (swap, all) = (mib(sample.meminfo.swap_free, page), mib(sample.meminfo.swap_total, page));
    if all > 0.0 {
        text.push_str(&format!(", free swap {swap:.1} of {all:.1} MiB"));
    }
    if let Some(stall) = sample.stall {
        let share = centi_percent(stall.full_avg10_centi);
        text.push_str(&format!(", all tasks stalled {share:.2}% of 10 s"));
    }
    text
}

/// Between looks farther apart than this nothing is known, and nothing is drawn, seconds.
const UNKNOWN: f64 = 2.0;

/// A line with gaps where nobody looked.
fn parted(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut parted: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if let Some((before, _)) = parted.last().filter(|(before, _)| point.0 - before > UNKNOWN) {
            parted.push((before + UNKNOWN, f64::NAN));
        }
        parted.push(point);
    }
    parted
}

/// The lines of some looks.
pub fn panels(views: &[View<'_>], page: PageSize) -> Vec<Panel> {
    let line = |name: &str, value: &dyn Fn(&View<'_>) -> Option<f64>| {
        let points = views.iter().filter_map(|view| Some((view.moment.at, value(view)?)));
        Series { name: name.to_owned(), points: parted(points) }
    };
    let signal = |name: &str, value: &dyn Fn(&Signals) -> f64| {
        line(name, &|view| view.signals.as_ref().map(value))
    };
    let setting = |name: &str, value: &dyn Fn(&Tunables) -> i64| {
        line(name, &|view| {
            view.sample()?;
            // 0 turns a limit off.
            view.tunables.map(value).filter(|value| *value > 0).map(float)
        })
    };
    let highest =
        |series: &Series| series.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let free = |view: &View<'_>| {
        let sample = view.sample()?;
        let signals = view.signals.map(|signals| signals.free);
        Some(mib(signals.unwrap_or(sample.meminfo.free - sample.meminfo.cma_free), page))
    };

    let mut panels = vec![Panel {
        title: "Memory".to_owned(),
        about: "At each look of the daemon.".to_owned(),
        series: vec![
            line("free", &free),
            line("file cache", &|view| Some(mib(file_cache(view.sample()?), page))),
            line("anonymous", &|view| {
                let meminfo = &view.sample()?.meminfo;
                Some(mib(meminfo.active_anon + meminfo.inactive_anon, page))
            }),
        ],
        ..Panel::default()
    }];
    let high = signal("high watermark", &|signals| mib(signals.watermarks.high, page));
    let ceiling = highest(&high) * 2.5;
    if ceiling > 0.0 {
        panels.push(Panel {
            title: "Free memory and the watermarks".to_owned(),
            about: "The same line as above, cut off at the top.".to_owned(),
            series: vec![line("free", &free)],
            thresholds: vec![
                signal("min watermark", &|signals| mib(signals.watermarks.min, page)),
                signal("low watermark", &|signals| mib(signals.watermarks.low, page)),
                high,
            ],
            ceiling: Some(ceiling),
            ..Panel::default()
        });
    }
    let swap = line("all swap", &|view| Some(mib(view.sample()?.meminfo.swap_total, page)));
    if highest(&swap) > 0.0 {
        panels.push(Panel {
            title: "Swap".to_owned(),
            about: "The estimate counts what memory would still take in.".to_owned(),
            series: vec![
                line("free", &|view| Some(mib(view.sample()?.meminfo.swap_free, page))),
                signal("free, estimated", &|signals| mib(signals.free_swap, page)),
            ],
            thresholds: vec![signal("swap is low", &|signals| {
                mib(signals.swap_low_threshold, page)
            })],
            ..Panel::default()
        });
    }
    panels.push(pressure(views, &line, &setting));
    panels.push(Panel {
        title: "Thrashing".to_owned(),
        about: "Refaults of the window as a share of the file cache.".to_owned(),
        unit: Unit::Percent,
        series: vec![signal("thrashing", &|signals| float(signals.thrashing))],
        thresholds: vec![
            signal("limit in force", &|signals| float(signals.thrashing_limit)),
            setting("thrashing_limit_critical", &|tunables| tunables.thrashing_limit_critical),
        ],
        ..Panel::default()
    });
    let direct = signal("oldest direct reclaim", &|signals| float(signals.direct_reclaim_ms));
    if highest(&direct) > 0.0 {
        panels.push(Panel {
            title: "Direct reclaim".to_owned(),
            unit: Unit::Millis,
            series: vec![direct],
            thresholds: vec![setting("direct_reclaim_threshold_ms", &|tunables| {
                tunables.direct_reclaim_threshold_ms
            })],
            ..Panel::default()
        });
    }
    panels
}

fn pressure(
    views: &[View<'_>],
    line: &dyn Fn(&str, &dyn Fn(&View<'_>) -> Option<f64>) -> Series,
    setting: &dyn Fn(&str, &dyn Fn(&Tunables) -> i64) -> Series,
) -> Panel {
    let count = |level: Level| {
        let same = |view: &&View<'_>| view.moment.look.trigger == Trigger::Event(level);
        views.iter().filter(same).count()
    };
    let full = line("all tasks stalled, of 10 s", &|view| {
        Some(centi_percent(view.sample()?.stall?.full_avg10_centi))
    });
    Panel {
        title: "Pressure".to_owned(),
        about: format!(
            "The kernel told of medium pressure {} times, of critical pressure {} times.",
            count(Level::Medium),
            count(Level::Critical)
        ),
        unit: Unit::Percent,
        series: vec![full],
        thresholds: vec![setting("stall_limit_critical", &|tunables| {
            tunables.stall_limit_critical
        })],
        ..Panel::default()
    }
}
