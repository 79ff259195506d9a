//! Tunables and where their values come from.

mod options;
mod tunables;

pub use options::Options;
pub use tunables::Tunables;
