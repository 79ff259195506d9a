//! What unit tests of several rooms share.

mod mounts;

pub(crate) use mounts::with_mounts;
