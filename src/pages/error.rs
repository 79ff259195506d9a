//! Why a page could not be drawn.

use std::error::Error;
use std::fmt;

/// Why a page could not be drawn.
#[derive(Debug)]
pub enum PageError {
    /// The drawing library refused; its words.
    Drawing(String),
}

impl PageError {
    /// Of whatever error the drawing library has.
    pub(super) fn drawing(error: impl fmt::Display) -> Self {
        Self::Drawing(error.to_string())
    }
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawing(why) => write!(f, "drawing a picture: {why}"),
        }
    }
}

impl Error for PageError {}
