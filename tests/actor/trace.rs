//! The kernel's own record of SIGKILLs, SIGTERMs, exits and OOM kills, as it is written: an instance of tracefs.

use crate::out::Out;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;

/// A buffer of our own, so that nobody else's tracing is disturbed. Removed when dropped.
pub struct Trace(PathBuf);

impl Trace {
    /// Starts recording; events go out from a thread of their own.
    pub fn start(out: Out) -> Result<Self> {
        let folder = PathBuf::from("/sys/kernel/tracing/instances/lmkd_actor");
        let _ = fs::remove_dir(&folder);
        fs::create_dir(&folder).context("no tracefs")?;
        let trace = Self(folder);
        let set = |file: &str, value: &str| {
            fs::write(trace.0.join(file), value).with_context(|| file.to_owned())
        };
        set("trace_clock", "mono")?;
        set("events/signal/signal_generate/filter", "sig == 9 || sig == 15")?;
        for event in ["signal/signal_generate", "sched/sched_process_exit", "oom/mark_victim"] {
            set(&format!("events/{event}/enable"), "1")?;
        }
        let lines = BufReader::new(File::open(trace.0.join("trace_pipe"))?);
        std::thread::spawn(move || {
            let _ = lmkd::sys::sched::set_fifo(0, 2);
            for line in lines.lines().map_while(Result::ok) {
                forward(&line, &out);
            }
        });
        Ok(trace)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The reader holds the instance until the process ends; then only its being off counts.
        for event in ["signal/signal_generate", "sched/sched_process_exit", "oom/mark_victim"] {
            let _ = fs::write(self.0.join(format!("events/{event}/enable")), "0");
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// `            lmkd-63      [001] d..2.    45.123456: signal_generate: sig=9 errno=0 code=0 comm=a pid=130 grp=1 res=0`
fn forward(line: &str, out: &Out) -> Option<()> {
    let (sender, rest) = line.split_once(" [")?;
    let (seconds, micros) = rest
        .split_whitespace()
        .find_map(|word| word.strip_suffix(':').and_then(|word| word.split_once('.')))?;
    let us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let field = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name));
    let pid: u32 = field("pid=")?.parse().ok()?;
    if rest.contains(" signal_generate: ") {
        // SI_USER is 0; the kernel's own signals carry SI_KERNEL.
        let (by, tid) = sender.trim().rsplit_once('-')?;
        let (from_kernel, tid) = (field("code=")? != "0", tid.parse::<u32>().ok()?);
        let fields = json!({"pid": pid, "by": by, "by_tid": tid, "kernel": from_kernel});
        // Some daemons ask first.
        let kind = if rest.contains(" sig=9 ") { "sigkill" } else { "sigterm" };
        out.event_at(us, kind, fields);
    } else if rest.contains(" sched_process_exit: ") {
        out.event_at(us, "exit", json!({"pid": pid}));
    } else if rest.contains(" mark_victim: ") {
        out.event_at(us, "oom", json!({"pid": pid}));
    }
    Some(())
}
