//! The processes that use memory, and helpers: `actor app KIND MIB THREADS ROLE SCHED`.
//!
//! A process writes lines to the pipe that all share, its pid first: `PID ready`, and what its role has to tell. Orders
//! come on its standard input.

use crate::raw;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use lmkd::clock::MonoTime;
use rustix::process::set_parent_process_death_signal;
use rustix::process::Signal;
use std::fs::File;
use std::io::BufRead;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

const MIB: usize = 1 << 20;
/// The time between two frames of a 60 Hz screen.
const FRAME: Duration = Duration::from_millis(16);

/// What an app's memory is made of.
#[derive(Clone, Copy)]
enum Kind {
    /// No compressor makes it smaller.
    Noise,
    /// About a quarter of each page is noise, the rest zero.
    Sparse,
    /// Pages of a file.
    File,
}

/// One mebibyte of it (xorshift64).
fn block(kind: Kind, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = vec![0; MIB];
    for page in block.chunks_mut(4096) {
        let noisy = if matches!(kind, Kind::Sparse) { page.len() / 4 } else { page.len() };
        for word in page[..noisy].chunks_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_ne_bytes()[..word.len()]);
        }
    }
    block
}

fn tell(words: &str) {
    // One short write, which a pipe never mixes with another's. A parent that is gone hears nothing.
    let line = format!("{} {words}\n", std::process::id());
    let _ = std::io::stdout().write_all(line.as_bytes()).and_then(|()| std::io::stdout().flush());
}

/// The file that stands for code and data of apps.
fn cache_file() -> Result<File> {
    let path = std::env::var("ACTOR_CACHE").context("ACTOR_CACHE names no file")?;
    File::open(&path).context(path)
}

/// `app KIND MIB THREADS ROLE SCHED`; never returns unless something fails.
pub fn play(args: &[String]) -> Result<()> {
    let [kind, mib, threads, role, sched] = args else { bail!("app KIND MIB THREADS ROLE SCHED") };
    end_with_parent()?;
    let kind = match kind.as_str() {
        "noise" => Kind::Noise,
        "sparse" => Kind::Sparse,
        "file" => Kind::File,
        _ => bail!("{kind}: no such kind"),
    };
    let (mib, threads): (usize, u32) = (mib.parse()?, threads.parse()?);
    let seed = u64::from(std::process::id());
    let mut held = Vec::new();
    let mut mapping = None;
    if let Kind::File = kind {
        if mib > 0 {
            let (mut file, length) = (cache_file()?, mib * MIB);
            // A disk has no length but its end. To touch what is not there would be the end of this process.
            let there = file.seek(SeekFrom::End(0))?;
            anyhow::ensure!(there >= u64::try_from(length)?, "the file has {there} bytes");
            let mapped = raw::Mapping::new(&file, length)?;
            mapped.touch(4096);
            mapping = Some(mapped);
        }
    } else if mib > 0 {
        held.push(block(kind, seed));
        while held.len() < mib {
            held.push(held[0].clone());
        }
    }
    // Only now, so that the app gets ready where others spin.
    match sched.as_str() {
        "normal" | "fifo" => {}
        "nice" => lmkd::sys::sched::set_normal_at(0, 19)?,
        "idle" => raw::set_idle()?,
        _ => bail!("{sched}: no such class"),
    }
    for _ in 0..threads {
        std::thread::Builder::new().stack_size(64 << 10).spawn(rest)?;
    }
    match role.as_str() {
        "rest" => tell("ready"),
        "spin" => {
            tell("ready");
            loop {
                std::hint::spin_loop();
            }
        }
        "zombie" => {
            // Whoever looks at the leader sees no memory; the others hold on to it.
            std::thread::spawn(move || {
                let _held = held;
                rest();
            });
            tell("ready");
            raw::exit_thread();
            return Ok(());
        }
        "read" => {
            tell("ready");
            loop {
                mapping.as_ref().context("nothing to read")?.touch(4096);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        "foreground" => {
            tell("ready");
            frames(&mut held);
        }
        "grow" => {
            grow(kind, &mut held)?;
        }
        _ => bail!("{role}: no such role"),
    }
    rest();
    Ok(())
}

/// Has the kernel end this process when its parent ends, however that comes about: what it holds would be missed.
fn end_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("PR_SET_PDEATHSIG")?;
    // A parent that has gone already is not told of.
    anyhow::ensure!(parent_id() != 1, "the parent is gone");
    Ok(())
}

/// `run PROGRAM ARGUMENT...`: becomes that program, which ends with this process's parent as well.
pub fn run(args: &[String]) -> Result<()> {
    let [program, rest @ ..] = args else { bail!("run PROGRAM ARGUMENT...") };
    end_with_parent()?;
    Err(Command::new(program).args(rest).exec()).with_context(|| program.clone())
}

fn rest() {
    loop {
        std::thread::park();
    }
}

/// Touches every page each 16 ms, and tells each second how many frames took longer than that, 100 ms and 1 s, and
/// each of more than 100 ms at once.
fn frames(held: &mut [Vec<u8>]) {
    let (mut count, mut over_16, mut over_100, mut over_1000, mut longest) = (0, 0, 0, 0, 0);
    let mut due = MonoTime::now();
    let mut told = due;
    let mut stamp = 0_u8;
    loop {
        stamp = stamp.wrapping_add(1);
        for block in held.iter_mut() {
            for page in block.chunks_mut(4096) {
                page[0] = stamp;
            }
        }
        let now = MonoTime::now();
        // From the time it was due: waking up late is late, too.
        let took = now.micros_since(due);
        count += 1;
        over_16 += u32::from(took > 16_000);
        over_100 += u32::from(took > 100_000);
        over_1000 += u32::from(took > 1_000_000);
        longest = longest.max(took);
        if took > 100_000 {
            tell(&format!("late {} {took}", now.as_nanos() / 1000));
        }
        if now.millis_since(told) >= 1000 {
            told = now;
            tell(&format!("frames {count} {over_16} {over_100} {over_1000} {longest}"));
        }
        // Frames that were missed are not made up for.
        while due.as_nanos() <= now.as_nanos() {
            due = due.plus_millis(16);
        }
        std::thread::sleep(FRAME.min(Duration::from_micros(due.micros_since(now))));
    }
}

/// Orders `grow MIB MIB_PER_SECOND` and `stop`: grows to that size, at that speed; says `grown MIB` at the end.
fn grow(kind: Kind, held: &mut Vec<Vec<u8>>) -> Result<()> {
    let block = block(kind, 1);
    let stop = Arc::new(AtomicBool::new(false));
    let (orders, next) = std::sync::mpsc::channel();
    let stopper = Arc::clone(&stop);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line == "stop" {
                stopper.store(true, Ordering::Relaxed);
            } else if orders.send(line).is_err() {
                break;
            }
        }
    });
    tell("ready");
    for order in next {
        let mut words = order.split(' ').skip(1).map(str::parse::<u64>);
        let (Some(Ok(mib)), Some(Ok(speed))) = (words.next(), words.next()) else {
            bail!("{order}: not an order")
        };
        stop.store(false, Ordering::Relaxed);
        // Room for the list itself, so that only the blocks are allocated while it grows.
        held.reserve(usize::try_from(mib)?);
        let start = MonoTime::now();
        let mut grown = 0;
        while grown < mib && !stop.load(Ordering::Relaxed) {
            held.push(block.clone());
            grown += 1;
            let due = Duration::from_millis(grown.saturating_mul(1000) / speed.max(1));
            let spent = Duration::from_micros(MonoTime::now().micros_since(start));
            std::thread::sleep(due.saturating_sub(spent));
        }
        tell(&format!("grown {grown}"));
    }
    Ok(())
}

/// `hold PID`: keeps that process from exiting once it is killed, for as long as this one lives.
pub fn hold(args: &[String]) -> Result<()> {
    let [pid] = args else { bail!("hold PID") };
    end_with_parent()?;
    raw::hold_at_exit(pid.parse()?)?;
    tell("ready");
    rest();
    Ok(())
}
