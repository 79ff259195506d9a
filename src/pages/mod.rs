//! Pages to look at: what a recording or a test run shows, as one HTML file.
//!
//! A page needs nothing but itself: no network, no script, no font of its own. It follows the
//! reader's choice of light or dark, every picture is drawn twice, for a desktop's width and for a
//! phone's, every mark can be reached with the keyboard, and beside every picture stand its
//! numbers as a table. Only for a host: the device build leaves this room out.
//!
//! | file | holds |
//! | --- | --- |
//! | `story` | [`Story`]: what is to be drawn, in plain values and seconds |
//! | `ink` | every colour, on light and on dark ground |
//! | `number` | values as text, and what is needed of a line at a given width |
//! | `picture` | a story's pictures as SVG |
//! | `histogram` | a distribution as SVG, with its percentiles |
//! | `sheet`, `page.html`, `style.css` | the page around them |

mod error;
mod histogram;
mod ink;
mod number;
mod picture;
mod sheet;
mod story;

pub use error::PageError;
pub use histogram::Histogram;
pub use number::float;
pub use number::Unit;
pub use sheet::Page;
pub use sheet::Section;
pub use story::Fate;
pub use story::Kill;
pub use story::KillMark;
pub use story::Life;
pub use story::Panel;
pub use story::Row;
pub use story::Series;
pub use story::Stay;
pub use story::Story;
pub use story::Table;

#[cfg(test)]
mod tests;
