//! The kernel's own record of SIGKILLs, SIGTERMs, exits and OOM kills, as it is written: an instance of tracefs.

use crate::out::Out;
use crate::reuse;
use anyhow::Context;
use anyhow::Result;
use serde_json::json;
use serde_json::Value;
use std::fs;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::sync::mpsc::Receiver;
use std::time::Duration;
use std::time::Instant;

const EVENTS: [&str; 3] = ["signal/signal_generate", "sched/sched_process_exit", "oom/mark_victim"];
/// A record that is later than this is worth nothing.
const PROOF_LIMIT: Duration = Duration::from_secs(5);

/// A buffer of our own, so that nobody else's tracing is disturbed. Removed when dropped.
pub struct Trace(PathBuf);

impl Trace {
    /// Starts recording; events go out from a thread of their own. An error if nothing comes.
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
        let others = format!("comm != \"{}\"", reuse::THREAD);
        set("events/sched/sched_process_exit/filter", &others)?;
        for event in EVENTS {
            set(&format!("events/{event}/enable"), "1")?;
        }
        let lines = BufReader::new(File::open(trace.0.join("trace_pipe"))?);
        let (proof, seen) = channel();
        std::thread::spawn(move || {
            let _ = lmkd::sys::sched::set_fifo(0, 2);
            for line in lines.lines().map_while(Result::ok) {
                if let Some(event) = forward(&line, &out) {
                    // Once it is proved, nobody listens.
                    let _ = proof.send(event);
                }
            }
        });
        prove(&seen)?;
        Ok(trace)
    }
}

/// Kills a process of our own, and waits until the record shows its signal and its exit.
fn prove(seen: &Receiver<(&'static str, u32)>) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["app", "noise", "0", "0", "rest", "normal"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    child.kill()?;
    child.wait()?;
    let mut missing = vec!["sigkill", "exit"];
    let start = Instant::now();
    while !missing.is_empty() {
        let left = PROOF_LIMIT.saturating_sub(start.elapsed());
        let event = seen.recv_timeout(left);
        let (kind, pid) =
            event.with_context(|| format!("the trace shows no {missing:?} of ours"))?;
        if pid == child.id() {
            missing.retain(|one| *one != kind);
        }
    }
    Ok(())
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The reader holds the instance until the process ends; then only its being off counts.
        for event in EVENTS {
            let _ = fs::write(self.0.join(format!("events/{event}/enable")), "0");
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// A line of the record.
#[derive(Debug, PartialEq)]
struct Seen {
    us: u64,
    kind: &'static str,
    pid: u32,
    fields: Value,
}

/// Passes a line on. One that cannot be read, such as the kernel's word on lines that it had no room for, is a gap.
fn forward(line: &str, out: &Out) -> Option<(&'static str, u32)> {
    let Some(Seen { us, kind, pid, fields }) = parse(line) else {
        if !line.trim().is_empty() {
            out.event("lost", json!({"line": line}));
        }
        return None;
    };
    out.event_at(us, kind, fields);
    Some((kind, pid))
}

/// `            lmkd-63      [001] d..2.    45.123456: signal_generate: sig=9 errno=0 code=0 comm=a pid=130 grp=1 res=0`
///
/// Before the CPU may be the process's id: `lmkd-63      (     62) [001]`.
fn parse(line: &str) -> Option<Seen> {
    let (sender, rest) = at_cpu(line)?;
    let (seconds, micros) = rest
        .split_whitespace()
        .find_map(|word| word.strip_suffix(':').and_then(|word| word.split_once('.')))?;
    let us = seconds.parse::<u64>().ok()? * 1_000_000 + micros.parse::<u64>().ok()?;
    let field = |name: &str| rest.split(' ').find_map(|word| word.strip_prefix(name));
    let pid: u32 = field("pid=")?.parse().ok()?;
    let of = |kind, fields| Some(Seen { us, kind, pid, fields });
    if rest.contains(" signal_generate: ") {
        // SI_USER is 0; the kernel's own signals carry SI_KERNEL.
        let (by, tid) = without_process(sender).rsplit_once('-')?;
        let (from_kernel, tid) = (field("code=")? != "0", tid.parse::<u32>().ok()?);
        let fields = json!({"pid": pid, "by": by, "by_tid": tid, "kernel": from_kernel});
        // Some daemons ask first.
        of(if rest.contains(" sig=9 ") { "sigkill" } else { "sigterm" }, fields)
    } else if rest.contains(" sched_process_exit: ") {
        of("exit", json!({"pid": pid}))
    } else if rest.contains(" mark_victim: ") {
        of("oom", json!({"pid": pid}))
    } else {
        None
    }
}

/// What is before and after the number of the CPU. A thread's name may have brackets, too.
fn at_cpu(line: &str) -> Option<(&str, &str)> {
    line.match_indices(" [").find_map(|(at, sign)| {
        let (number, rest) = line.get(at + sign.len()..)?.split_once(']')?;
        let is_cpu = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_cpu.then(|| (line.get(..at).unwrap_or_default(), rest))
    })
}

/// NAME-TID without the process's id in parentheses.
fn without_process(sender: &str) -> &str {
    let sender = sender.trim();
    let process = sender.strip_suffix(')').and_then(|sender| sender.rsplit_once('('));
    process.map_or(sender, |(sender, _)| sender.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: &str =
        "   45.123456: signal_generate: sig=9 errno=0 code=0 comm=a pid=130 grp=1 res=0";

    #[test]
    fn a_signal_is_read_with_its_sender_however_that_is_written() {
        let expected = Seen {
            us: 45_123_456,
            kind: "sigkill",
            pid: 130,
            fields: json!({"pid": 130, "by": "lmkd", "by_tid": 63, "kernel": false}),
        };
        let ways = [
            "lmkd-63      [001] d..2.",
            "lmkd-63      (     62) [001] d..2.",
            "lmkd-63 (-------) [001]",
        ];
        for way in ways {
            let line = format!("            {way} {KILL}");
            assert_eq!(parse(&line).as_ref(), Some(&expected), "{line}");
        }
        let line = format!("   a [1 b-c [x]-63      [001] d..2. {KILL}");
        assert_eq!(parse(&line).unwrap().fields["by"], "a [1 b-c [x]");
    }

    #[test]
    fn signals_of_the_kernel_exits_and_oom_kills_are_told_apart() {
        let kind =
            |rest: &str| parse(&format!("  x-1  [000] d..2. 1.000002: {rest}")).unwrap().kind;
        assert_eq!(
            kind("signal_generate: sig=15 errno=0 code=0 comm=a pid=2 grp=1 res=0"),
            "sigterm"
        );
        assert_eq!(kind("sched_process_exit: comm=a pid=2 prio=120"), "exit");
        assert_eq!(kind("mark_victim: pid=2"), "oom");
        let line = "  x-1  [000] d..2. 1.0: signal_generate: sig=9 errno=0 code=128 comm=a pid=2 grp=1 res=0";
        assert_eq!(parse(line).unwrap().fields["kernel"], true);
    }

    #[test]
    fn what_cannot_be_read_is_a_gap() {
        assert_eq!(parse("CPU:1 [LOST 12 EVENTS]"), None);
        assert_eq!(parse(&format!("lmkd [001] d..2. {KILL}")), None);
    }
}
