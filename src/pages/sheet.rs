//! The page around the pictures: what the template `page.html` is filled with.

use super::ink;
use super::ink::Ink;
use super::number::moment;
use super::number::short;
use super::picture;
use super::picture::Frame;
use super::Histogram;
use super::Kill;
use super::KillMark;
use super::PageError;
use super::Panel;
use super::Series;
use super::Story;
use super::Table;
use minijinja::context;
use minijinja::Environment;
use minijinja::UndefinedBehavior;
use minijinja::Value;

/// Bars beyond this are left out of a picture, and said to be.
const LIVES: usize = 60;

/// One page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Its heading and the window's title.
    pub title: String,
    /// What it is about: names and values.
    pub facts: Vec<(String, String)>,
    /// Its parts.
    pub sections: Vec<Section>,
}

/// A part of a page.
#[derive(Clone, Debug)]
pub enum Section {
    /// A story in pictures.
    Story(Box<Story>),
    /// Two tellings of one story, side by side where there is room.
    Pair(Box<[Story; 2]>),
    /// Distributions under a heading.
    Histograms(String, Vec<Histogram>),
    /// Paragraphs, and a table under its caption.
    Table(Vec<String>, Table),
    /// Paragraphs under a heading.
    Text(String, Vec<String>),
}

impl Page {
    /// The whole file.
    ///
    /// # Errors
    ///
    /// What the drawing library refuses.
    pub fn html(&self) -> Result<String, PageError> {
        let sections = self.sections.iter().enumerate().map(|(n, section)| section.context(n));
        let filled = context! {
            title => &self.title,
            facts => pairs(&self.facts),
            sections => sections.collect::<Result<Vec<_>, _>>()?,
            // Many stories have a table that leads to them.
            list_stories => self.sections.len() <= 10,
            style => Value::from_safe_string(ink::style() + include_str!("style.css")),
        };
        let mut environment = Environment::new();
        // A name that the template has and this file has not is a mistake, not an empty place.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let name = "page.html";
        environment.add_template(name, include_str!("page.html")).map_err(PageError::drawing)?;
        let template = environment.get_template(name).map_err(PageError::drawing)?;
        template.render(filled).map_err(|error| PageError::Drawing(format!("{error:#}")))
    }
}

impl Section {
    fn context(&self, n: usize) -> Result<Value, PageError> {
        let part = format!("part-{n}");
        let wide = [Frame::WIDE, Frame::NARROW];
        let half = [Frame::HALF, Frame::NARROW];
        let plain = |name: &str, text: &[String], table: Value, histograms: Vec<Value>| {
            context! { kind => "plain", id => part, name, text => text.to_vec(), table, histograms }
        };
        Ok(match self {
            Self::Story(story) => context! {
                kind => "story",
                id => &story.id,
                name => &story.title,
                story => story.context(wide)?,
            },
            Self::Pair(pair) => {
                let [left, right] = pair.as_ref();
                context! {
                    kind => "pair",
                    id => &left.id,
                    name => &left.title,
                    left => left.context(half)?,
                    right => right.context(half)?,
                }
            }
            Self::Histograms(heading, all) => {
                let all = all.iter().map(Histogram::context).collect::<Result<Vec<_>, _>>()?;
                plain(heading, &[], Value::from(()), all)
            }
            Self::Table(text, table) => plain(&table.caption, text, table.context(), Vec::new()),
            Self::Text(heading, text) => plain(heading, text, Value::from(()), Vec::new()),
        })
    }
}

fn pairs(all: &[(String, String)]) -> Vec<Value> {
    all.iter().map(|(name, value)| context! { name, value }).collect()
}

/// The same picture for both widths; the style sheet shows one.
fn both(
    frames: [Frame; 2],
    draw: impl Fn(&Frame) -> Result<String, PageError>,
) -> Result<Value, PageError> {
    let [roomy, narrow] = frames;
    Ok(Value::from_safe_string(draw(&roomy)? + &draw(&narrow)?))
}

fn legend_item(ink: Ink, words: &str, line: bool) -> Value {
    context! { ink => ink.hex(), words, line, hollow => false }
}

impl Story {
    fn context(&self, frames: [Frame; 2]) -> Result<Value, PageError> {
        let drawn = self.lives.len().min(LIVES);
        let panels = self.panels.iter().map(|panel| self.panel_context(panel, frames));
        let lives = self.lives.iter().map(|life| {
            let (from, to) = (life.stays.first(), life.stays.last());
            context! {
                words => self.life_in_words(life, &life.name),
                from => from.map_or_else(String::new, |stay| moment(stay.from)),
                to => to.map_or_else(String::new, |stay| moment(stay.to)),
            }
        });
        let adjs = ink::adj_ranges().map(|(ink, words)| legend_item(ink, words, false));
        let mut stays = self.lives.iter().flat_map(|life| &life.stays);
        let hollow = stays.any(|stay| stay.adj.is_none()).then(|| {
            let ink = Ink::Axis.hex();
            context! { ink, words => "not registered", line => false, hollow => true }
        });
        Ok(context! {
            id => &self.id,
            title => &self.title,
            text => self.text.clone(),
            kills => self.kills.iter().map(|kill| self.kill_context(kill)).collect::<Vec<_>>(),
            kill_legend => self.kill_legend(),
            strip => both(frames, |frame| self.strip(frame))?,
            panels => panels.collect::<Result<Vec<_>, _>>()?,
            lives => lives.collect::<Vec<_>>(),
            hidden => self.lives.len().saturating_sub(drawn),
            adjs => adjs.chain(hollow).collect::<Vec<_>>(),
            tables => self.tables.iter().map(Table::context).collect::<Vec<_>>(),
            bars => both(frames, |frame| self.lives(drawn, frame))?,
        })
    }

    fn kill_legend(&self) -> Vec<Value> {
        let marks = [KillMark::Plain, KillMark::Goes, KillMark::Comes, KillMark::Moves];
        let here: Vec<KillMark> = marks
            .into_iter()
            .filter(|mark| self.kills.iter().any(|kill| kill.mark == *mark))
            .collect();
        if matches!(here.as_slice(), [] | [KillMark::Plain]) {
            return Vec::new();
        }
        here.into_iter().map(|mark| legend_item(mark.into(), mark.words(), false)).collect()
    }

    fn kill_context(&self, kill: &Kill) -> Value {
        let label = match kill.mark {
            KillMark::Plain => kill.label.clone(),
            mark => format!("{} ({})", kill.label, mark.words()),
        };
        context! {
            id => self.kill_id(kill),
            label,
            at => moment(kill.at),
            victim => &kill.victim,
            adj => kill.adj.map_or_else(String::new, |adj| adj.to_string()),
            rule => &kill.rule,
            reason => &kill.reason,
            more => pairs(&kill.more),
            latency => kill.latency_ms.map_or_else(|| "–".to_owned(), |ms| format!("{} ms", short(ms))),
        }
    }

    fn panel_context(&self, panel: &Panel, frames: [Frame; 2]) -> Result<Value, PageError> {
        let unit = panel.unit.name();
        let lines: Vec<&Series> = panel.series.iter().chain(&panel.thresholds).collect();
        let mut columns = vec![unit.to_owned()];
        columns.extend(lines.iter().map(|line| line.name.clone()));
        Ok(context! {
            title => if unit.is_empty() { panel.title.clone() } else { format!("{}, {unit}", panel.title) },
            about => &panel.about,
            legend => panel.legend(),
            pictures => both(frames, |frame| self.panel(panel, frame))?,
            columns,
            rows => self.numbers(&lines),
        })
    }

    /// Where each line began, its extremes, its end, and its value at each kill.
    fn numbers(&self, lines: &[&Series]) -> Vec<Value> {
        let finite = |line: &Series| -> Vec<f64> {
            line.points.iter().map(|point| point.1).filter(|value| value.is_finite()).collect()
        };
        let row = |name: String, pick: &dyn Fn(&Series) -> Option<f64>| {
            let text = |line: &&Series| pick(line).map_or_else(|| "–".to_owned(), short);
            context! { name, cells => lines.iter().map(text).collect::<Vec<_>>() }
        };
        let mut rows = vec![
            row("begin".to_owned(), &|line| finite(line).first().copied()),
            row("lowest".to_owned(), &|line| finite(line).into_iter().reduce(f64::min)),
            row("highest".to_owned(), &|line| finite(line).into_iter().reduce(f64::max)),
            row("end".to_owned(), &|line| finite(line).last().copied()),
        ];
        for kill in &self.kills {
            let name = format!("kill {} ({})", kill.label, moment(kill.at));
            rows.push(row(name, &|line| line.at(kill.at)));
        }
        rows
    }
}

impl Panel {
    fn legend(&self) -> Vec<Value> {
        let top = self.top();
        let series = self.series.iter().enumerate();
        let series = series.map(|(n, line)| {
            let values = line.points.iter().map(|(_, value)| *value);
            let lowest = values.filter(|value| value.is_finite()).reduce(f64::min);
            let hidden = lowest.is_some_and(|lowest| lowest > top);
            let above = if hidden { " (above the picture)" } else { "" };
            legend_item(Ink::Line(n), &format!("{}{above}", line.name), true)
        });
        let thresholds = self.thresholds.iter().enumerate().map(|(n, line)| {
            let highest = line.points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
            let mut words = line.name.clone();
            if highest > top {
                words = format!("{words} ({}, above the picture)", self.unit.with(highest));
            }
            legend_item(Ink::Threshold(n), &words, true)
        });
        let events = self.events.iter().enumerate().filter(|(_, events)| !events.points.is_empty());
        let events = events.map(|(n, events)| {
            let sign = Value::from_safe_string(picture::sign(n, 13, 6));
            context! { sign, words => &events.name }
        });
        series.chain(thresholds).chain(events).collect()
    }
}

impl Histogram {
    fn context(&self) -> Result<Value, PageError> {
        let buckets = self.buckets();
        let empty = buckets.is_empty();
        let picture = if empty { String::new() } else { self.svg(&Frame::NARROW)? };
        let buckets = buckets.into_iter().map(|(low, high, count)| {
            context! { range => format!("{} to {}", short(low), short(high)), count }
        });
        Ok(context! {
            title => &self.title,
            summary => self.summary(),
            picture => Value::from_safe_string(picture),
            buckets => buckets.collect::<Vec<_>>(),
        })
    }
}

impl Table {
    fn context(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = row.cells.clone();
            context! { cells, leads_to => row.leads_to.clone(), strong => row.strong }
        });
        // Few columns become lines of a card on a phone; many are scrolled.
        let cards = self.columns.len() <= 5;
        context! { cards, caption => &self.caption, columns => self.columns.clone(), rows => rows.collect::<Vec<_>>() }
    }
}
