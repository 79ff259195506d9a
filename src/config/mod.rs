//! Tunables and where their values come from.

mod tunables;

pub use tunables::Tunables;
