//! When to look again: timed looks exist only inside the window after a pressure event.

use super::PollPlan;
use super::PollRequest;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;

/// Interval while swap is low or a kill has just been made, ms.
pub(super) const SHORT_MS: i64 = 10;
/// Interval otherwise, ms.
pub(super) const LONG_MS: i64 = 100;

/// The loop's polling state. The loop asks it for its timeout and tells it what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Poller {
    phase: Phase,
    interval_ms: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// No timer.
    #[default]
    Idle,
    /// Looking every interval until the window ends.
    Polling {
        /// The window's start.
        start: MonoTime,
        /// The last look; None if one is due at once.
        last: Option<MonoTime>,
    },
    /// Waiting for a death; looks go on after it.
    Paused,
}

coded_struct!(Poller { phase, interval_ms });
coded_enum!(Phase, "polling phase" { 0 => Idle, 1 => Polling { start, last }, 2 => Paused });

impl Poller {
    /// An idle one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Does what a look asks for. A window ends `window_ms` after its start. A start while looks
    /// are under way makes the window longer; when the next one is due only [`Self::polled`] says.
    pub fn apply(&mut self, plan: PollPlan, now: MonoTime, window_ms: i64) {
        if let Some(interval) = plan.interval_ms {
            self.interval_ms = interval;
        }
        match plan.request {
            PollRequest::Start => {
                let last = match self.phase {
                    Phase::Polling { last, .. } => last,
                    Phase::Idle | Phase::Paused => Some(now),
                };
                self.phase = Phase::Polling { start: now, last };
            }
            PollRequest::Pause => self.phase = Phase::Paused,
            PollRequest::NoChange => self.expire(now, window_ms),
        }
    }

    /// Ends the window if its time is over.
    pub fn expire(&mut self, now: MonoTime, window_ms: i64) {
        if let Phase::Polling { start, .. } = self.phase {
            if now.millis_since(start) > window_ms {
                self.phase = Phase::Idle;
            }
        }
    }

    /// A look at all rules was taken, after a pressure event or a timed one; call it before
    /// [`Self::apply`].
    pub fn polled(&mut self, now: MonoTime) {
        if let Phase::Polling { last, .. } = &mut self.phase {
            *last = Some(now);
        }
    }

    /// The wait for a death is over: the next look is due at once, and a new window begins.
    pub fn resume(&mut self, now: MonoTime) {
        if self.phase == Phase::Paused {
            self.phase = Phase::Polling { start: now, last: None };
            self.interval_ms = SHORT_MS;
        }
    }

    /// Milliseconds until the next look, 0 if it is due; None if none is planned.
    #[must_use]
    pub fn next_poll_in(&self, now: MonoTime) -> Option<i64> {
        match self.phase {
            Phase::Polling { last: Some(last), .. } => {
                let elapsed = now.millis_since(last).max(0);
                Some(self.interval_ms.max(SHORT_MS).saturating_sub(elapsed).max(0))
            }
            Phase::Polling { last: None, .. } => Some(0),
            Phase::Idle | Phase::Paused => None,
        }
    }

    /// Whether timed looks are under way.
    #[must_use]
    pub fn is_polling(&self) -> bool {
        matches!(self.phase, Phase::Polling { .. })
    }

    /// Whether they wait for a death.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.phase == Phase::Paused
    }
}
