//! lmkd: hears memory pressure from the kernel, kills one victim at a time, proves each death.
//!
//! ```text
//! /proc/pressure/memory fires, or a BPF ring tells of reclaim       kernel::psi, kernel::memevents
//!   -> one Sample is read: vmstat, meminfo, zoneinfo, pressure      kernel::Sampler
//!   -> a pure function decides: kill? why? down to which adj?       policy::Policy
//!   -> the victim is picked by oom_score_adj                        processes::Searcher
//!   -> raised, SIGKILL by pidfd, memory taken back, exit awaited    kill::Killer
//!   -> every step's time and the exit status are recorded, told     kill::ledger, daemon
//! and only then the next victim.
//! ```
//!
//! A room stands above what it uses; no arrow runs up.
//!
//! | floor | room | holds |
//! | --- | --- | --- |
//! | 7 | `main.rs` | arguments, logging, exit codes; the three modes |
//! | 7 | `bin/lmkctl` | the operator's tool: status, explain, doctor and others; on hosts replay, report |
//! | 6 | `pages` | pictures of a recording or a test run; for a host only |
//! | 6 | [`daemon`] | the epoll loop: one look, registration, clients, start-up |
//! | 5 | [`recorder`] | flight recorder: records, their format, reading them, the decision replayed |
//! | 4 | [`kill`] | the kill in flight: raise, signal, reaper threads, ledger |
//! | 3 | [`policy`] | pure: signals, rules in order, polling, minfree levels |
//! | 3 | [`processes`] | the registry by oom_score_adj, the search, adoption |
//! | 2 | [`kernel`] | what the kernel says: sampler, parsers, PSI monitors, BPF ring, `/proc/PID` |
//! | 2 | [`config`] | the table of tunables, property sources, command line |
//! | 2 | [`control`] | the lmkd socket: codec without I/O, server, client, rights |
//! | 2 | [`pidfd`], [`logging`] | a process as a descriptor; lines that never wait |
//! | 1 | [`sys`], [`clock`], [`units`], [`oom_score_adj`], [`codec`] | system calls, the only unsafe code; the newtypes; values as bytes |
//!
//! Threads: the loop (SCHED_FIFO 1) decides and signals; the reaper's two take dying processes' memory
//! back; one reads the names of the next victims (SCHED_FIFO 1), which may keep it waiting; the
//! watchdog (SCHED_FIFO 2) sleeps unless the loop does not come back from a handler, and then kills
//! in its stead; on Android one waits for init when it sets a property. The loop shares with the reaper
//! and the reader of names eventfds and a few places behind locks that no system call is made under,
//! with the watchdog and the setter of properties atomics only.
//!
//! From event to signal nothing allocates, takes a lock across a system call or waits for a client.
//! The kernel allocates where files are opened: those of a victim that is not among the eight that
//! are kept ready, and the list of the threads of one that had a single thread when it was made ready.
//! The one wait there is, for a name that was not asked for ahead, ends after 2 ms. Before the look,
//! processes that clients have sent word of already are registered, moved and removed, for 1 ms at
//! most: for each files are opened, and what grows with the number of processes may grow.
//! A missing kernel feature costs that feature and one log line. Arithmetic on values from outside
//! saturates: device builds abort on overflow, and an abort of this service reboots the device.

pub mod clock;
pub mod codec;
pub mod config;
pub mod control;
pub mod daemon;
pub mod device;
pub mod kernel;
pub mod kill;
pub mod logging;
pub mod oom_score_adj;
#[cfg(feature = "pages")]
pub mod pages;
pub mod pidfd;
pub mod policy;
pub mod processes;
pub mod recorder;
pub mod report;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod units;
