//! When to kill, why, and down to which oom_score_adj: pure functions over a [`Sample`].
//!
//! No I/O, clock, logging or allocation here: the time and every number arrive as values, so a
//! table test, a recorded session and the live daemon run the same code.
//!
//! [`Sample`]: crate::kernel::Sample

mod reason;
mod verdict;

pub use reason::KillReason;
pub use verdict::Admission;
pub use verdict::Cause;
pub use verdict::Level;
pub use verdict::PollPlan;
pub use verdict::PollRequest;
pub use verdict::Reclaim;
pub use verdict::Signals;
pub use verdict::Trigger;
pub use verdict::Verdict;
pub use verdict::Wmark;
