//! What is to be drawn: a stretch of time with its lines, lives and kills.

use super::Unit;

/// A stretch of time. Times are seconds, of any common origin.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Distinct in its page: letters, digits and `-`. Links are made of it.
    pub id: String,
    /// A heading.
    pub title: String,
    /// Paragraphs under the heading.
    pub text: Vec<String>,
    /// Where it begins.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// Lines over time, one picture each.
    pub panels: Vec<Panel>,
    /// Processes, in the order of their bars.
    pub lives: Vec<Life>,
    /// Kills, in the order of time.
    pub kills: Vec<Kill>,
    /// What else belongs to it; shown on demand.
    pub tables: Vec<Table>,
}

/// Lines that share an axis.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    /// What is shown.
    pub title: String,
    /// A sentence on how to read it; may be empty.
    pub about: String,
    /// Of every value in it.
    pub unit: Unit,
    /// What was measured.
    pub series: Vec<Series>,
    /// What it is compared with; drawn dashed.
    pub thresholds: Vec<Series>,
    /// Moments: each is a sign, a circle of the first of these and a triangle of the second, in the
    /// colour of the threshold with the same place.
    pub events: Vec<Series>,
    /// Values above are cut off, so that what happens low down can be seen.
    pub ceiling: Option<f64>,
}

/// A line. A value that is not a number leaves a gap.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// For the legend.
    pub name: String,
    /// Times and values, in the order of time.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// The last value at or before `time`.
    #[must_use]
    pub fn at(&self, time: f64) -> Option<f64> {
        let after = self.points.partition_point(|(t, _)| *t <= time);
        let (_, value) = self.points.get(after.checked_sub(1)?)?;
        value.is_finite().then_some(*value)
    }
}

/// A process.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its name.
    pub name: String,
    /// Its id.
    pub pid: i32,
    /// Its oom_score_adj over time.
    pub stays: Vec<Stay>,
    /// How it ended.
    pub fate: Fate,
}

/// A time with one oom_score_adj.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stay {
    /// Since when.
    pub from: f64,
    /// Until when.
    pub to: f64,
    /// The value; None while nobody has told the daemon of the process.
    pub adj: Option<i32>,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Not within the story.
    Lives,
    /// By itself, or by somebody else.
    Exited,
    /// By a kill: its place in [`Story::kills`].
    Killed(usize),
}

/// A kill.
#[derive(Clone, Debug, Default)]
pub struct Kill {
    /// When the signal left.
    pub at: f64,
    /// Short and distinct in its story: a number.
    pub label: String,
    /// The victim's name and id.
    pub victim: String,
    /// Its oom_score_adj.
    pub adj: Option<i32>,
    /// The rule's name.
    pub rule: String,
    /// The reason in words.
    pub reason: String,
    /// From the event to the proof of death, ms, if it was proven.
    pub latency_ms: Option<f64>,
    /// What else there is to say, by name.
    pub more: Vec<(String, String)>,
    /// How it compares with another telling of the story.
    pub mark: KillMark,
}

/// How a kill compares with another telling of the same story.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillMark {
    /// Nothing to compare with, or the same there.
    #[default]
    Plain,
    /// Only here: it would go.
    Goes,
    /// Only here: it would come.
    Comes,
    /// There too, but at another time, for another reason or with another adj.
    Moves,
}

impl KillMark {
    /// For the legend and the text alternatives.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Plain => "kill",
            Self::Goes => "kill that goes",
            Self::Comes => "kill that comes",
            Self::Moves => "kill that moves",
        }
    }
}

/// A table with a caption.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// What it holds.
    pub caption: String,
    /// Heads of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row of a [`Table`].
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// One text per column.
    pub cells: Vec<String>,
    /// Where its first cell leads: the id of a story.
    pub leads_to: Option<String>,
    /// Whether to set it off from the others.
    pub strong: bool,
}
