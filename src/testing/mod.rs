//! What unit tests of several rooms share.

mod held;
mod mounts;

pub(crate) use held::Held;
pub(crate) use mounts::with_mounts;
