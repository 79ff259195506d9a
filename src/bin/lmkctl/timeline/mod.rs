//! A recording as it is told to people: looks, kills and lives on one clock that begins at 0.

mod episodes;
mod lives;
#[cfg(test)]
pub mod machine;
mod scene;

pub use episodes::count;
pub use episodes::episodes;
pub use episodes::overview;
pub use episodes::Episode;
pub use lives::Lives;
pub use scene::memory_in_words;
pub use scene::panels;
pub use scene::View;

use crate::history::Clock;
use lmkd::clock::MonoTime;
use lmkd::config::Kind;
use lmkd::config::Tunables;
use lmkd::config::TABLE;
use lmkd::kill::ledger::Moments;
use lmkd::pages;
use lmkd::pages::float;
use lmkd::pages::Row;
use lmkd::pages::Table;
use lmkd::policy::Why;
use lmkd::recorder::Act;
use lmkd::recorder::Entry;
use lmkd::recorder::Kill;
use lmkd::recorder::Look;
use lmkd::recorder::Record;
use lmkd::recorder::Recording;
use lmkd::recorder::Step;
use std::time::Duration;

/// A dry run spares the same process at look after look: one that is named again within this time
/// is not told again, seconds.
const SPARED_AGAIN: f64 = 1.0;

/// A recording in the order of time.
pub struct Timeline<'a> {
    recording: &'a Recording,
    origin: MonoTime,
    /// Every look.
    pub looks: Vec<Moment<'a>>,
    /// Every kill, and in a dry run every kill that was spared.
    pub kills: Vec<Victim<'a>>,
    /// Who was registered when.
    pub lives: Lives,
    /// The settings last in force.
    pub settings: Option<&'a Tunables>,
    /// Records that were overwritten before they were written out.
    pub lost: u64,
    /// Who was spared last in a dry run, and when.
    spared: Option<(f64, i32)>,
}

/// A look with the settings that it was decided by.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Its number in the recording.
    pub seq: u64,
    /// When the decision was made.
    pub at: f64,
    /// The look.
    pub look: &'a Look,
    /// None if the recording does not tell yet.
    pub tunables: Option<&'a Tunables>,
}

impl Moment<'_> {
    /// Whether it led to a kill, or would have but for a dry run.
    pub fn killed(&self) -> bool {
        matches!(self.look.act, Act::Killed { .. } | Act::Spared { .. })
    }
}

/// A kill with what became of it.
pub struct Victim<'a> {
    /// When the signal left.
    pub at: f64,
    /// None in a dry run.
    pub kill: Option<&'a Kill>,
    /// The victim's id.
    pub pid: i32,
    /// The latest that is known of its moments.
    pub moments: Option<Moments>,
    /// The latest that is known of its end.
    pub step: Option<Step>,
    /// The place in [`Timeline::looks`] of the look that decided it.
    pub look: Option<usize>,
}

impl<'a> Timeline<'a> {
    /// Reads through a recording.
    pub fn new(recording: &'a Recording) -> Self {
        // A header is made on the way out of the ring: later than all that follows it.
        let origin = made(recording).next().map_or(MonoTime::ZERO, |entry| entry.at);
        let mut timeline = Self {
            recording,
            origin,
            looks: Vec::new(),
            kills: Vec::new(),
            lives: Lives::default(),
            settings: None,
            lost: 0,
            spared: None,
        };
        for entry in &recording.entries {
            let at = timeline.seconds(entry.at);
            match &entry.record {
                Record::Settings(settings) => timeline.settings = Some(&settings.tunables),
                Record::Lost(lost) => {
                    timeline.lost = timeline.lost.saturating_add(lost.records);
                    timeline.lives.lost();
                }
                Record::Look(look) => timeline.look(entry.seq, look),
                Record::Kill(kill) => timeline.kill(kill),
                Record::Fate(fate) => {
                    let mine = |victim: &&mut Victim<'_>| {
                        victim.kill.is_some_and(|kill| kill.ticket == fate.ticket)
                    };
                    if let Some(victim) = timeline.kills.iter_mut().rev().find(mine) {
                        victim.moments = Some(fate.moments);
                        victim.step = Some(fate.step);
                    }
                }
                Record::Registered(registered) => timeline.lives.registered(at, registered),
                Record::Change(change) => timeline.lives.change(at, change),
                _ => {}
            }
        }
        timeline
    }

    fn look(&mut self, seq: u64, look: &'a Look) {
        let at = self.seconds(look.now);
        self.looks.push(Moment { seq, at, look, tunables: self.settings });
        if let Act::Spared { pid } = look.act {
            let look = self.looks.len().checked_sub(1);
            let again =
                self.spared.is_some_and(|(then, last)| pid == last && at - then < SPARED_AGAIN);
            self.spared = Some((at, pid));
            if !again {
                self.kills.push(Victim { at, kill: None, pid, moments: None, step: None, look });
            }
        }
    }

    fn kill(&mut self, kill: &'a Kill) {
        let look = self.looks.iter().rposition(|moment| moment.seq == kill.look && kill.look != 0);
        self.kills.push(Victim {
            at: self.seconds(kill.moments.signalled),
            kill: Some(kill),
            pid: kill.pid,
            moments: Some(kill.moments),
            step: None,
            look,
        });
    }

    /// A moment as seconds since the first record.
    pub fn seconds(&self, at: MonoTime) -> f64 {
        let nanos = |time: MonoTime| float(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        (nanos(at) - nanos(self.origin)) / 1e9
    }

    /// When the last record was made.
    pub fn end(&self) -> f64 {
        made(self.recording).next_back().map_or(0.0, |entry| self.seconds(entry.at))
    }

    /// A kill as it is drawn.
    pub fn drawn(&self, victim: &Victim<'_>) -> pages::Kill {
        let mut drawn = pages::Kill {
            at: victim.at,
            victim: format!("({})", victim.pid),
            rule: "spared in a dry run".to_owned(),
            ..pages::Kill::default()
        };
        let moment = victim.look.and_then(|look| self.looks.get(look));
        if let Some(kill) = victim.kill {
            drawn.label = kill.ticket.to_string();
            drawn.victim = format!("'{}' ({})", kill.name, kill.pid);
            drawn.adj = Some(kill.adj.get());
            drawn.rule = kill.cause.reason.name().to_owned();
            drawn.more.push(("uid".to_owned(), kill.uid.to_string()));
            drawn.more.push(("resident".to_owned(), format!("{} kB", kill.rss)));
            drawn.more.push(("in swap".to_owned(), format!("{} kB", kill.swap)));
        } else {
            let place = self.kills.iter().position(|other| other.look == victim.look);
            drawn.label = place.map_or_else(String::new, |place| (place + 1).to_string());
        }
        if let Some(moment) = moment {
            drawn.reason = self.reason(moment).unwrap_or_default();
            drawn.more.push(("memory then".to_owned(), memory_in_words(moment.look, self.page())));
        }
        if let Some(moments) = victim.moments {
            drawn.more.extend(steps(&moments));
            let end = moments.proven.or(moments.exited);
            drawn.latency_ms = end.map(|end| millis(end.micros_since(moments.woken)));
        }
        if let Some(step) = victim.step {
            drawn.more.push(("end".to_owned(), end_in_words(step)));
        }
        drawn
    }

    /// Why a look led to a kill, in words.
    pub fn reason(&self, moment: &Moment<'_>) -> Option<String> {
        let seen = moment.look.seen.as_ref()?;
        let (cause, signals) = (seen.verdict.cause.as_ref()?, seen.verdict.signals.as_ref()?);
        let tunables = moment.tunables?;
        Some(Why { cause, signals, tunables, sample: &seen.sample, page: self.page() }.to_string())
    }

    /// The kernel's page size.
    pub fn page(&self) -> lmkd::units::PageSize {
        self.recording.header.page
    }

    /// What a reader should know of the recording.
    pub fn facts(&self, file: &str) -> Vec<(String, String)> {
        let header = &self.recording.header;
        let told = self.recording.entries.first().map_or(self.origin, |entry| entry.at);
        let clock = Clock::new(told, header.wall_ns);
        let end = made(self.recording).next_back().map_or(self.origin, |entry| entry.at);
        let mut facts = vec![
            ("recording", file.to_owned()),
            ("daemon", format!("lmkd {}, process {}", header.version, header.pid)),
            ("kernel", format!("Linux {}, pages of {} KiB", header.kernel, header.page.kib())),
            ("boot", header.boot.to_string()),
            ("from", clock.wall(self.origin).to_string()),
            ("to", clock.wall(end).to_string()),
            ("lasts", format!("{:.1} s", self.end())),
            ("looks", self.looks.len().to_string()),
            ("kills", self.kills.len().to_string()),
        ];
        if header.dry_run {
            facts.push(("dry run", "nobody was killed".to_owned()));
        }
        if self.lost > 0 {
            facts.push(("lost", format!("{} records were overwritten", self.lost)));
        }
        if let Some(tear) = &self.recording.tear {
            facts.push(("torn", tear.to_string()));
        }
        if self.recording.skipped > 0 {
            facts.push(("unknown", format!("{} records of later kinds", self.recording.skipped)));
        }
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The records that were made while the daemon ran, not on the way out of its ring.
fn made(recording: &Recording) -> impl DoubleEndedIterator<Item = &Entry> {
    recording.entries.iter().filter(|entry| entry.seq > 0)
}

/// The distances between a kill's moments, by name.
fn steps(moments: &Moments) -> Vec<(String, String)> {
    let since = |end: MonoTime, start: MonoTime| {
        crate::text::Span(Duration::from_micros(end.micros_since(start))).to_string()
    };
    let mut steps = vec![
        ("event to decision", since(moments.decided, moments.woken)),
        ("event to signal", since(moments.signalled, moments.woken)),
    ];
    if let Some(released) = moments.released {
        steps.push(("signal to memory back", since(released, moments.signalled)));
    }
    if let Some(exited) = moments.exited {
        steps.push(("signal to exit", since(exited, moments.signalled)));
    }
    steps.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn end_in_words(step: Step) -> String {
    match step {
        Step::TimedOut { memory_back: true } => {
            "not within kill_timeout_ms, but its memory is back".to_owned()
        }
        Step::TimedOut { memory_back: false } => "not within kill_timeout_ms".to_owned(),
        Step::Exited => "exited".to_owned(),
        Step::Proven => "the kernel says that SIGKILL ended it".to_owned(),
        Step::Otherwise(exit) => format!("it had ended otherwise before: {exit:?}"),
        Step::Untold => "exited; this kernel does not tell how".to_owned(),
    }
}

/// Microseconds as milliseconds.
pub fn millis(micros: u64) -> f64 {
    float(i64::try_from(micros).unwrap_or(i64::MAX)) / 1000.0
}

/// Tunables by name and value.
pub fn values(tunables: &Tunables) -> Vec<(&'static str, String)> {
    let mut tunables = tunables.clone();
    let value = |tunable: &'static lmkd::config::Tunable| match tunable.kind {
        Kind::Bool(field) => Some((tunable.name, field(&mut tunables).to_string())),
        Kind::Int { field, .. } => Some((tunable.name, field(&mut tunables).to_string())),
        Kind::Choice(field) => {
            let chosen = field(&mut tunables);
            Some((tunable.name, chosen.map_or_else(|| "unset".to_owned(), |is| is.to_string())))
        }
        Kind::NoEffect => None,
    };
    TABLE.iter().filter_map(value).collect()
}

/// All settings, those beside their defaults set off. `other` is a second column.
pub fn settings_table(tunables: &Tunables, other: Option<(&str, &Tunables)>) -> Table {
    let plain = if tunables.low_ram { Tunables::low_ram_defaults() } else { Tunables::default() };
    let others = other.map(|(_, other)| values(other));
    let rows = values(tunables).into_iter().zip(values(&plain)).enumerate();
    let rows = rows.map(|(n, ((name, value), (_, default)))| {
        let meaning = TABLE.iter().find(|tunable| tunable.name == name);
        let meaning = meaning.map_or("", |tunable| tunable.meaning).to_owned();
        let replayed = others.as_ref().and_then(|all| all.get(n)).map(|(_, value)| value.clone());
        let strong = replayed.as_ref().map_or(value != default, |replayed| *replayed != value);
        let mut cells = vec![name.to_owned(), value];
        cells.extend(replayed);
        cells.extend([default, meaning]);
        Row { cells, strong, leads_to: None }
    });
    let mut columns = vec!["name".to_owned(), "recorded".to_owned()];
    columns.extend(other.map(|(name, _)| name.to_owned()));
    columns.extend(["default".to_owned(), "meaning".to_owned()]);
    Table { caption: "Settings".to_owned(), columns, rows: rows.collect() }
}
