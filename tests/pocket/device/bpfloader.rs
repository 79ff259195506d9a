//! The loader of BPF programs: puts those that report reclaim where Android's loader puts AOSP's.

use anyhow::Context;
use anyhow::Result;
use lmkd::kernel::memevents;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Uid;
use std::fs;
use std::path::Path;

const DIRECTORY: &str = "/sys/fs/bpf/memevents";
/// Bytes in the ring that AOSP's programs come with, which its loader makes a page at least.
const RING_SIZE: u32 = 4096;
/// The group of the pins: system.
const GROUP: u32 = 1000;

/// `bpfloader`
pub fn run() -> Result<()> {
    fs::create_dir_all(DIRECTORY).context(DIRECTORY)?;
    let page = u32::try_from(rustix::param::page_size())?;
    memevents::pin_programs(Path::new(DIRECTORY), RING_SIZE.max(page)).context(DIRECTORY)?;
    for entry in fs::read_dir(DIRECTORY)? {
        let path = entry?.path();
        let is_ring =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("map"));
        rustix::fs::chown(&path, Some(Uid::ROOT), Some(Gid::from_raw(GROUP)))?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(if is_ring { 0o660 } else { 0o440 }))?;
    }
    Ok(())
}
