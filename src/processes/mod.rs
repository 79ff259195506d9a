//! Who can be killed, and who is next.
//!
//! [`Registry`] holds what clients registered, in the order in which it is to die.

mod pid;
mod record;
mod registry;
mod slots;

pub use pid::Pid;
pub use record::ClientId;
pub use record::Record;
pub use record::RecordId;
pub use registry::Registry;
