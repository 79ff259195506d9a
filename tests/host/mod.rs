//! What the tests of the real daemon share: the daemon itself, apps to be killed, memory pressure.
//!
//! Each daemon has a directory and a socket of its own and runs with `--no-adopt`: nothing that a
//! test has not registered can be its victim.
#![allow(
    dead_code,
    missing_docs,
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test uses a part of it"
)]

pub mod app;
pub mod daemon;
pub mod pressure;
pub mod terminal;
pub mod tracer;
pub mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Longer than anything takes on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A name that no other test, here or in another process, has.
pub fn own_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("lmkd-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that no other test has.
pub fn own_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(own_name());
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Waits for something that gives no event.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// PIDFD_INFO_EXIT came with Linux 6.15.
pub fn kernel_tells_exit() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// Says that a test did not run: the stage counts it.
/// What the machine's reclaim has counted so far: unchanged while nothing is reclaimed.
pub fn reclaims() -> u64 {
    let text = std::fs::read_to_string("/proc/vmstat").unwrap();
    let counts = ["pgscan_", "pgsteal_", "kswapd_", "pageoutrun", "allocstall_"];
    let lines = text.lines().filter(|line| counts.iter().any(|key| line.starts_with(key)));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

pub fn skip(test: &str, why: &str) {
    println!("skip {test}: {why}");
    let Some(results) = std::env::var_os("RESULTS") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).open(results) {
        let _ = writeln!(file, "skip {test}: {why}");
    }
}
