//! A distribution as SVG, with its percentiles.

use super::ink::Ink;
use super::number::float;
use super::number::short;
use super::picture;
use super::picture::Frame;
use super::picture::FONT;
use super::PageError;
use plotters::prelude::ChartBuilder;
use plotters::prelude::Color;
use plotters::prelude::IntoDrawingArea;
use plotters::prelude::Rectangle;
use plotters::prelude::SVGBackend;
use std::fmt::Write;

/// How long a step took, each time it was taken.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// From what to what.
    pub title: String,
    /// Milliseconds.
    pub values: Vec<f64>,
}

const HEIGHT: u32 = 170;
const AXIS: u32 = 24;
const GUTTER: u32 = 40;

impl Histogram {
    fn sorted(&self) -> Vec<f64> {
        let mut values: Vec<f64> = self.values.iter().copied().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The value that `percent` of all do not exceed (nearest rank).
    fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
        let rank = sorted.len().saturating_mul(percent).div_ceil(100).max(1);
        sorted.get(rank.checked_sub(1)?).copied()
    }

    /// Count, median, 99th percentile and maximum in words.
    pub fn summary(&self) -> String {
        let sorted = self.sorted();
        let percentile = |percent| Self::percentile(&sorted, percent).map(short);
        match (percentile(50), percentile(99), percentile(100)) {
            (Some(p50), Some(p99), Some(max)) => {
                format!("{} times: p50 {p50} ms, p99 {p99} ms, at most {max} ms", sorted.len())
            }
            _ => "not once".to_owned(),
        }
    }

    /// Edges of buckets in steps of 1, 2, 5, and how many values lie between each and the next.
    pub fn buckets(&self) -> Vec<(f64, f64, usize)> {
        let sorted = self.sorted();
        let (Some(&least), Some(&most)) = (sorted.first(), sorted.last()) else {
            return Vec::new();
        };
        let mut edges = vec![0.0];
        let mut decade = 0.001;
        while decade < 1e7 {
            edges.extend([1.0, 2.0, 5.0].map(|step| step * decade));
            decade *= 10.0;
        }
        let buckets = edges.windows(2).filter_map(|edge| match edge {
            [low, high] if *high > least && *low <= most => {
                let inside = sorted.iter().filter(|v| (*low..*high).contains(*v)).count();
                Some((*low, *high, inside))
            }
            _ => None,
        });
        buckets.collect()
    }

    /// As SVG.
    ///
    /// # Errors
    ///
    /// What the drawing library refuses.
    pub fn svg(&self, frame: &Frame) -> Result<String, PageError> {
        let buckets = self.buckets();
        let columns = i32::try_from(buckets.len()).unwrap_or(i32::MAX).max(1);
        let most = buckets.iter().map(|(.., count)| *count).max().unwrap_or(0).max(1);
        let most = float(i64::try_from(most).unwrap_or(i64::MAX));
        let (mut svg, mut over) = (String::new(), String::new());
        {
            let root = SVGBackend::with_string(&mut svg, (frame.width, HEIGHT)).into_drawing_area();
            let mut chart = ChartBuilder::on(&root)
                .margin_top(10)
                .margin_right(18)
                .x_label_area_size(AXIS)
                .y_label_area_size(GUTTER)
                .build_cartesian_2d(0.0..f64::from(columns), 0.0..most * 1.1)
                .map_err(PageError::drawing)?;
            let whole =
                |count: &f64| if count.fract() == 0.0 { short(*count) } else { String::new() };
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_labels(0)
                .y_labels(4)
                .y_label_formatter(&whole)
                .light_line_style(plotters::style::TRANSPARENT)
                .bold_line_style(Ink::Net.colour())
                .axis_style(Ink::Axis.colour())
                .label_style(picture::words(Ink::Faint))
                .draw()
                .map_err(PageError::drawing)?;
            let bars = buckets.iter().zip(0_i32..).map(|((.., count), n)| {
                let (left, right) = (f64::from(n) + 0.06, f64::from(n) + 0.94);
                let top = float(i64::try_from(*count).unwrap_or(i64::MAX));
                Rectangle::new([(left, 0.0), (right, top)], Ink::Bar.colour().filled())
            });
            chart.draw_series(bars).map_err(PageError::drawing)?;
            // As many edges as there is room for: a label takes 34 pixels.
            let room = frame.width.saturating_sub(GUTTER) / 34;
            let every = buckets.len().div_ceil(usize::try_from(room).unwrap_or(1).max(1)).max(1);
            let edges = buckets.first().map(|bucket| bucket.0).into_iter();
            let edges = edges.chain(buckets.iter().map(|bucket| bucket.1)).zip(0_i32..);
            for (edge, n) in edges.step_by(every) {
                let (x, y) = chart.backend_coord(&(f64::from(n), 0.0));
                let fill = Ink::Faint.hex();
                let _ = write!(
                    over,
                    "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\" font-size=\"{FONT}\" fill=\"{fill}\">{}</text>",
                    y.saturating_add(16),
                    short(edge),
                );
            }
            root.present().map_err(PageError::drawing)?;
        }
        let label = format!("{}: {}", self.title, self.summary());
        Ok(picture::finished(&svg, "only", &label, &over))
    }
}
