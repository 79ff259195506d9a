//! Says what the watchdog has done, on a thread of its own: the log may be what the loop is stuck
//! in, and nothing that can wait may keep the watchdog from its next victim.

use super::report;
use crate::kernel::Meminfo;
use crate::kernel::PressureInfo;
use crate::kill::Victim;
use crate::oom_score_adj::OomScoreAdj;
use crate::policy::WakeupInfo;
use crate::report::EventLog;
use crate::report::KillInfo;
use crate::report::TraceMarker;
use crate::units::Kib;
use crate::units::PageSize;
use rustix::io::Errno;
use std::fmt;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;

/// How much may wait to be said. What is beyond is lost: it would be as late as all before it.
const WAITING: usize = 32;

/// Something the watchdog did.
pub(super) enum News {
    /// The limit is over.
    Stuck(Stuck),
    Killed(Victim, Stuck),
    WouldKill(Victim, Stuck),
    Refused(i32, Errno),
    Nobody,
}

/// The reason of a kill line.
#[derive(Clone, Copy)]
pub(super) struct Stuck {
    pub ran_ms: u64,
    pub limit_ms: u64,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ran_ms, limit_ms } = self;
        write!(f, "the daemon is stuck, {ran_ms}ms in one handler > {limit_ms}ms")
    }
}

/// Starts the thread. It ends with the sender.
pub(super) fn start(event_log: EventLog, page: PageSize) -> std::io::Result<SyncSender<News>> {
    let (sender, news) = mpsc::sync_channel(WAITING);
    // Held from the start: once the daemon serves, its descriptors are all there.
    let trace = TraceMarker::open().ok();
    let builder = std::thread::Builder::new().name("lmkd_teller".to_owned());
    builder.stack_size(64 * 1024).spawn(move || tell(&news, event_log, trace.as_ref(), page))?;
    Ok(sender)
}

fn tell(
    news: &Receiver<News>,
    mut event_log: EventLog,
    trace: Option<&TraceMarker>,
    page: PageSize,
) {
    while let Ok(news) = news.recv() {
        match news {
            News::Stuck(Stuck { ran_ms, .. }) => {
                let place = place_of_the_loop();
                log::error!(
                    "lmkd watchdog timed out: one handler has been running for {ran_ms}ms{place}"
                );
            }
            News::Killed(victim, why) => {
                log::info!("{}", report::KillLine { victim: &victim, why: &why });
                if let Some(trace) = trace {
                    trace.kill(victim.pid, None, victim.adj, OomScoreAdj::FOREGROUND, 0);
                }
                record(&victim, &mut event_log, page);
            }
            News::WouldKill(victim, why) => {
                log::info!("dry run, would: {}", report::KillLine { victim: &victim, why: &why });
            }
            News::Refused(pid, error) => {
                log::error!("lmkd watchdog cannot kill process {pid}: {error}");
            }
            News::Nobody => log::error!("lmkd watchdog has nobody to kill"),
        }
    }
}

/// Where the kernel has the main thread, as far as it tells: its state, the system call by its number,
/// and what it sleeps in (proc(5): `task/TID/stat`, `syscall`, `wchan`).
fn place_of_the_loop() -> String {
    let pid = std::process::id();
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/self/task/{pid}/{name}")).unwrap_or_default()
    };
    let (stat, syscall, wchan) = (read("stat"), read("syscall"), read("wchan"));
    // The name before it may hold blanks.
    let behind_name = stat.rsplit(") ").next().unwrap_or_default();
    let first = |text: &str| text.split_whitespace().next().unwrap_or("?").to_owned();
    let (state, syscall, wchan) = (first(behind_name), first(&syscall), first(&wchan));
    format!("; the loop is in state {state}, system call {syscall}, at {wchan}")
}

fn record(victim: &Victim, event_log: &mut EventLog, page: PageSize) {
    let info = KillInfo {
        pid: victim.pid,
        uid: victim.uid,
        adj: victim.adj,
        min_adj: OomScoreAdj::FOREGROUND,
        rss: victim.rss,
        swap: victim.swap,
        reason: None,
        // The sample is the loop's.
        meminfo: Meminfo::default(),
        page,
        wakeup: WakeupInfo::default(),
        gpu: Kib::ZERO,
        thrashing: 0,
        max_thrashing: 0,
        pressure: PressureInfo::default(),
    };
    if let Err(error) = event_log.write(&info) {
        log::warn!("the event record of a kill is lost: {error}");
    }
}
