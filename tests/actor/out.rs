//! The lines that go to the host. A thread writes them, so that a slow host delays nobody here.

use lmkd::clock::MonoTime;
use serde_json::json;
use serde_json::Value;
use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// Hands out events as JSON lines.
#[derive(Clone)]
pub struct Out(Sender<String>);

/// Microseconds of the monotonic clock, which the kernel's trace uses too.
pub fn now_us() -> u64 {
    MonoTime::now().as_nanos() / 1000
}

impl Out {
    /// The writer ends when all handles are gone.
    pub fn start() -> (Self, JoinHandle<()>) {
        let (lines, next) = channel::<String>();
        let writer = std::thread::spawn(move || {
            let _ = lmkd::sys::sched::set_fifo(0, 1);
            let mut stdout = std::io::stdout().lock();
            for line in next {
                if stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                    return;
                }
            }
        });
        (Self(lines), writer)
    }

    /// An event that happens now.
    pub fn event(&self, event: &str, fields: Value) {
        self.event_at(now_us(), event, fields);
    }

    /// An event that happened at `us`.
    pub fn event_at(&self, us: u64, event: &str, fields: Value) {
        let mut line = json!({"us": us, "event": event});
        if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
            line.extend(fields);
        }
        let _ = self.0.send(format!("{line}\n"));
    }
}
