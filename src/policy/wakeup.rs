//! What woke the daemon, and how often: part of every kill record.

use super::Trigger;
use crate::clock::MonoTime;
use crate::codec::coded_struct;

/// How the daemon came to look, for the record of a kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WakeupInfo {
    /// From the last event to the latest look, ms.
    pub since_event_ms: i64,
    /// From the look before it to the latest look, ms.
    pub since_previous_ms: i64,
    /// Timed looks since the last event.
    pub wakeups_since_event: i32,
    /// Looks since the last event that a kill under way made void.
    pub skipped: i32,
}

/// The moments that [`WakeupInfo`] is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wakeups {
    last_event: MonoTime,
    last: MonoTime,
    previous: MonoTime,
    since_event: i32,
    skipped: i32,
}

coded_struct!(Wakeups { last_event, last, previous, since_event, skipped });

impl Wakeups {
    pub(super) fn record(&mut self, trigger: Trigger, now: MonoTime) {
        self.previous = self.last;
        self.last = now;
        if trigger == Trigger::Poll {
            self.since_event = self.since_event.saturating_add(1);
        } else {
            self.last_event = now;
            self.since_event = 0;
            self.skipped = 0;
        }
    }

    pub(super) fn skip(&mut self) {
        self.skipped = self.skipped.saturating_add(1);
    }

    pub(super) fn info(&self) -> WakeupInfo {
        WakeupInfo {
            since_event_ms: self.last.millis_since(self.last_event),
            since_previous_ms: self.last.millis_since(self.previous),
            wakeups_since_event: self.since_event,
            skipped: self.skipped,
        }
    }
}
