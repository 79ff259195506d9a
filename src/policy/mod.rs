//! When to kill, why, and down to which oom_score_adj: pure functions over a [`Sample`].
//!
//! No I/O, clock, logging or allocation here: the time and every number arrive as values, so a
//! table test, a recorded session and the live daemon run the same code.
//!
//! | file | holds |
//! | --- | --- |
//! | `state` | [`Policy`]: what is remembered between two looks, and the order of the steps |
//! | `signals` | the derived signals, one file each: `reclaim`, `swap`, `thrashing`, `watermark`, `exhaustion` |
//! | `rules` | [`RULES`]: the reasons to kill, in order, each a list of conditions |
//! | `condition` | [`Condition`]: what a rule demands, and how it reads in a log |
//! | `minfree` | [`MinfreeTable`]: the older way, levels that a client sends |
//! | `poller` | [`Poller`]: when to look again |
//! | `window` | which rules that look asks: all of them in the window after a pressure event |
//!
//! [`Sample`]: crate::kernel::Sample
#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]

mod condition;
mod exhaustion;
mod minfree;
mod poller;
mod reason;
mod reclaim;
mod rules;
mod state;
mod swap;
mod thrashing;
mod verdict;
mod wakeup;
mod watermark;
mod why;
mod window;

pub use condition::Condition;
pub use condition::Facts;
pub use minfree::MinfreeTable;
pub use poller::Poller;
pub use reason::KillReason;
pub use rules::Rule;
pub use rules::RULES;
pub(crate) use state::Added;
pub use state::Policy;
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
pub use wakeup::WakeupInfo;
pub use why::Why;

#[cfg(test)]
mod tests;
