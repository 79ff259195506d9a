//! What the kernel says about memory, read into one [`Sample`].

pub mod memevents;
pub mod process;
mod sample;

pub use sample::Meminfo;
pub use sample::ReclaimEvents;
pub use sample::Sample;
pub use sample::Stall;
pub use sample::Vmstat;
pub use sample::Watermarks;
