//! lmkd: hears memory pressure from the kernel, kills one victim at a time, proves each death.
pub mod clock;
pub mod config;
pub mod control;
pub mod daemon;
pub mod kernel;
pub mod kill;
pub mod logging;
pub mod oom_score_adj;
pub mod pidfd;
pub mod policy;
pub mod processes;
pub mod sys;
pub mod units;
