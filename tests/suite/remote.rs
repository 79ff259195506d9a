//! The actor on the device, over one `adb shell`: orders go in, events come out.

use crate::adb::Device;
use crate::interrupt;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use serde_json::Value;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

/// Long enough for a starved device to answer.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Default)]
struct Heard {
    events: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, (Vec<Value>, bool)> {
        // A list of events is whole after every step.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running actor. Dropping it ends the actor and all that it started.
pub struct Remote {
    child: Child,
    orders: Option<ChildStdin>,
    heard: Arc<Heard>,
    next: u64,
}

impl Remote {
    /// Starts it. `cache` is the file that stands for the code of apps.
    pub fn start(program: &str, cache: &str) -> Result<Self> {
        let script = format!("exec {program} serve {cache} 2>&1");
        let mut child = Device::command(&["shell", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("adb")?;
        let lines = BufReader::new(child.stdout.take().context("no pipe")?);
        let heard = Arc::new(Heard::default());
        let ears = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line);
                // What is not JSON is a complaint of the actor.
                let event =
                    event.unwrap_or_else(|_| serde_json::json!({"event": "said", "text": line}));
                ears.lock().0.push(event);
                ears.more.notify_all();
            }
            ears.lock().1 = true;
            ears.more.notify_all();
        });
        let orders = child.stdin.take();
        let remote = Self { child, orders, heard, next: 0 };
        remote.wait("the actor", 0, PATIENCE, |event| is(event, "hello").then_some(()))?;
        Ok(remote)
    }

    /// The actor's process.
    pub fn pid(&self) -> u32 {
        let heard = self.heard.lock();
        let hello = heard.0.iter().find(|event| is(event, "hello"));
        let pid = hello.and_then(|hello| hello["pid"].as_u64());
        pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)
    }

    /// Number of events so far: where the next will be.
    pub fn mark(&self) -> usize {
        self.heard.lock().0.len()
    }

    /// All events from `mark` on.
    pub fn since(&self, mark: usize) -> Vec<Value> {
        self.heard.lock().0.get(mark..).unwrap_or_default().to_vec()
    }

    /// The first thing that `pick` finds in the events from `mark` on.
    pub fn wait<T>(
        &self,
        what: &str,
        mark: usize,
        limit: Duration,
        mut pick: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let start = Instant::now();
        let mut heard = self.heard.lock();
        let mut seen = mark;
        loop {
            while let Some(event) = heard.0.get(seen) {
                seen += 1;
                if let Some(found) = pick(event) {
                    return Ok(found);
                }
            }
            if heard.1 {
                let said = heard.0.iter().filter(|event| is(event, "said"));
                let said: Vec<&str> = said.filter_map(|event| event["text"].as_str()).collect();
                bail!("{what}: the actor has ended {}", said.join("; "));
            }
            if start.elapsed() > limit {
                bail!("{what}: not within {} s", limit.as_secs());
            }
            interrupt::check()?;
            let tick = Duration::from_millis(200);
            heard =
                self.heard.more.wait_timeout(heard, tick).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends an order, and does not wait for its answer.
    pub fn send(&mut self, mut order: Value) -> Result<u64> {
        self.next += 1;
        order["id"] = self.next.into();
        let pipe = self.orders.as_mut().context("no actor")?;
        pipe.write_all(format!("{order}\n").as_bytes()).context("the actor has ended")?;
        Ok(self.next)
    }

    /// The answer to an order that was sent.
    pub fn answer(&self, id: u64) -> Result<Value> {
        let of_it = |event: &Value| (event["id"] == id).then(|| event.clone());
        let answer = self.wait("an order", 0, PATIENCE, of_it)?;
        if is(&answer, "failed") {
            bail!("the actor could not: {}", answer["why"].as_str().unwrap_or("?"));
        }
        Ok(answer)
    }

    /// Sends an order and waits for its answer.
    pub fn order(&mut self, order: Value) -> Result<Value> {
        let id = self.send(order)?;
        self.answer(id)
    }
}

impl Remote {
    /// Ends all that is on stage, and waits until it has ended.
    pub fn empty_stage(&mut self) -> Result<()> {
        let (events, mark) = (self.since(0), self.mark());
        for order in ["peace", "end"] {
            self.order(serde_json::json!({"do": order}))?;
        }
        for pid in living(&events) {
            let gone = |event: &Value| (is(event, "death") && event["pid"] == pid).then_some(());
            // Thousands may be ending at once, in an emulator.
            self.wait("an end", mark, Duration::from_secs(60), gone)?;
        }
        Ok(())
    }
}

/// Processes that have come on stage last, and are still there.
fn living(events: &[Value]) -> Vec<u32> {
    let mut living = Vec::new();
    for event in events {
        let Some(pid) = event["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) else {
            continue;
        };
        if is(event, "app") {
            living.push(pid);
        } else if is(event, "death") {
            living.retain(|app| *app != pid);
        }
    }
    living
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.send(serde_json::json!({"do": "quit"}));
        self.orders = None;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this is that kind of event.
pub fn is(event: &Value, kind: &str) -> bool {
    event["event"] == kind
}
