//! A story's pictures as SVG: lines, lives, and the strip of kills.
//!
//! All pictures of a story share their time axis, so that they can be read one above the other.

use super::ink::Ink;
use super::number::escaped;
use super::number::fitted;
use super::number::float;
use super::number::moment;
use super::number::pieces;
use super::number::short;
use super::number::thinned;
use super::number::tick;
use super::number::width_of;
use super::Fate;
use super::Kill;
use super::KillMark;
use super::Life;
use super::PageError;
use super::Panel;
use super::Story;
use plotters::chart::ChartContext;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::Cartesian2d;
use plotters::prelude::ChartBuilder;
use plotters::prelude::Color;
use plotters::prelude::IntoDrawingArea;
use plotters::prelude::PathElement;
use plotters::prelude::Rectangle;
use plotters::prelude::SVGBackend;
use plotters::prelude::Text;
use plotters::style::TextStyle;
use std::fmt::Write;
use std::ops::Range;

/// Pixels of a letter's height.
pub const FONT: u32 = 12;
const PANEL: u32 = 190;
const AXIS: u32 = 24;
/// Between a bar's top and the next one's.
const LIFE: u32 = 32;
/// Between two signs, side by side.
const SIGN: i32 = 4;
/// Between two marks, side by side or above each other: what a finger needs.
const MARK: i32 = 24;

/// A width to draw for.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// The style sheet's name of it.
    pub class: &'static str,
    /// Pixels.
    pub width: u32,
    gutter: u32,
    ticks: usize,
}

impl Frame {
    /// A picture that has the page's width on a desktop.
    pub const WIDE: Self = Self { class: "roomy", width: 1080, gutter: 52, ticks: 9 };
    /// Two pictures side by side on a desktop.
    pub const HALF: Self = Self { class: "roomy", width: 540, gutter: 48, ticks: 5 };
    /// A phone.
    pub const NARROW: Self = Self { class: "narrow", width: 358, gutter: 50, ticks: 4 };
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// How the library is asked for letters of [`FONT`] pixels: it writes 1/1.24 of what it is told.
pub fn words(ink: Ink) -> TextStyle<'static> {
    let mut style = TextStyle::from(("sans-serif", f64::from(FONT) * 1.24));
    style.color = ink.colour().to_backend_color();
    style
}

impl From<KillMark> for Ink {
    fn from(mark: KillMark) -> Self {
        match mark {
            KillMark::Plain => Self::Kill,
            KillMark::Goes => Self::Goes,
            KillMark::Comes => Self::Comes,
            KillMark::Moves => Self::Moves,
        }
    }
}

/// The library's picture with its opening tag in our words, and `over` drawn upon it.
pub fn finished(svg: &str, class: &str, label: &str, over: &str) -> String {
    let opening = svg.find('>').map_or(0, |end| end.saturating_add(1));
    let size = svg.split_once("viewBox=\"").and_then(|(_, rest)| rest.split_once('"'));
    let size = size.map_or("", |(size, _)| size);
    let shapes = svg.get(opening..).unwrap_or("").trim_end().trim_end_matches("</svg>");
    let mut out = format!("<svg class=\"{class}\" viewBox=\"{size}\" role=\"group\" aria-label=\"");
    out.push_str(&escaped(label));
    // A reader of the screen is spared the numbers of the axes; the tables have them all.
    let _ = write!(out, "\"><g aria-hidden=\"true\">{}</g>{over}</svg>", shapes.trim());
    out
}

impl Story {
    fn span(&self) -> Range<f64> {
        let ends = self.to > self.from;
        self.from..if ends { self.to } else { self.from + 1.0 }
    }

    fn draw(
        &self,
        frame: &Frame,
        height: u32,
        values: Range<f64>,
        value_ticks: usize,
        shapes: impl FnOnce(&mut Chart<'_>) -> Result<String, PageError>,
        label: &str,
    ) -> Result<String, PageError> {
        let mut svg = String::new();
        let over = {
            let root = SVGBackend::with_string(&mut svg, (frame.width, height)).into_drawing_area();
            let span = self.span();
            let length = span.end - span.start;
            let mut chart: Chart<'_> = ChartBuilder::on(&root)
                .margin_top(12)
                .margin_right(16)
                .x_label_area_size(AXIS)
                .y_label_area_size(frame.gutter)
                .build_cartesian_2d(span, values)
                .map_err(PageError::drawing)?;
            chart
                .configure_mesh()
                .x_labels(frame.ticks)
                .y_labels(value_ticks)
                .x_label_formatter(&|time| tick(*time, length))
                .y_label_formatter(&|value| short(*value))
                .light_line_style(plotters::style::TRANSPARENT)
                .bold_line_style(Ink::Net.colour())
                .axis_style(Ink::Axis.colour())
                .label_style(words(Ink::Faint))
                .draw()
                .map_err(PageError::drawing)?;
            let over = shapes(&mut chart)?;
            root.present().map_err(PageError::drawing)?;
            over
        };
        Ok(finished(&svg, frame.class, label, &over))
    }

    /// A line at each kill, over the whole height.
    fn kill_lines(&self, chart: &mut Chart<'_>, values: &Range<f64>) -> Result<(), PageError> {
        let lines = self.kills.iter().map(|kill| {
            let ends = vec![(kill.at, values.start), (kill.at, values.end)];
            PathElement::new(ends, Ink::from(kill.mark).colour().stroke_width(1))
        });
        chart.draw_series(lines).map_err(PageError::drawing)?;
        Ok(())
    }

    /// A panel's lines and thresholds.
    pub fn panel(&self, panel: &Panel, frame: &Frame) -> Result<String, PageError> {
        let top = panel.top();
        let values = panel.bottom()..top * 1.05;
        let label = format!("{} over time; its numbers follow as a table", panel.title);
        let height = values.clone();
        let draw = |chart: &mut Chart<'_>| {
            self.kill_lines(chart, &height)?;
            let thresholds = panel.thresholds.iter().enumerate();
            let thresholds = thresholds.map(|(n, line)| (line, Ink::Threshold(n), 2));
            let series = panel.series.iter().enumerate();
            let series = series.map(|(n, line)| (line, Ink::Line(n), 2));
            for (line, ink, width) in thresholds.chain(series) {
                let few = thinned(&line.points, self.from, self.to, frame.width / 2);
                for piece in pieces(&few, top) {
                    // A point alone has no length.
                    let piece = match piece.as_slice() {
                        [(time, value)] => vec![(*time, *value), (*time + self.dot(), *value)],
                        _ => piece,
                    };
                    let path = PathElement::new(piece, ink.colour().stroke_width(width));
                    chart.draw_series([path]).map_err(PageError::drawing)?;
                }
            }
            let mut over = String::new();
            for (n, events) in panel.events.iter().enumerate() {
                let mut last = None;
                for (time, value) in events.points.iter().filter(|(_, value)| *value <= top) {
                    let (x, y) = chart.backend_coord(&(*time, *value));
                    // Those that cannot be told apart are one.
                    if last.is_none_or(|last| x.saturating_sub(last) >= SIGN) {
                        over.push_str(&sign(n, x, y));
                        last = Some(x);
                    }
                }
            }
            Ok(over)
        };
        self.draw(frame, PANEL, values, 5, draw, &label)
    }

    /// The time that three pixels are on a phone.
    fn dot(&self) -> f64 {
        let span = self.span();
        (span.end - span.start) * 3.0 / f64::from(Frame::NARROW.width)
    }

    /// Processes as bars, `count` of them at most.
    pub fn lives(&self, count: usize, frame: &Frame) -> Result<String, PageError> {
        let lives = self.lives.get(..count).unwrap_or(&self.lives);
        let rows = i32::try_from(lives.len()).unwrap_or(i32::MAX).max(1);
        let height =
            u32::try_from(rows).unwrap_or(1).saturating_mul(LIFE).saturating_add(AXIS + 12);
        let values = 0.0..f64::from(rows);
        let lines = values.clone();
        let draw = |chart: &mut Chart<'_>| {
            self.kill_lines(chart, &lines)?;
            let mut over = String::new();
            for (life, n) in lives.iter().zip(0_i32..) {
                let row = f64::from(rows) - f64::from(n);
                let bars = life.stays.iter().map(|stay| {
                    let to = stay.to.max(stay.from + self.dot() / 3.0);
                    let corners = [(stay.from, row - 0.55), (to, row - 0.9)];
                    let style = match stay.adj {
                        Some(adj) => Ink::Adj(adj).colour().filled(),
                        None => Ink::Axis.colour().stroke_width(1),
                    };
                    Rectangle::new(corners, style)
                });
                chart.draw_series(bars).map_err(PageError::drawing)?;
                // Of a name too long its end is left out, not what became of it.
                let tail = self.life_in_words(life, "");
                let room = frame.width - frame.gutter - 24;
                let name = fitted(&life.name, room.saturating_sub(width_of(&tail, FONT)), FONT);
                let text =
                    Text::new(name + &tail, (self.from + self.dot(), row - 0.08), words(Ink::Text));
                chart.draw_series([text]).map_err(PageError::drawing)?;
                if let (Fate::Killed(kill), Some(stay)) = (life.fate, life.stays.last()) {
                    let (x, y) = chart.backend_coord(&(stay.to, row - 0.725));
                    let mark = self.kills.get(kill).map(|kill| kill.mark).unwrap_or_default();
                    over.push_str(&cross(x, y, Ink::from(mark)));
                }
            }
            Ok(over)
        };
        self.draw(frame, height, values, 0, draw, "Processes as bars over time; a table follows")
    }

    /// `name (pid) adj 900 to 700, kill 2`.
    pub fn life_in_words(&self, life: &Life, name: &str) -> String {
        let mut text = format!("{name} ({})", life.pid);
        let adjs = life.stays.iter().filter_map(|stay| Some(stay.adj?.to_string()));
        let mut adjs: Vec<String> = adjs.collect();
        adjs.dedup();
        if let [first, .., last] = adjs.as_slice() {
            let _ = write!(text, " adj {first} to {last}");
        } else if let [only] = adjs.as_slice() {
            let _ = write!(text, " adj {only}");
        }
        match life.fate {
            Fate::Lives => {}
            Fate::Exited => text.push_str(", exited"),
            Fate::Killed(kill) => {
                let label = self.kills.get(kill).map_or("", |kill| kill.label.as_str());
                let _ = write!(text, ", kill {label}");
            }
        }
        text
    }

    /// The strip of kills: one mark each, which leads to its row of the table.
    pub fn strip(&self, frame: &Frame) -> Result<String, PageError> {
        let width = f64::from(frame.width.saturating_sub(frame.gutter).saturating_sub(16)).max(1.0);
        let span = self.span();
        let gap = (span.end - span.start) / width * f64::from(MARK);
        // A kill stands in the lowest row where the one before it is far enough away.
        let mut ends: Vec<f64> = Vec::new();
        let mut places = Vec::new();
        for kill in &self.kills {
            let free = ends.iter().position(|end| *end <= kill.at);
            let row = match free {
                Some(row) => row,
                None if ends.len() < 5 => {
                    ends.push(0.0);
                    ends.len().saturating_sub(1)
                }
                // No room: upon the one that is farthest away.
                None => {
                    let first = ends.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
                    first.map_or(0, |(row, _)| row)
                }
            };
            if let Some(end) = ends.get_mut(row) {
                *end = kill.at + gap;
            }
            places.push((kill, i32::try_from(row).unwrap_or(0)));
        }
        let rows = i32::try_from(ends.len()).unwrap_or(1).max(1);
        let height =
            u32::try_from(rows.saturating_mul(MARK)).unwrap_or(0).saturating_add(AXIS + 20);
        let values = 0.0..f64::from(rows);
        let lines = values.clone();
        let draw = |chart: &mut Chart<'_>| {
            self.kill_lines(chart, &lines)?;
            let mut over = String::new();
            for (kill, row) in &places {
                let at = chart.backend_coord(&(kill.at, f64::from(*row) + 0.5));
                over.push_str(&self.mark(kill, at));
            }
            Ok(over)
        };
        let label = format!("{} kills over time; each mark leads to its row", self.kills.len());
        self.draw(frame, height, values, 0, draw, &label)
    }

    /// The id of a kill's row.
    pub fn kill_id(&self, kill: &Kill) -> String {
        format!("{}-kill-{}", self.id, kill.label)
    }

    fn mark(&self, kill: &Kill, (x, y): (i32, i32)) -> String {
        let ink = Ink::from(kill.mark).hex();
        let shape = match kill.mark {
            KillMark::Plain => format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"10\" fill=\"{ink}\"/>"),
            KillMark::Goes => format!(
                "<circle cx=\"{x}\" cy=\"{y}\" r=\"9\" class=\"open\" stroke=\"{ink}\" stroke-width=\"2\" stroke-dasharray=\"4 2\"/>"
            ),
            KillMark::Comes => format!(
                "<rect x=\"{}\" y=\"{}\" width=\"19\" height=\"19\" fill=\"{ink}\"/>",
                x.saturating_sub(9),
                y.saturating_sub(9)
            ),
            KillMark::Moves => format!(
                "<rect x=\"{}\" y=\"{}\" width=\"16\" height=\"16\" fill=\"{ink}\" transform=\"rotate(45 {x} {y})\"/>",
                x.saturating_sub(8),
                y.saturating_sub(8)
            ),
        };
        let letters = if kill.mark == KillMark::Goes { ink.clone() } else { "#FFFFFF".to_owned() };
        let mut out = format!("<a class=\"kill\" href=\"#{}\" aria-label=\"", self.kill_id(kill));
        let words = escaped(&kill.in_words());
        out.push_str(&words);
        out.push_str("\"><title>");
        out.push_str(&words);
        let _ = write!(
            out,
            "</title><rect class=\"touch\" x=\"{}\" y=\"{}\" width=\"24\" height=\"24\"/>{shape}\
             <text x=\"{x}\" y=\"{y}\" dy=\"0.35em\" text-anchor=\"middle\" font-size=\"11\" \
             font-weight=\"bold\" fill=\"{letters}\">",
            x.saturating_sub(12),
            y.saturating_sub(12),
        );
        out.push_str(&escaped(&kill.label));
        out.push_str("</text></a>");
        out
    }
}

/// What happened at a moment, and it is not a kill: the sign of the events with this place.
pub fn sign(place: usize, x: i32, y: i32) -> String {
    let ink = Ink::Threshold(place).hex();
    if place == 0 {
        return format!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"4\" fill=\"{ink}\" aria-hidden=\"true\"/>"
        );
    }
    let [left, right] = [x.saturating_sub(5), x.saturating_add(5)];
    let [top, foot] = [y.saturating_sub(5), y.saturating_add(4)];
    format!(
        "<polygon points=\"{x},{top} {right},{foot} {left},{foot}\" fill=\"{ink}\" aria-hidden=\"true\"/>"
    )
}

/// Where a life ends by force.
fn cross(x: i32, y: i32, ink: Ink) -> String {
    let [left, right] = [x.saturating_sub(5), x.saturating_add(5)];
    let [top, bottom] = [y.saturating_sub(5), y.saturating_add(5)];
    format!(
        "<path d=\"M{left} {top}L{right} {bottom}M{left} {bottom}L{right} {top}\" stroke=\"{}\" stroke-width=\"3\" aria-hidden=\"true\"/>",
        ink.hex()
    )
}

impl Kill {
    /// All that matters of it in one sentence: a mark's text alternative.
    pub fn in_words(&self) -> String {
        let mut text = match self.mark {
            KillMark::Plain => format!("Kill {}", self.label),
            mark => format!("Kill {} ({})", self.label, mark.words()),
        };
        let _ = write!(text, " at {}: {}", moment(self.at), self.victim);
        if let Some(adj) = self.adj {
            let _ = write!(text, ", adj {adj}");
        }
        let _ = write!(text, "; {}", self.rule);
        if !self.reason.is_empty() {
            let _ = write!(text, ": {}", self.reason);
        }
        match self.latency_ms {
            Some(ms) => {
                let _ = write!(text, "; dead {} ms after the event", short(ms));
            }
            None => text.push_str("; no death recorded"),
        }
        text
    }
}

impl Panel {
    fn highest(lines: &[super::Series]) -> f64 {
        let values = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        values.filter(|value| value.is_finite()).fold(0.0, f64::max)
    }

    /// The highest value that is drawn. A threshold far above all that was measured would press the
    /// lines to the ground, so it is left to the legend.
    pub fn top(&self) -> f64 {
        let measured = Self::highest(&self.series).max(Self::highest(&self.events));
        let near = self.thresholds.iter().map(|line| Self::highest(std::slice::from_ref(line)));
        let near = near.filter(|top| measured == 0.0 || *top <= measured * 4.0);
        let top = near.fold(measured, f64::max);
        let top = self.ceiling.map_or(top, |ceiling| top.min(ceiling));
        if top > 0.0 {
            top
        } else {
            float(1)
        }
    }

    fn bottom(&self) -> f64 {
        let values = self.series.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        values.filter(|value| value.is_finite()).fold(0.0, f64::min)
    }
}
