//! What the loop hears of memory: pressure monitors, or sampling in their place, and the kernel's
//! reclaim events.

use super::opening::Opening;
use super::reactor::Ready;
use super::Daemon;
use super::Token;
use crate::clock::MonoTime;
use crate::kernel::memevents::Event;
use crate::kernel::memevents::OpenError;
use crate::kernel::psi;
use crate::policy::Level;
use crate::recorder::Input;

/// How often memory is looked at where the kernel has no pressure interface, ms.
pub(super) const SAMPLING_INTERVAL_MS: i64 = 1000;

/// Signs of scarce memory without a stall make the daemon look no more often than this, ms, unless
/// the policy keeps vigil.
pub(super) const SCARCITY_SPACING_MS: u32 = 100;

const fn sampling(may_come: bool) -> psi::Source {
    psi::Source::Sampling { every_ms: SAMPLING_INTERVAL_MS, may_come }
}

impl Daemon {
    /// Makes the pressure monitors, or sampling where the kernel has none. True if the tunables
    /// were accepted; otherwise what was armed before stays.
    pub(super) fn arm_pressure(&mut self) -> bool {
        let source = match psi::arm(self.options.pressure_file(), &self.tunables) {
            Ok(source) => source,
            Err(error) => {
                log::error!("{error}");
                if self.pressure.is_none() {
                    // Better slow than deaf, until the tunables make sense.
                    self.use_source(sampling(false));
                }
                return false;
            }
        };
        let hears = matches!(self.pressure, Some(psi::Source::Psi { .. }));
        let would_hear = matches!(source, psi::Source::Psi { .. }) || !self.tunables.use_psi;
        if hears && !would_hear {
            log::error!("the pressure monitors stay as they were");
            return false;
        }
        self.use_source(source);
        true
    }

    /// Monitors that could not be had are asked for once more.
    pub(super) fn arm_pressure_again(&mut self) {
        self.rearming.stop();
        match psi::arm_again(self.options.pressure_file(), &self.tunables) {
            Ok(psi::Source::Sampling { may_come, .. }) => {
                if may_come {
                    self.rearming.later(MonoTime::now());
                }
            }
            Ok(source) => self.use_source(source),
            Err(error) => log::error!("{error}"),
        }
    }

    pub(super) fn use_source(&mut self, source: psi::Source) {
        let mut sampling = None;
        self.rearming.stop();
        match &source {
            psi::Source::Sampling { every_ms, may_come } => {
                let now = MonoTime::now();
                sampling = Some(now.plus_millis(*every_ms));
                if *may_come {
                    self.rearming.later(now);
                }
            }
            psi::Source::Psi { monitors, .. } => {
                for monitor in monitors.iter().flatten() {
                    let token = Token::Pressure(monitor.level);
                    if let Err(error) = self.reactor.add_pressure(&monitor.fd, token) {
                        log::error!("a pressure monitor is not waited for: {error}");
                    }
                }
            }
        }
        // The old monitors leave the epoll set as they are closed.
        self.pressure = Some(source);
        self.schedule.watch(sampling);
        self.policy.pressure_is_sampled(sampling.is_some());
        self.record_input(Input::PressureIsSampled(sampling.is_some()));
        self.policy.window_lasts(self.sources().window_ms());
        self.record_sources();
    }

    /// How long looks go on after an event: the window in which the kernel says nothing new.
    pub(super) fn window_ms(&self) -> i64 {
        match &self.pressure {
            Some(psi::Source::Psi { window_ms, .. }) => *window_ms,
            _ => self.tunables.psi_window_size_ms,
        }
    }

    /// A PSI monitor fired. One in error (its cgroup is gone) is dropped, or it would spin.
    pub(super) fn pressure_event(&mut self, level: Level, ready: Ready) -> Option<Level> {
        if ready.error {
            // Of two monitors the first has told already.
            if matches!(self.pressure, Some(psi::Source::Psi { .. })) {
                log::error!(
                    "the pressure file is gone: sampling memory once a second until it is back"
                );
                self.use_source(sampling(true));
            }
            return None;
        }
        ready.readable.then_some(level)
    }

    /// Takes the kernel's reclaim events out of their ring. A vendor's wish and signs of scarcity
    /// wait in the schedule until the loop comes to them.
    pub(super) fn take_memevents(&mut self, now: MonoTime) {
        let Some(memevents) = &mut self.memevents else { return };
        let (reclaim, policy) = (&mut self.reclaim, &mut self.policy);
        let schedule = &mut self.schedule;
        let told = memevents.has_zoneinfo_events();
        let (mut zones_changed, mut lost) = (false, false);
        memevents.drain(now, |event| {
            reclaim.apply(&event);
            schedule.sign(event.means_scarcity());
            match event {
                Event::VendorKill { reason, min_adj } => schedule.wish(reason, min_adj),
                Event::UpdateZoneinfo => {
                    policy.watermarks_changed();
                    zones_changed = true;
                }
                Event::Lost => {
                    // Watermarks are read again, but what they are without a boost is not forgotten:
                    // they may be boosted just now, and are rarely changed.
                    policy.watermark_changes_are_told(told);
                    lost = true;
                }
                _ => {}
            }
        });
        if zones_changed {
            self.journal.write(now, &Input::WatermarksChanged);
        }
        if lost {
            self.journal.write(now, &Input::WatermarkChangesAreTold(told));
        }
    }

    /// Begins to open the source of reclaim events, unless there is one.
    pub(super) fn open_memevents(&mut self) {
        if self.memevents.is_some() || self.opening.is_some() {
            return;
        }
        self.reopening.stop();
        let opening = Opening::start(SCARCITY_SPACING_MS).and_then(|opening| {
            self.reactor.add(&opening, Token::MemEventsOpened)?;
            Ok(opening)
        });
        match opening {
            Ok(opening) => self.opening = Some(opening),
            // No thread or no descriptor for it, which is no answer of the kernel's to what was asked.
            Err(error) => {
                if self.reopening.is_again() {
                    log::debug!("reclaim events cannot be opened: {error}");
                } else {
                    log::warn!("reclaim events cannot be opened: {error}");
                }
                self.reopening.later(MonoTime::now());
            }
        }
        self.warn_of_unheard_reclaim();
    }

    /// The source of reclaim events is open, or it cannot be had.
    pub(super) fn memevents_opened(&mut self) {
        let Some(opening) = self.opening.take() else { return };
        self.reactor.remove(&opening);
        match opening.take() {
            Some(Ok(events)) => match self.reactor.add(&events, Token::MemEvents) {
                Ok(()) => {
                    let whose = if events.is_stamped() { "our own" } else { "Android's" };
                    log::info!("reclaim: told by {whose} BPF programs");
                    let told = events.has_zoneinfo_events();
                    self.policy.watermark_changes_are_told(told);
                    self.memevents = Some(events);
                    // What kswapd announced before now was heard by nobody; it may have given up.
                    self.schedule.sign(true);
                    self.record_input(Input::WatermarkChangesAreTold(told));
                    self.record_sources();
                }
                Err(error) => {
                    log::warn!("reclaim events are not waited for: {error}");
                    self.reopening.later(MonoTime::now());
                }
            },
            Some(Err(error)) => {
                let retries = self.reopening.count() < error.retries();
                if retries && self.reopening.is_again() {
                    log::debug!("reclaim: still told by vmstat's counters; {error}");
                } else {
                    log::info!("reclaim: told by vmstat's counters; {error}");
                }
                let now = MonoTime::now();
                match error {
                    OpenError::NotLoadedYet => self.reopening.until_it_comes(now),
                    _ if retries => self.reopening.later(now),
                    _ => {}
                }
            }
            None => {}
        }
        self.warn_of_unheard_reclaim();
    }
}
