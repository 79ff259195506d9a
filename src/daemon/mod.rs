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
mod guard;
mod listening;
mod look;
mod opening;
mod operator;
mod privilege;
mod publisher;
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
use crate::config::Properties;
use crate::config::Tunables;
use crate::control::auth::Authority;
use crate::control::server::Server;
use crate::control::server::CLIENTS_MAX;
use crate::kernel::memcg;
use crate::kernel::memevents::MemEvents;
use crate::kernel::memevents::ReclaimTracker;
use crate::kernel::process::ProcDir;
use crate::kernel::psi;
use crate::kernel::GpuMemory;
use crate::kernel::Sample;
use crate::kernel::Sampler;
use crate::kill::Killer;
use crate::policy::Policy;
use crate::policy::Trigger;
use crate::processes::Heads;
use crate::processes::Names;
use crate::processes::Ready;
use crate::processes::RecordId;
use crate::processes::Registry;
use crate::processes::Searcher;
use crate::recorder::Journal;
use crate::recorder::Removal;
use crate::report::EventLog;
use crate::report::KillLog;
use crate::report::TraceMarker;
use crate::sys::signal::SignalFd;
use crate::units::Kib;
use crate::units::PageSize;
use anyhow::Context;
use look::wants_groups;
use opening::Opening;
use opening::Retry;
use reactor::Reactor;
use reactor::Token;
use schedule::Schedule;
use std::cell::OnceCell;
use std::path::Path;

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
    rearming: Retry,
    reclaim: ReclaimTracker,
    schedule: Schedule,
    sampler: Sampler,
    sample: Sample,
    gpu: GpuMemory,
    /// What the GPU held when the latest kill was decided.
    gpu_held: Kib,
    proc: ProcDir,
    /// Looked for when it is first needed.
    memcg: memcg::Lookup,
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
    /// When newcomers are listened to again.
    deaf_until: Option<MonoTime>,
    /// When the current event was taken out of the kernel.
    woken: MonoTime,
    stop: bool,
}

impl Daemon {
    /// Runs until SIGTERM or SIGINT, with what was read of the settings.
    ///
    /// # Errors
    ///
    /// Only what makes a start impossible: no epoll, no `/proc`, no socket to listen on.
    pub fn run(options: Options, properties: Properties) -> anyhow::Result<()> {
        crate::sys::heap::share_one();
        let mut daemon = Self::start(options, properties)?;
        daemon.welcome();
        daemon.warm_up();
        daemon.record_checkpoint();
        privilege::harden();
        while !daemon.stop {
            daemon.step();
        }
        // What is waited for from here on is no handler that sticks.
        daemon.watchdog.rest();
        daemon.journal.finish();
        if let Some(kill_log) = daemon.kill_log.take() {
            kill_log.finish();
        }
        log::info!("ended by a signal, {} kills", daemon.killer.ledger.total());
        Ok(())
    }

    fn start(mut options: Options, properties: Properties) -> anyhow::Result<Self> {
        privilege::raise_descriptor_limit();
        // Before any thread is started, so that all of them have the signals blocked.
        let signals = SignalFd::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGUSR1])
            .context("making a signalfd")?;
        let mut settings = settings::Settings::new(&options, properties);
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
            rearming: Retry::default(),
            reclaim: ReclaimTracker::default(),
            schedule: Schedule::new(),
            sampler,
            sample: Sample::default(),
            gpu: GpuMemory::default(),
            gpu_held: Kib::ZERO,
            proc,
            memcg: memcg::Lookup::default(),
            registry: Registry::with_capacity(1024),
            searcher,
            ready: Ready::new(Names::start()),
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
            deaf_until: None,
            woken: MonoTime::ZERO,
            stop: false,
        };
        daemon.listen_to_scribe();
        if let Some(bell) = daemon.ready.bell() {
            if let Err(error) = daemon.reactor.add(bell, Token::Names) {
                log::warn!("names are not waited for: {error}");
            }
        }
        daemon.open_memevents();
        daemon.gpu.find();
        if !daemon.tunables.delay_monitors_until_boot || daemon.settings.boot_completed() {
            daemon.arm_pressure();
        }
        Ok(daemon)
    }

    /// One turn of the loop: wait, serve every event, then whatever time has made due.
    fn step(&mut self) {
        let mut count = self.prepare_victims();
        if count == 0 {
            count = self.wait(self.timeout(MonoTime::now()));
            if count == 0 {
                self.watchdog.begin(MonoTime::now());
                self.searcher.read_some_ahead(&mut self.registry, &self.proc);
            }
        }
        self.woken = MonoTime::now();
        self.begin_handler(self.woken);
        // Deaths first, so that the decision sees who is left; then the few moves that clients have
        // sent already; then pressure; and clients last, so that a flood of commands delays no kill.
        let mut pressure = None;
        let (mut clients, mut newcomer, mut reclaim) = ([None; CLIENTS_MAX], false, false);
        for index in 0..count {
            let Some(ready) = self.reactor.ready(index) else { continue };
            match ready.token {
                Token::Pressure(level) => {
                    pressure = pressure.max(self.pressure_event(level, ready))
                }
                Token::MemEvents => reclaim = true,
                Token::Listener => newcomer = true,
                Token::Client(id) => {
                    if let Some(place) = clients.get_mut(usize::from(id.slot)) {
                        *place = Some(id);
                    }
                }
                _ => {
                    self.serve(ready);
                    self.begin_handler(MonoTime::now());
                }
            }
        }
        if pressure.is_some() || reclaim || self.timeout(MonoTime::now()) == Some(0) {
            self.serve_moves(&clients);
        }
        if let Some(level) = pressure {
            self.look(Trigger::Event(level));
        }
        self.begin_handler(MonoTime::now());
        self.serve_due();
        self.begin_handler(MonoTime::now());
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

    /// Prepares the next victims for their kill, one after the other, as long as nothing happens and
    /// nothing is due; how many events there are then.
    fn prepare_victims(&mut self) -> usize {
        let mut heads = self.publish_next();
        if !self.ready.is_behind(&heads) {
            return 0;
        }
        let mut count = self.wait(Some(0));
        if count == 0 && !self.searcher.is_reading_ahead() {
            self.watchdog.begin(MonoTime::now());
            let by_size = self.tunables.kill_heaviest_task;
            self.searcher.guess_heaviest(&self.registry, by_size);
            heads = self.publish_next();
        }
        while count == 0 && self.ready.is_behind(&heads) {
            let now = MonoTime::now();
            if self.timeout(now) == Some(0) {
                break;
            }
            self.watchdog.begin(now);
            let groups = self.memcg.known().filter(|_| wants_groups(&self.tunables));
            self.ready.prepare_one(&heads, &self.registry, &self.proc, groups);
            self.watchdog.describe(&self.registry, &self.ready);
            count = self.wait(Some(0));
        }
        count
    }

    /// Makes known to the watchdog who is next, and returns them.
    fn publish_next(&mut self) -> Heads {
        let heads = self.registry.heads(self.searcher.likely_heaviest());
        if self.watchdog.publish(&heads, &self.registry, &self.proc, &self.killer) {
            self.watchdog.describe(&self.registry, &self.ready);
        }
        heads
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
            Token::Names => {
                self.ready.take_names();
                self.watchdog.describe(&self.registry, &self.ready);
            }
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
        let monitors = self.rearming.due().map(|at| until(now, at));
        let newcomers = self.deaf_until.map(|at| until(now, at));
        let sources = [memevents, monitors].into_iter().flatten();
        let others = [look, kill, target, status, sizes, newcomers].into_iter().flatten();
        sources.chain(others).min()
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
        if self.rearming.due().is_some_and(|at| at <= now) {
            self.arm_pressure_again();
        }
        if self.deaf_until.is_some_and(|at| at <= now) {
            self.listen_again(now);
        }
    }

    /// Gives up a wait that is over, and looks: for a vendor's wish, and for what else is due.
    fn serve_due(&mut self) {
        let now = MonoTime::now();
        self.take_memevents(now);
        let mut over = None;
        if self.kill_timeout_in(now) == Some(0) {
            over = self.killer.give_up_waiting();
            self.schedule.resume(now);
        }
        if let Some(trigger) = self.schedule.take_wish() {
            self.look(trigger);
        }
        if let Some(trigger) = self.schedule.take_due(MonoTime::now()) {
            self.look(trigger);
        }
        // The next kill does not wait for what is said of the last one.
        self.tell_timeout(over);
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
