//! The processes that use memory.

use anyhow::Context;
use anyhow::Result;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use std::time::Instant;

const MIB: usize = 1 << 20;

/// One mebibyte that no compressor makes smaller (xorshift64).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = Vec::with_capacity(MIB);
    while block.len() < MIB {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend_from_slice(&state.to_ne_bytes());
    }
    block
}

fn argument(args: &[String], index: usize) -> Result<u64> {
    args.get(index).context("too few arguments")?.parse().context("not a number")
}

fn say(word: &str) -> Result<()> {
    println!("{word}");
    Ok(std::io::stdout().flush()?)
}

/// `app MIB CACHE_MIB`: fills so much memory, says `ready`, then keeps reading so much of the disk, for ever.
pub fn hold(args: &[String]) -> Result<()> {
    let (size, cache) = (argument(args, 0)?, argument(args, 1)?);
    std::fs::write("/proc/self/oom_score_adj", "0")?;
    let block = noise(u64::from(std::process::id()));
    let mut held = Vec::new();
    for _ in 0..size {
        held.push(block.clone());
    }
    say("ready")?;
    let disk = if cache > 0 { Some(File::open("/dev/vda")?) } else { None };
    let mut buffer = vec![0; MIB];
    loop {
        let Some(disk) = &disk else {
            std::thread::park();
            continue;
        };
        for part in 0..cache {
            disk.read_at(&mut buffer, part * (MIB as u64))?;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// `hog MIB MIB_PER_SECOND`: grows at that speed to that size, says `done`, then holds what it has.
pub fn grow(args: &[String]) -> Result<()> {
    let (size, speed) = (argument(args, 0)?, argument(args, 1)?);
    let block = noise(1);
    let start = Instant::now();
    let mut held = Vec::new();
    for grown in 0..size {
        held.push(block.clone());
        let due = Duration::from_millis((grown + 1) * 1000 / speed.max(1));
        std::thread::sleep(due.saturating_sub(start.elapsed()));
    }
    say("done")?;
    loop {
        std::thread::park();
    }
}
