//! Has the kernel give a dead process's id to the next one.

use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::time::Duration;
use std::time::Instant;

/// Where a kernel built for checkpoints lets one say it; Android's are not.
const LAST: &str = "/proc/sys/kernel/ns_last_pid";
/// Name of the threads that use ids up: their exits are none of the record's concern.
pub const THREAD: &str = "uses-up-ids";
/// Ids are given in turn and begin anew after this many, unless there are more CPUs or another limit.
const MOST: u32 = 1 << 16;
/// So many ids before one may be in use, in a row.
const NEAR: u32 = 64;
/// RESERVED_PIDS of kernel/pid.c: lower ones are given once, after the boot.
const FIRST: u32 = 300;
/// The host waits for 90 s. A phone needs 2 s for a round, an emulator may need minutes.
const LIMIT: Duration = Duration::from_secs(60);

/// From here on `pid` is the next id, unless another process is quicker.
pub fn make_next(pid: u32) -> Result<()> {
    if fs::metadata(LAST).is_ok() {
        return fs::write(LAST, (pid - 1).to_string()).context(LAST);
    }
    let limit = "/proc/sys/kernel/pid_max";
    let ids: u32 = fs::read_to_string(limit)?.trim().parse().context(limit)?;
    anyhow::ensure!(ids <= MOST, "{ids} ids are too many to use up: this kernel has no {LAST}");
    anyhow::ensure!(pid > FIRST, "{pid}: ids begin anew at {FIRST}");
    // Threads have ids of the same numbers. Twice, as another may take the one before.
    use_up(2 * ids, pid, id_of_a_thread, is_used)
}

/// Takes ids until the next one is `pid`.
fn use_up(
    most: u32,
    pid: u32,
    mut take: impl FnMut() -> Result<u32>,
    is_used: impl Fn(u32) -> bool,
) -> Result<()> {
    let start = Instant::now();
    for _ in 0..most {
        anyhow::ensure!(start.elapsed() < LIMIT, "ids are used up too slowly");
        let id = take()?;
        if (pid.saturating_sub(NEAR)..pid).contains(&id) && (id + 1..pid).all(&is_used) {
            return Ok(());
        }
    }
    anyhow::bail!("{pid}: the id before it was always another's")
}

/// Whether a process or a thread has that id.
fn is_used(id: u32) -> bool {
    // Threads are not listed there, but found.
    fs::metadata(format!("/proc/{id}")).is_ok()
}

/// The id of a thread that has exited by then.
fn id_of_a_thread() -> Result<u32> {
    let thread = std::thread::Builder::new().name(THREAD.to_owned()).stack_size(16 << 10);
    let id = thread.spawn(rustix::thread::gettid)?.join();
    let id = id.ok().context("a thread's id")?;
    Ok(u32::try_from(id.as_raw_pid())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_used_up_to_the_one_before() {
        // 20 is given to another, 3 is the first of the next round; 5 and 6 live on.
        let mut ids = [18, 19, 21, 22, 3, 4].into_iter();
        use_up(20, 7, || Ok(ids.next().unwrap_or(0)), |id| [5, 6].contains(&id)).unwrap();
        assert_eq!(ids.next(), None);
        let mut ids = [18, 19, 21, 22].into_iter().cycle();
        use_up(20, 21, || Ok(ids.next().unwrap_or(0)), |_| false).unwrap_err();
    }

    #[test]
    fn a_thread_has_an_id_of_its_own() {
        assert!(![0, std::process::id()].contains(&id_of_a_thread().unwrap()));
    }
}
