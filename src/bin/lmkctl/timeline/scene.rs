//! The lines of a story: memory, watermarks, swap, pressure, thrashing, each with its thresholds.

use super::Moment;
use crate::words;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::pages::float;
use lmkd::pages::Panel;
use lmkd::pages::Row;
use lmkd::pages::Series;
use lmkd::pages::Table;
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

/// A setting that something is compared with, over time. None turns it off; its name says so if it was never on.
fn limit(name: &str, views: &[View<'_>], value: &dyn Fn(&Tunables) -> Option<f64>) -> Series {
    let known = || views.iter().filter_map(|view| Some((view, view.tunables?)));
    let looked = known().filter(|(view, _)| view.sample().is_some());
    let points = looked.filter_map(|(view, tunables)| Some((view.moment.at, value(tunables)?)));
    let mut series = Series { name: name.to_owned(), points: parted(points) };
    if known().next().is_some() && known().all(|(_, tunables)| value(tunables).is_none()) {
        series.name.push_str(": off");
    }
    series
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
        // 0 turns a limit off.
        limit(name, views, &|tunables| Some(value(tunables)).filter(|value| *value > 0).map(float))
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
    // The stall that it took is known, not the stall that there was: each stands on its threshold, that of the
    // settings by which the kernel told of it.
    let events = |name: &str, level: Level, stall: fn(&Tunables) -> i64| {
        let same = views.iter().filter(|view| view.moment.look.trigger == Trigger::Event(level));
        let share = |view: &View<'_>| view.moment.tunables.and_then(|all| window_share(all, stall));
        let points = same.map(|view| (view.moment.at, share(view).unwrap_or_default()));
        Series { name: name.to_owned(), points: points.collect() }
    };
    let partial: fn(&Tunables) -> i64 = |tunables| tunables.psi_partial_stall_ms;
    let complete: fn(&Tunables) -> i64 = |tunables| tunables.psi_complete_stall_ms;
    Panel {
        title: "Pressure".to_owned(),
        about: format!(
            "The kernel told of medium pressure {} times, of critical pressure {} times; each a sign at the \
             share of a window that it takes. The line is the kernel's average of 10 s.",
            count(Level::Medium),
            count(Level::Critical)
        ),
        unit: Unit::Percent,
        series: vec![full],
        thresholds: vec![
            limit("medium: some tasks, psi_partial_stall_ms", views, &|tunables| {
                window_share(tunables, partial)
            }),
            limit("critical: all tasks, psi_complete_stall_ms", views, &|tunables| {
                window_share(tunables, complete)
            }),
            setting("stall_limit_critical", &|tunables| tunables.stall_limit_critical),
        ],
        events: vec![
            events("medium pressure", Level::Medium, partial),
            events("critical pressure", Level::Critical, complete),
        ],
        ..Panel::default()
    }
}

/// Pressure events beyond this are left out of their table.
const MOST_EVENTS: usize = 200;

/// When the kernel told of pressure, what it took for that, and what was seen then; None if it told of none.
pub fn pressure_table(views: &[View<'_>]) -> Option<Table> {
    let row = |view: &View<'_>| {
        let Trigger::Event(level) = view.moment.look.trigger else { return None };
        let took = view.moment.tunables.map_or_else(String::new, |all| {
            let window = all.psi_window_size_ms;
            match level {
                Level::Critical => {
                    format!("all tasks {} of {window} ms", all.psi_complete_stall_ms)
                }
                _ => format!("some tasks {} of {window} ms", all.psi_partial_stall_ms),
            }
        });
        let stall = view.sample().and_then(|sample| sample.stall);
        let stall = stall.map(|stall| format!("{:.2}%", centi_percent(stall.full_avg10_centi)));
        let at = format!("{:.3} s", view.moment.at);
        let cells = vec![at, words::level(level).to_owned(), took, stall.unwrap_or_default()];
        Some(Row { cells, strong: view.moment.killed(), leads_to: None })
    };
    let mut rows: Vec<Row> = views.iter().filter_map(row).collect();
    let all = rows.len();
    rows.truncate(MOST_EVENTS);
    let left_out = match all.saturating_sub(MOST_EVENTS) {
        0 => String::new(),
        more => format!("; {more} later ones are left out"),
    };
    let columns = ["at", "pressure", "stalled at least", "all tasks, of 10 s"].map(str::to_owned);
    (all > 0).then(|| Table {
        caption: format!("Table: pressure events; set off: those that led to a kill{left_out}"),
        columns: columns.to_vec(),
        rows,
    })
}

/// A stall in a window that makes the kernel tell of pressure, percent of the window. None if it is off.
fn window_share(tunables: &Tunables, stall: fn(&Tunables) -> i64) -> Option<f64> {
    let (stall, window) = (stall(tunables), tunables.psi_window_size_ms);
    (stall > 0 && window > 0).then(|| float(stall) * 100.0 / float(window))
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::Timeline;
    use super::*;

    /// Medium pressure twice and critical pressure once, half a second apart; then what is drawn of it.
    fn drawn<T>(tunables: Tunables, look_at: impl Fn(&[View<'_>], PageSize) -> T) -> T {
        let mut machine = Machine::new(tunables);
        for level in [Level::Medium, Level::Medium, Level::Critical] {
            machine.rest(500);
            machine.look(Trigger::Event(level));
        }
        let recording = machine.recording();
        let timeline = Timeline::new(&recording);
        let views: Vec<View<'_>> = timeline.looks.iter().copied().map(View::recorded).collect();
        look_at(&views, timeline.page())
    }

    fn pressure_of(tunables: Tunables) -> Panel {
        drawn(tunables, |views, page| {
            panels(views, page).into_iter().find(|panel| panel.title == "Pressure").unwrap()
        })
    }

    #[test]
    fn pressure_events_stand_on_the_thresholds_of_the_settings_in_force() {
        let panel = pressure_of(Tunables { psi_window_size_ms: 500, ..Tunables::default() });
        let values = |line: &Series| line.points.iter().map(|point| point.1).collect::<Vec<_>>();
        assert_eq!(values(&panel.thresholds[0]), [14.0; 3], "70 of 500 ms");
        assert_eq!(values(&panel.events[0]), [14.0; 2]);
        let panel = pressure_of(Tunables::default());
        assert_eq!(values(&panel.thresholds[1]), [70.0; 3]);
        assert_eq!(values(&panel.events[1]), [70.0]);
        assert!(panel.about.contains("medium pressure 2 times, of critical pressure 1 times"));
        assert!(panel.top() >= 70.0, "what happened is within the picture");
        let times: Vec<f64> = panel.events[0].points.iter().map(|point| point.0).collect();
        assert!((times[1] - times[0] - 0.5).abs() < 0.001, "{times:?}");
    }

    #[test]
    fn a_threshold_that_is_off_is_said_to_be() {
        let panel = pressure_of(Tunables { psi_partial_stall_ms: 0, ..Tunables::default() });
        assert!(panel.thresholds[0].name.ends_with("psi_partial_stall_ms: off"));
        assert!(panel.thresholds[0].points.is_empty());
        assert!(panel.thresholds[1].name.ends_with("psi_complete_stall_ms"));
    }

    #[test]
    fn every_pressure_event_stands_in_a_table() {
        let table = drawn(Tunables::default(), |views, _| pressure_table(views)).unwrap();
        let of = |row: &Row| format!("{} {}", row.cells[1], row.cells[2]);
        let [medium, critical] =
            ["medium some tasks 70 of 1000 ms", "critical all tasks 700 of 1000 ms"];
        assert_eq!(table.rows.iter().map(of).collect::<Vec<_>>(), [medium, medium, critical]);
        assert_eq!(pressure_table(&[]).map(|_| ()), None);
    }
}
