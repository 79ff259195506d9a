//! The window after a pressure event, in which timed looks ask all rules. A look for scarce memory
//! that comes into it must know whether it is still open.

use super::poller::LONG_MS;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::config::Tunables;

/// What timed looks follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Polls {
    /// A pressure event: all rules.
    Window,
    /// A kswapd wake-up: the rules about watermarks.
    KswapdWake,
    /// Nothing, as nobody tells of pressure and they come by themselves: all rules, always.
    Sampling,
}

coded_enum!(Polls, "kind of timed looks" { 0 => Window, 1 => KswapdWake, 2 => Sampling });

impl Polls {
    pub(super) fn follow_event(&mut self) {
        if *self == Self::KswapdWake {
            *self = Self::Window;
        }
    }
}

/// When the window began, or began anew: at the event, at a look that found direct reclaim, or at
/// the first one after a kill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Window {
    since: Option<MonoTime>,
    /// The length of the monitors' window; None if there are none.
    length_ms: Option<i64>,
}

coded_struct!(Window { since, length_ms });

impl Window {
    pub(super) fn begin(&mut self, now: MonoTime) {
        self.since = Some(now);
    }

    pub(super) fn lasts(&mut self, length_ms: Option<i64>) {
        self.length_ms = length_ms;
    }

    /// A timed look that is later than the window is long was its last.
    pub(super) fn looked(&mut self, now: MonoTime, t: &Tunables) {
        let length = self.length(t);
        self.since = self.since.filter(|since| now.millis_since(*since) <= length);
    }

    /// Whether timed looks that ask all rules are still to come. The last of them comes no more
    /// than an interval after the window's end.
    pub(super) fn is_open(&self, now: MonoTime, t: &Tunables) -> bool {
        let latest = self.length(t).saturating_add(LONG_MS);
        self.since.is_some_and(|since| now.millis_since(since) <= latest)
    }

    fn length(&self, t: &Tunables) -> i64 {
        self.length_ms.unwrap_or(t.psi_window_size_ms)
    }
}
