//! Values as text, and what is needed of a line at a given width.

/// What the values of a picture are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Mebibytes.
    #[default]
    Mib,
    /// Percent.
    Percent,
    /// Milliseconds.
    Millis,
    /// Neither.
    Plain,
}

impl Unit {
    /// As it stands after a number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mib => "MiB",
            Self::Percent => "%",
            Self::Millis => "ms",
            Self::Plain => "",
        }
    }

    /// A value with its unit.
    pub fn with(self, value: f64) -> String {
        match self {
            Self::Plain => short(value),
            Self::Percent => format!("{}%", short(value)),
            _ => format!("{} {}", short(value), self.name()),
        }
    }
}

/// Three digits that matter.
pub fn short(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    match text.trim_end_matches('0').trim_end_matches('.') {
        "-0" => "0".to_owned(),
        text => text.to_owned(),
    }
}

/// A moment, to the millisecond.
pub fn moment(seconds: f64) -> String {
    format!("{seconds:.3} s")
}

/// A moment on an axis of `span` seconds.
pub fn tick(seconds: f64, span: f64) -> String {
    if span < 180.0 {
        return format!("{} s", short(seconds));
    }
    let whole = whole(seconds);
    format!("{}:{:02}", whole / 60, (whole % 60).abs())
}

/// The nearest whole number.
#[allow(clippy::cast_possible_truncation)] // A cast from a float saturates.
pub fn whole(value: f64) -> i32 {
    value.round() as i32
}

/// A kernel's number as the drawing library takes it. What is lost lies beyond 2^53.
#[allow(clippy::cast_precision_loss)]
#[must_use]
pub fn float(value: i64) -> f64 {
    value as f64
}

/// The points of a line that can be told apart when it is `columns` wide: of each column the
/// first, the lowest, the highest and the last, in the order of time.
pub fn thinned(points: &[(f64, f64)], from: f64, to: f64, columns: u32) -> Vec<(f64, f64)> {
    let column = |time: f64| whole((time - from) / (to - from) * f64::from(columns));
    let mut kept = Vec::new();
    for same in points.chunk_by(|a, b| column(a.0) == column(b.0) && a.1.is_nan() == b.1.is_nan()) {
        if same.len() <= 4 {
            kept.extend_from_slice(same);
            continue;
        }
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let picks =
            [same.first(), same.iter().min_by(by_value), same.iter().max_by(by_value), same.last()];
        let mut picks: Vec<(f64, f64)> = picks.into_iter().flatten().copied().collect();
        picks.sort_by(|a, b| a.0.total_cmp(&b.0));
        picks.dedup();
        kept.extend(picks);
    }
    kept
}

/// A line as the pieces that lie under `ceiling`, cut where they cross it or have a gap.
pub fn pieces(points: &[(f64, f64)], ceiling: f64) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = vec![Vec::new()];
    let mut push = |point: Option<(f64, f64)>| match (point, pieces.last_mut()) {
        (Some(point), Some(piece)) => piece.push(point),
        (None, Some(piece)) if !piece.is_empty() => pieces.push(Vec::new()),
        _ => {}
    };
    let mut before: Option<(f64, f64)> = None;
    for &(time, value) in points {
        if value.is_nan() {
            push(None);
            before = None;
            continue;
        }
        let crossing = before.filter(|(_, old)| (*old > ceiling) != (value > ceiling)).map(|old| {
            let share = (ceiling - old.1) / (value - old.1);
            (old.0 + share * (time - old.0), ceiling)
        });
        if crossing.is_some() {
            push(crossing);
        }
        push((value <= ceiling).then_some((time, value)));
        before = Some((time, value));
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

/// The mean width of a sans-serif letter in hundredths of its size, digits and capitals included.
const LETTER: u32 = 56;

/// About how many pixels a text takes.
pub fn width_of(text: &str, font: u32) -> u32 {
    let letters = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
    letters.saturating_mul(font.saturating_mul(LETTER)).div_ceil(100)
}

/// The start of a text that fits into `width` pixels at a font size, with an ellipsis if it is cut.
pub fn fitted(text: &str, width: u32, font: u32) -> String {
    let room = usize::try_from(width.saturating_mul(100) / font.saturating_mul(LETTER).max(1));
    let room = room.unwrap_or(usize::MAX);
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// A text inside of markup.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_that_matter() {
        for (value, text) in [
            (0.0, "0"),
            (-0.001, "0"),
            (1.0, "1"),
            (1.256, "1.26"),
            (12.04, "12"),
            (512.4, "512"),
            (100.0, "100"),
            (20480.0, "20480"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(Unit::Percent.with(12.5), "12.5%");
        assert_eq!(Unit::Mib.with(3.0), "3 MiB");
    }

    #[test]
    fn long_times_are_minutes_and_seconds() {
        assert_eq!(tick(2.5, 10.0), "2.5 s");
        assert_eq!(tick(605.0, 900.0), "10:05");
    }

    #[test]
    fn a_thinned_line_keeps_what_sticks_out() {
        let mut points: Vec<(f64, f64)> =
            (0..10_000).map(|n| (f64::from(n) / 100.0, f64::from(n % 7))).collect();
        points[5_003].1 = 99.0;
        points[7_001].1 = -5.0;
        let few = thinned(&points, 0.0, 100.0, 50);
        assert!(few.len() <= 51 * 4, "{}", few.len());
        assert!(few.contains(&(50.03, 99.0)));
        assert!(few.contains(&(70.01, -5.0)));
        assert!(few.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn a_line_is_cut_where_it_crosses_the_ceiling() {
        let line = [(0.0, 0.0), (1.0, 20.0), (2.0, 0.0)];
        let cut = pieces(&line, 10.0);
        assert_eq!(cut, [vec![(0.0, 0.0), (0.5, 10.0)], vec![(1.5, 10.0), (2.0, 0.0)]]);
    }

    #[test]
    fn a_gap_parts_a_line() {
        let line = [(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)];
        assert_eq!(pieces(&line, 10.0), [vec![(0.0, 1.0)], vec![(2.0, 1.0)]]);
        assert!(pieces(&[], 10.0).is_empty());
    }

    #[test]
    fn a_text_that_is_too_long_ends_in_an_ellipsis() {
        assert_eq!(fitted("short", 100, 12), "short");
        assert_eq!(fitted("com.example.longname", 67, 12), "com.exam…");
        assert_eq!(fitted("any", 0, 12), "…");
    }
}
