//! The window after a pressure event, in which timed looks ask all rules. A look for scarce memory
//! that comes into it must know whether it is still open.

use super::exhaustion;
use super::exhaustion::Exhaustion;
use super::poller::LONG_MS;
use super::state::Look;
use super::Policy;
use super::Signals;
use super::Trigger;
use crate::clock::MonoTime;
use crate::codec::coded_enum;
use crate::codec::coded_struct;
use crate::config::Tunables;
use crate::units::Pages;

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

impl Policy {
    /// Whether the timed looks under way follow a wake-up of kswapd, so that the rules about
    /// watermarks alone are asked.
    #[must_use]
    pub fn polls_watermarks_alone(&self) -> bool {
        self.follows_kswapd(Trigger::Poll)
    }

    /// Whether there are no pressure events, and memory is looked at now and then instead.
    pub fn pressure_is_sampled(&mut self, sampled: bool) {
        match (sampled, self.polls) {
            (true, _) => self.polls = Polls::Sampling,
            (false, Polls::Sampling) => self.polls = Polls::Window,
            // Other monitors are no event.
            (false, Polls::Window | Polls::KswapdWake) => {}
        }
    }

    /// How long timed looks go on after an event, if not for `psi_window_size_ms`: the window of the
    /// pressure monitors may be longer.
    pub fn window_lasts(&mut self, length_ms: Option<i64>) {
        if let Some(window) = &mut self.window {
            window.lasts(length_ms);
        }
    }

    /// Whether `trigger` is a kswapd wake-up, or a timed look after one.
    pub(super) fn follows_kswapd(&self, trigger: Trigger) -> bool {
        match trigger {
            Trigger::KswapdWake => true,
            Trigger::Poll => self.polls == Polls::KswapdWake,
            Trigger::Event(_) | Trigger::Vendor { .. } => false,
        }
    }

    /// Follows a kswapd wake-up until reclaim has something to work on again, or a pressure event
    /// takes over.
    pub(super) fn watch_exhaustion(
        &mut self,
        trigger: Trigger,
        now: MonoTime,
        signals: &mut Signals,
        swap_free: Pages,
        t: &Tunables,
    ) {
        let woken = trigger == Trigger::KswapdWake;
        if !self.follows_kswapd(trigger) {
            return;
        }
        let state = self.exhaustion(signals, swap_free);
        signals.exhausted = state == Exhaustion::Here;
        if woken && self.polls != Polls::Sampling {
            // A window that is open keeps all its rules; after a kill it begins anew.
            let near = state != Exhaustion::Far;
            let in_time = |event| now.millis_since(event) <= t.psi_window_size_ms;
            let open = match &self.window {
                Some(_) if signals.after_kill && self.polls == Polls::Window => true,
                Some(window) => window.is_open(now, t),
                None => !near || self.last_pressure.is_some_and(in_time),
            };
            if open {
                self.polls = Polls::Window;
            } else if near {
                self.polls = Polls::KswapdWake;
            }
        }
        if let Look::Taken { hurry, watch, .. } = &mut self.look {
            *hurry |= state != Exhaustion::Far;
            *watch = state >= Exhaustion::Boosted || (woken && state == Exhaustion::Near);
        }
    }

    /// Something happened after which timed looks ask all rules.
    pub(super) fn begin_window(&mut self, now: MonoTime) {
        self.polls.follow_event();
        if let Some(window) = &mut self.window {
            window.begin(now);
        }
    }

    /// A look is taken, which begins a window of its own if it `starts` one.
    pub(super) fn follow_window(
        &mut self,
        trigger: Trigger,
        now: MonoTime,
        starts: bool,
        t: &Tunables,
    ) {
        let Some(window) = &mut self.window else { return };
        match trigger {
            Trigger::Poll if self.polls == Polls::Window && starts => window.begin(now),
            Trigger::Poll if self.polls == Polls::Window => window.looked(now, t),
            Trigger::Vendor { .. } if starts => self.begin_window(now),
            _ => {}
        }
    }

    pub(super) fn exhaustion(&self, signals: &Signals, swap_free: Pages) -> Exhaustion {
        let unboosted = self.unboosted.unwrap_or_default().or(signals.watermarks);
        exhaustion::look(signals, swap_free, &unboosted)
    }
}
