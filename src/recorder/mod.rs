//! The flight recorder: the last evaluations with all their inputs, and what came of them.
//!
//! One format serves everything: the ring in the daemon's memory, the dump of it on request, the
//! live stream and the file. A recording is [`MAGIC`], whose last byte is the version of the
//! format, a [`Header`], and then records in the order they were made, each in a [`frame`].
//! Readers refuse another version, and a kind of record that they would have to know. A torn or
//! cut-off recording is read up to the tear.
//!
//! | record | written |
//! | --- | --- |
//! | [`Header`] | at the start of a file or an answer |
//! | [`Settings`], [`Checkpoint`], [`Registered`] | at the start, and again each quarter of the ring, so that there is always a place from which a replay can start |
//! | [`Look`] | for every trigger: what was asked, the whole [`Sample`], the verdict, what was done |
//! | [`Kill`], [`Fate`] | for each kill: the victim, why, and the moments from event to proof |
//! | [`Change`] | when a registered process comes, moves or goes |
//! | [`Sources`] | when what tells of pressure changes |
//! | [`Input`] | when something else reaches the decision |
//! | [`Status`] | when an operator asks |
//! | [`Lost`] | where records were overwritten before they were read |
//! | [`End`], [`Refused`] | at the end of an answer of the operator's socket |
//!
//! A look that evaluates takes about 200 bytes, so the default ring of 512 KiB holds some 2,500 of
//! them: four minutes of looks each 100 ms, or hours of a device that looks now and then.
//!
//! Who writes, who reads:
//!
//! | file | holds |
//! | --- | --- |
//! | `frame`, `record`, `look`, `kill`, `status`, `settings` | the format |
//! | `ring` | the memory: one writer, any number of readers, no locks |
//! | `journal` | the loop's end |
//! | `scribe` | the thread that reads for others: the operator's socket, files |
//! | `wire`, `client` | the protocol of the socket, and its other end |
//! | `recording`, `replay` | reading a file, and running the decision over it |
//!
//! [`Sample`]: crate::kernel::Sample

pub mod client;
pub mod few;
pub mod frame;
mod journal;
mod kill;
mod look;
mod record;
mod recording;
mod replay;
pub mod ring;
mod scribe;
mod settings;
mod status;
pub mod wire;

pub use journal::Journal;
pub use kill::Fate;
pub use kill::Kill;
pub use kill::Step;
pub use look::Act;
pub use look::Look;
pub use look::Obstacle;
pub use look::Seen;
pub use look::Tried;
pub use record::Change;
pub use record::Checkpoint;
pub use record::End;
pub use record::Entry;
pub use record::Header;
pub use record::Input;
pub use record::Lost;
pub use record::Pressure;
pub use record::Process;
pub use record::Reclaims;
pub use record::Record;
pub use record::Refused;
pub use record::Registered;
pub use record::Removal;
pub use record::Sources;
pub use record::Unreadable;
pub use recording::check_magic;
pub use recording::read_all;
pub use recording::ReadError;
pub use recording::Recording;
pub use recording::Tear;
pub use recording::MAGIC;
pub use replay::Replayed;
pub use replay::Replayer;
pub(crate) use scribe::answer::Standing;
pub use scribe::Duties;
pub use settings::Settings;
pub use status::Next;
pub use status::Outlook;
pub use status::RingState;
pub use status::Spread;
pub use status::Status;
pub use status::Steps;

#[cfg(test)]
mod tests;
