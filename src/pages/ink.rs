//! Every colour of the pages, on light and on dark ground.
//!
//! The drawing library writes the light colour into each shape. A rule of the style sheet that
//! looks for that very value puts the dark one in its place, and gives thresholds their dashes; so
//! one picture serves both grounds. Values are therefore distinct. Lines keep a contrast of 3:1
//! and words one of 4.5:1 with the ground, as WCAG 2.2 (1.4.3, 1.4.11) wants; a test holds them
//! to it.

use plotters::style::RGBColor;
use std::fmt::Write;

/// The ground on which all else is seen.
pub const GROUND: [u32; 2] = [0x00FF_FFFF, 0x0011_161C];

/// A colour by what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// Words.
    Text,
    /// Words of less weight.
    Faint,
    /// Axes.
    Axis,
    /// The net behind a picture. No meaning is lost if it is not seen.
    Net,
    /// A kill, and one that two tellings agree on.
    Kill,
    /// A kill that goes.
    Goes,
    /// A kill that comes.
    Comes,
    /// A kill that moves.
    Moves,
    /// The lines of a picture by number; after the last comes the first.
    Line(usize),
    /// The thresholds of a picture by number; after the last comes the first.
    Threshold(usize),
    /// A process by its oom_score_adj.
    Adj(i32),
    /// The bars of a histogram.
    Bar,
}

/// Light and dark, as 0xRRGGBB.
type Shade = [u32; 2];

const TEXT: Shade = [0x001B_1F24, 0x00E6_EDF3];
const FAINT: Shade = [0x0057_606A, 0x009D_A7B3];
const AXIS: Shade = [0x006E_7781, 0x0082_8D99];
const NET: Shade = [0x00E4_E8EC, 0x0026_2E37];
const KILL: Shade = [0x00C6_2828, 0x00FF_7B72];
const GOES: Shade = [0x005C_6370, 0x00A8_B3C0];
const COMES: Shade = [0x00B0_4A00, 0x00FF_A657];
const MOVES: Shade = [0x006F_42C1, 0x00C9_A6FF];
const BAR: Shade = [0x0025_63A8, 0x0079_B8FF];
const LINES: [Shade; 6] = [
    [0x0015_65C0, 0x006C_B6FF],
    [0x00B4_5309, 0x00F0_A45D],
    [0x006A_1B9A, 0x00D2_A8FF],
    [0x0000_796B, 0x004F_D1C0],
    [0x00AD_1457, 0x00FF_8FB8],
    [0x004E_6A1F, 0x00B5_D16B],
];
const THRESHOLDS: [Shade; 4] = [
    [0x00BF_360C, 0x00FF_9E80],
    [0x0080_6000, 0x00E8_C547],
    [0x0033_691E, 0x00A3_D977],
    [0x0045_5A64, 0x00B0_BEC5],
];

/// Ranges of oom_score_adj by Android's names for them: the highest value, words, shade.
const ADJS: [(i32, &str, Shade); 6] = [
    (-1, "below 0: system, never killed", [0x0060_6C78, 0x0098_A2AE]),
    (0, "0: foreground", [0x0045_27A0, 0x00B3_9DFF]),
    (200, "1 to 200: visible, perceptible", [0x001E_63B5, 0x007F_B2FF]),
    (699, "201 to 699: services, home", [0x0000_707E, 0x0057_C7D6]),
    (899, "700 to 899: previous, old services", [0x002E_7D32, 0x0081_D184]),
    (i32::MAX, "900 and above: cached", [0x008D_6E00, 0x00E3_BF45]),
];

impl Ink {
    fn shade(self) -> Shade {
        let nth = |shades: &[Shade], n: usize| {
            let n = n.checked_rem(shades.len()).unwrap_or(0);
            shades.get(n).copied().unwrap_or(TEXT)
        };
        match self {
            Self::Text => TEXT,
            Self::Faint => FAINT,
            Self::Axis => AXIS,
            Self::Net => NET,
            Self::Kill => KILL,
            Self::Goes => GOES,
            Self::Comes => COMES,
            Self::Moves => MOVES,
            Self::Bar => BAR,
            Self::Line(n) => nth(&LINES, n),
            Self::Threshold(n) => nth(&THRESHOLDS, n),
            Self::Adj(adj) => {
                ADJS.iter().find(|(top, ..)| adj <= *top).map_or(TEXT, |(.., shade)| *shade)
            }
        }
    }

    /// For the drawing library.
    pub fn colour(self) -> RGBColor {
        let [_, red, green, blue] = self.shade()[0].to_be_bytes();
        RGBColor(red, green, blue)
    }

    /// For a shape that is written by hand.
    pub fn hex(self) -> String {
        hex(self.shade()[0])
    }
}

/// Colours of the ranges of oom_score_adj, with their words.
pub fn adj_ranges() -> impl Iterator<Item = (Ink, &'static str)> {
    ADJS.iter().map(|(top, words, _)| (Ink::Adj(*top), *words))
}

fn hex(rgb: u32) -> String {
    format!("#{rgb:06X}")
}

/// All shades, each with its least contrast.
fn shades() -> Vec<(Shade, f64)> {
    let mut all = vec![(TEXT, 4.5), (FAINT, 4.5), (NET, 1.0)];
    all.extend([AXIS, KILL, GOES, COMES, MOVES, BAR].map(|shade| (shade, 3.0)));
    all.extend(LINES.map(|shade| (shade, 3.0)));
    all.extend(THRESHOLDS.map(|shade| (shade, 3.0)));
    all.extend(ADJS.map(|(_, _, shade)| (shade, 3.0)));
    all
}

/// The part of the style sheet that colours depend on.
pub fn style() -> String {
    let mut css = String::new();
    let variables = |css: &mut String, ground: usize| {
        let pick = |shade: Shade| hex(shade.get(ground).copied().unwrap_or_default());
        let _ = write!(
            css,
            ":root{{--ground:{};--text:{};--faint:{};--axis:{};--net:{};--kill:{};--link:{}}}",
            pick(GROUND),
            pick(TEXT),
            pick(FAINT),
            pick(AXIS),
            pick(NET),
            pick(KILL),
            pick(LINES[0]),
        );
    };
    variables(&mut css, 0);
    for (n, [light, _]) in THRESHOLDS.iter().enumerate() {
        let dashes = ["7 4", "3 3", "10 3 2 3", "1 3"].get(n).copied().unwrap_or("4 4");
        let _ = write!(css, "svg [stroke=\"{}\"]{{stroke-dasharray:{dashes}}}", hex(*light));
    }
    css.push_str("@media (prefers-color-scheme:dark){");
    variables(&mut css, 1);
    for ([light, dark], _) in shades() {
        let (light, dark) = (hex(light), hex(dark));
        let _ = write!(css, "svg [fill=\"{light}\"]{{fill:{dark}}}");
        let _ = write!(css, "svg [stroke=\"{light}\"]{{stroke:{dark}}}");
    }
    // What is written upon a filled mark.
    let _ = write!(css, "svg [fill=\"{}\"]{{fill:{}}}", hex(GROUND[0]), hex(GROUND[1]));
    css.push('}');
    css
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG's relative luminance.
    fn luminance(rgb: u32) -> f64 {
        let [_, red, green, blue] = rgb.to_be_bytes().map(|channel| {
            let channel = f64::from(channel) / 255.0;
            if channel <= 0.04045 {
                channel / 12.92
            } else {
                ((channel + 0.055) / 1.055).powf(2.4)
            }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    fn contrast(a: u32, b: u32) -> f64 {
        let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
        if a > b {
            a / b
        } else {
            b / a
        }
    }

    #[test]
    fn every_shade_can_be_seen_on_either_ground() {
        for (shade, least) in shades() {
            for (ground, colour) in GROUND.into_iter().zip(shade) {
                let found = contrast(ground, colour);
                assert!(found >= least, "{} on {}: {found:.2}", hex(colour), hex(ground));
            }
        }
    }

    #[test]
    fn light_shades_are_distinct_since_the_style_sheet_finds_the_dark_ones_by_them() {
        let mut light: Vec<u32> = shades().into_iter().map(|(shade, _)| shade[0]).collect();
        light.push(GROUND[0]);
        let all = light.len();
        light.sort_unstable();
        light.dedup();
        assert_eq!(light.len(), all);
    }

    #[test]
    fn every_adj_has_a_range() {
        assert_eq!(Ink::Adj(-1000).shade(), ADJS[0].2);
        assert_eq!(Ink::Adj(0).shade(), ADJS[1].2);
        assert_eq!(Ink::Adj(1).shade(), ADJS[2].2);
        assert_eq!(Ink::Adj(1000).shade(), ADJS[5].2);
    }
}
