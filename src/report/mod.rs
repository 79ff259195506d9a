//! What is told about a kill beyond the log line: Android's event record, a trace event.

pub mod event_log;
mod kill_log;
pub mod killinfo;
mod text;
pub mod trace;

pub use event_log::EventLog;
pub use kill_log::KillLog;
pub use killinfo::KillInfo;
pub use trace::TraceMarker;
