//! Who can be killed, and who is next.
//!
//! [`Registry`] holds what clients registered, [`Adopter`] finds on plain Linux what nobody did.
//! [`Searcher`] yields candidates of both in the order in which they are to die: from the highest
//! `oom_score_adj` down; of one adj the least recently registered first, or, where the user would
//! notice, the heaviest.

mod adopt;
mod ahead;
mod heaviest;
mod known;
mod names;
mod pid;
mod ready;
mod record;
mod registry;
mod search;
mod size;
mod slots;

pub use adopt::AdoptError;
pub use adopt::Adopter;
pub use names::Names;
pub use pid::Pid;
pub use ready::Heads;
pub use ready::Prepared;
pub use ready::Ready;
pub use ready::READY;
pub use record::ClientId;
pub use record::Record;
pub use record::RecordId;
pub use registry::Registry;
pub use search::Candidate;
pub use search::Searcher;
pub use search::Who;
pub use size::statm_budget;
