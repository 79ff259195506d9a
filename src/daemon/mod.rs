//! The daemon: one epoll loop that owns everything and is woken by the kernel alone.
//!
//! ```text
//! wait -> events: signals, clients, deaths, pressure -> timers: kill timeout, poll, deferred
//! ```
//!
//! With no pressure, no victim and no client talking there is no timer: the loop sleeps until the
//! kernel has something to say.

mod clients;
mod facts;
mod look;
mod opening;
mod operator;
mod privilege;
mod reactor;
mod recording;
mod register;
mod report;
mod schedule;
mod settings;
mod teller;
mod warm;
mod watchdog;
mod welcome;

use crate::clock::MonoTime;
use crate::config::Options;
use crate::config::Tunables;
use crate::control::auth::Authority;
use crate::control::server::Server;
use crate::control::server::CLIENTS_MAX;
use crate::kernel::memcg::MemcgError;
use crate::kernel::memcg::MemoryCgroups;
use crate::kernel::memevents::Event;
use crate::kernel::memevents::MemEvents;
use crate::kernel::memevents::ReclaimTracker;
use crate::kernel::process::ProcDir;
use crate::kernel::psi;
use crate::kernel::GpuMemory;
use crate::kernel::Sample;
use crate::kernel::Sampler;
use crate::kill::Killer;
use crate::policy::Level;
use crate::policy::Policy;
use crate::policy::Trigger;
use crate::processes::Heads;
use crate::processes::Ready;
use crate::processes::RecordId;
use crate::processes::Registry;
use crate::processes::Searcher;
use crate::recorder::Input;
use crate::recorder::Journal;
use crate::recorder::Removal;
use crate::report::EventLog;
use crate::report::KillLog;
use crate::report::TraceMarker;
use crate::sys::signal::SignalFd;
use crate::units::Kib;
use crate::units::PageSize;
use anyhow::Context;
use opening::Opening;
use opening::Retry;
use reactor::Reactor;
use reactor::Token;
use schedule::Schedule;
use std::cell::OnceCell;
use std::path::Path;

/// How often memory is looked at where the kernel has no pressure interface, ms.
const SAMPLING_INTERVAL_MS: i64 = 1000;

/// Signs of scarce memory without a stall make the daemon look no more often than this, ms, unless
/// the policy keeps vigil.
const SCARCITY_SPACING_MS: u32 = 100;

/// Sizes are read ahead a few at a time, with so many milliseconds for events and for others' CPU
/// time in between.
const READ_AHEAD_EVERY_MS: i64 = 1;

/// Everything the loop owns.
pub struct Daemon {
    own_pid: i32,
    /// At the first registration.
    ancestors: OnceCell<Vec<i32>>,
    options: Options,
    settings: settings::Settings,
    tunables: Tunables,
    page: PageSize,
    reactor: Reactor,
    signals: SignalFd,
    server: Server,
    authority: Authority,
    pressure: Option<psi::Source>,
    memevents: Option<MemEvents>,
    opening: Option<Opening>,
    reopening: Retry,
    reclaim: ReclaimTracker,
    schedule: Schedule,
    sampler: Sampler,
    sample: Sample,
    gpu: GpuMemory,
    /// What the GPU held when the latest kill was decided.
    gpu_held: Kib,
    proc: ProcDir,
    /// Looked for when it is first needed.
    memcg: OnceCell<Result<MemoryCgroups, MemcgError>>,
    registry: Registry,
    searcher: Searcher,
    ready: Ready,
    /// When sizes were last begun to be read ahead.
    sizes_read: MonoTime,
    policy: Policy,
    killer: Killer,
    clients: clients::Clients,
    notices: report::Notices,
    kill_log: Option<KillLog>,
    event_log: EventLog,
    journal: Journal,
    trace: Option<TraceMarker>,
    watchdog: watchdog::Watchdog,
    /// When the current event was taken out of the kernel.
    woken: MonoTime,
    stop: bool,
}

impl Daemon {
    /// Runs until SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// Only what makes a start impossible: no epoll, no `/proc`, no socket to listen on.
    pub fn run(options: Options) -> anyhow::Result<()> {
        crate::sys::heap::share_one();
        let mut daemon = Self::start(options)?;
        daemon.welcome();
        daemon.warm_up();
        daemon.record_checkpoint();
        privilege::harden();
        while !daemon.stop {
            daemon.step();
        }
        if let Some(kill_log) = daemon.kill_log.take() {
            kill_log.finish();
        }
        log::info!("ended by a signal, {} kills", daemon.killer.ledger.total());
        Ok(())
    }

    fn start(mut options: Options) -> anyhow::Result<Self> {
        privilege::raise_descriptor_limit();
        // Before any thread is started, so that all of them have the signals blocked.
        let signals = SignalFd::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGUSR1])
            .context("making a signalfd")?;
        let mut settings = settings::Settings::new(&options)?;
        let tunables = settings.load();
        crate::logging::set_debug(tunables.debug);
        let page = PageSize::of_this_kernel();
        let proc_root = Path::new("/proc");
        let proc = ProcDir::open(proc_root).context("opening /proc")?;
        let sampler = Sampler::open(proc_root, options.pressure_file(), page);
        let (server, is_inits) = settings.listen()?;
        // Where init started the daemon the framework says who can be killed.
        options.adopt &= !is_inits;
        settings.publish_reports();
        let reactor = Reactor::new().context("making an epoll set")?;
        reactor.add(&signals, Token::Signals).context("watching for signals")?;
        reactor.add(server.listener(), Token::Listener).context("watching the socket")?;
        let searcher = Searcher::new(options.adopt);
        let journal = Journal::new(recorder_bytes(&tunables)).context("making an eventfd")?;
        operator::start_scribe(&journal, &options, &settings, page);
        let kill_log = options.kill_log.as_deref().and_then(settings::open_kill_log);
        let event_log = settings::open_event_log(kill_log.as_ref());
        // A second sink: the loop may be stuck in its own.
        let watchdog = watchdog::Watchdog::start(
            settings::open_event_log(kill_log.as_ref()),
            page,
            options.dry_run,
        );
        let mut daemon = Self {
            authority: Authority::of_this_platform(),
            ancestors: OnceCell::new(),
            own_pid: rustix::process::getpid().as_raw_nonzero().get(),
            options,
            settings,
            tunables,
            page,
            reactor,
            signals,
            server,
            pressure: None,
            memevents: None,
            opening: None,
            reopening: Retry::default(),
            reclaim: ReclaimTracker::default(),
            schedule: Schedule::new(),
            sampler,
            sample: Sample::default(),
            gpu: GpuMemory::default(),
            gpu_held: Kib::ZERO,
            proc,
            memcg: OnceCell::new(),
            registry: Registry::with_capacity(1024),
            searcher,
            ready: Ready::default(),
            sizes_read: MonoTime::ZERO,
            policy: Policy::new(page),
            killer: Killer::start(),
            clients: clients::Clients::default(),
            notices: report::Notices::default(),
            kill_log,
            event_log,
            journal,
            // Without tracefs, or the right to write there, there is no trace to be seen in.
            trace: TraceMarker::open().ok(),
            watchdog,
            woken: MonoTime::ZERO,
            stop: false,
        };
        daemon.listen_to_scribe();
        daemon.open_memevents();
        daemon.gpu.find();
        if !daemon.tunables.delay_monitors_until_boot || daemon.settings.boot_completed() {
            daemon.arm_pressure();
        }
        Ok(daemon)
    }

    /// One turn of the loop: wait, serve every event, then whatever time has made due.
    fn step(&mut self) {
        let mut heads = self.registry.heads(self.searcher.likely_heaviest());
        self.publish(&heads);
        // The next victims are prepared for their kill while there is nothing else to do, and while
        // the last one dies.
        let behind = self.ready.is_behind(&heads);
        let busy = behind && self.killer.waiting_for().is_none();
        let mut count = if busy { self.wait(Some(0)) } else { 0 };
        if count == 0 {
            if behind {
                self.watchdog.begin(MonoTime::now());
                if !self.searcher.is_reading_ahead() {
                    let by_size = self.tunables.kill_heaviest_task;
                    self.searcher.guess_heaviest(&self.registry, by_size);
                    heads = self.registry.heads(self.searcher.likely_heaviest());
                    self.publish(&heads);
                }
                self.ready.prepare(&heads, &self.registry, &self.proc);
                self.watchdog.describe(&self.registry, &self.ready);
            }
            count = self.wait(self.timeout(MonoTime::now()));
            if count == 0 {
                self.watchdog.begin(MonoTime::now());
                self.searcher.read_some_ahead(&mut self.registry, &self.proc);
            }
        }
        self.woken = MonoTime::now();
        self.begin_handler(self.woken);
        // Deaths first, so that the decision sees who is left; then pressure; and clients last, so
        // that a flood of commands delays no kill.
        let mut pressure = None;
        for index in 0..count {
            let Some(ready) = self.reactor.ready(index) else { continue };
            match ready.token {
                Token::Pressure(level) => {
                    pressure = pressure.max(self.pressure_event(level, ready))
                }
                Token::MemEvents | Token::Listener | Token::Client(_) => {}
                _ => {
                    self.serve(ready);
                    self.begin_handler(MonoTime::now());
                }
            }
        }
        if let Some(level) = pressure {
            self.look(Trigger::Event(level));
        }
        self.begin_handler(MonoTime::now());
        self.serve_due();
        self.begin_handler(MonoTime::now());
        let (mut clients, mut newcomer) = ([None; CLIENTS_MAX], false);
        for index in 0..count {
            match self.reactor.ready(index).map(|ready| ready.token) {
                Some(Token::Listener) => newcomer = true,
                Some(Token::Client(id)) => {
                    if let Some(place) = clients.get_mut(usize::from(id.slot)) {
                        *place = Some(id);
                    }
                }
                _ => {}
            }
        }
        self.serve_clients(&clients);
        // Once those that hung up have left their places.
        if newcomer {
            self.accept();
            self.begin_handler(MonoTime::now());
        }
        self.serve_timers();
        self.begin_handler(MonoTime::now());
        self.end_recording_turn(MonoTime::now());
    }

    fn publish(&mut self, heads: &Heads) {
        self.watchdog.publish(heads, &self.registry, &self.proc, &self.killer);
    }

    /// How many events there are, after `timeout_ms` at the latest.
    fn wait(&mut self, timeout_ms: Option<i64>) -> usize {
        self.watchdog.rest();
        match self.reactor.wait(timeout_ms) {
            Ok(count) => count,
            Err(error) => {
                // Not seen to happen; without a pause it would spin.
                log::error!("waiting for events failed: {error}");
                std::thread::sleep(std::time::Duration::from_millis(100));
                0
            }
        }
    }

    fn serve(&mut self, ready: reactor::Ready) {
        match ready.token {
            Token::Signals => match self.signals.take() {
                Some(libc::SIGUSR1) => self.journal.ask_file(),
                Some(_) => self.stop = true,
                None => {}
            },
            Token::Scribe => self.journal.heard(),
            Token::Process(id) => self.process_exited(id),
            Token::Victim(id) => self.victim_event(id, ready.hung_up),
            Token::MemEventsOpened => self.memevents_opened(),
            Token::Pressure(_) | Token::MemEvents | Token::Listener | Token::Client(_) => {}
        }
    }

    /// Milliseconds until something is due; None while nothing is, which is the idle state.
    fn timeout(&self, now: MonoTime) -> Option<i64> {
        let look = self.schedule.due_in(now);
        let kill = self.kill_timeout_in(now);
        let target = self.clients.target_due().map(|at| until(now, at));
        let status = self.status_due().map(|at| until(now, at));
        let sizes = self.searcher.is_reading_ahead().then_some(READ_AHEAD_EVERY_MS);
        let memevents = self.reopening.due().map(|at| until(now, at));
        [look, kill, target, status, sizes, memevents].into_iter().flatten().min()
    }

    fn kill_timeout_in(&self, now: MonoTime) -> Option<i64> {
        let timeout = self.tunables.kill_timeout_ms;
        let flight = self.killer.waiting_for().filter(|_| timeout > 0)?;
        Some(until(now, flight.moments.signalled.plus_millis(timeout)))
    }

    fn serve_timers(&mut self) {
        let now = MonoTime::now();
        if self.clients.target_due().is_some_and(|at| at <= now) {
            self.apply_target(now);
        }
        if self.reopening.due().is_some_and(|at| at <= now) {
            self.open_memevents();
        }
    }

    /// A PSI monitor fired. One in error (its cgroup is gone) is dropped, or it would spin.
    fn pressure_event(&mut self, level: Level, ready: reactor::Ready) -> Option<Level> {
        if ready.error {
            log::error!("the pressure file is gone: sampling memory once a second instead");
            self.use_source(psi::Source::Sampling { every_ms: SAMPLING_INTERVAL_MS });
            return None;
        }
        ready.readable.then_some(level)
    }

    /// Takes the kernel's reclaim events out of their ring. A vendor's wish and signs of scarcity
    /// wait in the schedule until the loop comes to them.
    fn take_memevents(&mut self, now: MonoTime) {
        let Some(memevents) = &mut self.memevents else { return };
        let (reclaim, policy) = (&mut self.reclaim, &mut self.policy);
        let schedule = &mut self.schedule;
        let mut zones_changed = false;
        memevents.drain(now, |event| {
            reclaim.apply(&event);
            schedule.sign(event.means_scarcity());
            match event {
                Event::VendorKill { reason, min_adj } => schedule.wish(reason, min_adj),
                Event::UpdateZoneinfo | Event::Lost => {
                    policy.watermarks_changed();
                    zones_changed = true;
                }
                _ => {}
            }
        });
        if zones_changed {
            self.journal.write(now, &Input::WatermarksChanged);
        }
    }

    /// Gives up a wait that is over, and looks: for a vendor's wish, and for what else is due.
    fn serve_due(&mut self) {
        let now = MonoTime::now();
        self.take_memevents(now);
        if self.kill_timeout_in(now) == Some(0) {
            self.stop_waiting();
            self.schedule.resume(now);
        }
        if let Some(trigger) = self.schedule.take_wish() {
            self.look(trigger);
        }
        if let Some(trigger) = self.schedule.take_due(MonoTime::now()) {
            self.look(trigger);
        }
    }

    /// Begins to open the source of reclaim events, unless there is one.
    fn open_memevents(&mut self) {
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
            Err(error) => log::warn!("reclaim events cannot be opened: {error}"),
        }
        self.warn_of_unheard_reclaim();
    }

    /// The source of reclaim events is open, or it cannot be had.
    fn memevents_opened(&mut self) {
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
                Err(error) => log::warn!("reclaim events are not waited for: {error}"),
            },
            Some(Err(error)) => {
                if self.reopening.is_again() && error.is_worth_retrying() {
                    log::debug!("reclaim: still told by vmstat's counters; {error}");
                } else {
                    log::info!("reclaim: told by vmstat's counters; {error}");
                }
                if error.is_worth_retrying() {
                    self.reopening.later(MonoTime::now());
                }
            }
            None => {}
        }
        self.warn_of_unheard_reclaim();
    }

    /// Makes the pressure monitors, or sampling where the kernel has none. True if the tunables
    /// were accepted; otherwise what was armed before stays.
    pub(super) fn arm_pressure(&mut self) -> bool {
        let source = match psi::arm(self.options.pressure_file(), &self.tunables) {
            Ok(source) => source,
            Err(error) => {
                log::error!("{error}");
                if self.pressure.is_none() {
                    // Better slow than deaf, until the tunables make sense.
                    self.use_source(psi::Source::Sampling { every_ms: SAMPLING_INTERVAL_MS });
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

    fn use_source(&mut self, source: psi::Source) {
        let mut sampling = None;
        match &source {
            psi::Source::Sampling { every_ms } => {
                sampling = Some(MonoTime::now().plus_millis(*every_ms));
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
        self.record_sources();
    }

    /// How long looks go on after an event: the window in which the kernel says nothing new.
    fn window_ms(&self) -> i64 {
        match &self.pressure {
            Some(psi::Source::Psi { window_ms, .. }) => *window_ms,
            _ => self.tunables.psi_window_size_ms,
        }
    }

    /// A registered process has exited on its own.
    fn process_exited(&mut self, id: RecordId) {
        if let Some(pid) = self.registry.get(id).map(|record| record.pid()) {
            log::debug!("process {pid} has exited");
            self.forget(pid, Removal::Exited);
        }
    }
}

/// The size of the flight recorder.
fn recorder_bytes(tunables: &Tunables) -> usize {
    usize::try_from(tunables.recorder_kb).unwrap_or(0).saturating_mul(1024)
}

/// Milliseconds from `now` to `at`, rounded up so that a wait does not end before it is due.
fn until(now: MonoTime, at: MonoTime) -> i64 {
    let micros = at.micros_since(now);
    i64::try_from(micros.div_ceil(1000)).unwrap_or(i64::MAX)
}
