//! Clients of the lmkd socket: what each command does.

use super::register::Registration;
use super::watchdog;
use super::Daemon;
use super::Token;
use crate::clock::MonoTime;
use crate::config::Tunables;
use crate::control::auth::Rights;
use crate::control::server::Accepted;
use crate::control::server::Inbox;
use crate::control::server::Received;
use crate::control::server::CLIENTS_MAX;
use crate::control::server::RECEIVED_MAX;
use crate::control::wire;
use crate::control::wire::Command;
use crate::control::wire::KillCount;
use crate::control::wire::ProcPrio;
use crate::control::wire::ProcType;
use crate::control::wire::Request;
use crate::control::wire::Targets;
use crate::control::wire::REQUEST_MAX;
use crate::kernel::psi;
use crate::policy::MinfreeTable;
use crate::processes::ClientId;
use crate::recorder::Change;
use crate::recorder::Input;
use crate::recorder::Removal;

/// Least time between two sets of minfree levels, ms; one that comes sooner is applied then.
const TARGET_SPACING_MS: i64 = 1000;

/// Commands that one turn of the loop serves, so that a flood leaves time for deaths and pressure.
const COMMANDS_PER_TURN: usize = 2 * RECEIVED_MAX;

/// Processes that are registered, moved or removed before a look, at most.
const MOVES_BEFORE_A_LOOK: usize = 64;

/// Nor is another begun once they have taken so long, us: each opens files, which may wait for memory.
const MOVES_LAST_US: u64 = 1000;

/// After a connection that the kernel could not hand over newcomers wait, ms.
const DEAF_MS: i64 = 100;

/// What the daemon remembers of its clients' wishes.
#[derive(Debug, Default)]
pub(super) struct Clients {
    last_target: Option<MonoTime>,
    waiting_target: Option<Targets>,
    boot_handled: bool,
    /// What came of LMK_UPDATE_PROPS in the turn of the client that is served.
    updated: Option<bool>,
    /// The place of the client that is served first in the next turn.
    next: usize,
}

impl Clients {
    /// When minfree levels that came too soon are to be applied.
    pub(super) fn target_due(&self) -> Option<MonoTime> {
        self.waiting_target.and(self.last_target).map(|at| at.plus_millis(TARGET_SPACING_MS))
    }
}

impl Daemon {
    pub(super) fn accept(&mut self) {
        match self.server.accept() {
            Ok(Accepted::Client(id)) => {
                let added =
                    self.server.client(id).map(|fd| self.reactor.add(fd, Token::Client(id)));
                if let Some(Err(error)) = added {
                    log::error!("a client cannot be waited for: {error}");
                    self.server.close(id);
                }
            }
            Ok(Accepted::Refused | Accepted::Empty) => {}
            Err(error) => {
                self.notices.refused(MonoTime::now(), &error);
                // It waits there until the kernel has what it lacks (ENFILE, ENOMEM): asked again at
                // once, the loop would spin.
                self.reactor.remove(self.server.listener());
                self.deaf_until = Some(MonoTime::now().plus_millis(DEAF_MS));
            }
        }
    }

    /// Those who want to connect are heard again.
    pub(super) fn listen_again(&mut self, now: MonoTime) {
        self.deaf_until = None;
        if let Err(error) = self.reactor.add(self.server.listener(), Token::Listener) {
            self.notices.refused(now, &error);
            self.deaf_until = Some(now.plus_millis(DEAF_MS));
        }
    }

    /// Serves those of these clients, each at its place, that have sent or hung up: some commands
    /// of one, then of the next. What is left over is readable at the next turn, which begins
    /// where this one ends, so that none who floods keeps the others waiting.
    pub(super) fn serve_clients(&mut self, ready: &[Option<ClientId>; CLIENTS_MAX]) {
        let mut budget = COMMANDS_PER_TURN;
        let (before, from_next) = ready.split_at(self.clients.next.min(CLIENTS_MAX));
        for id in from_next.iter().chain(before).flatten() {
            if budget == 0 {
                break;
            }
            let served = self.serve_client(*id, budget);
            budget = budget.saturating_sub(served);
            self.clients.next = usize::from(id.slot).saturating_add(1) % CLIENTS_MAX;
            self.begin_handler(MonoTime::now());
        }
    }

    /// Serves those commands that these clients have sent already and that give processes a place or
    /// take it from them, a few of them and for a millisecond: nobody is to be chosen for an adj that he
    /// no longer has. A client's commands keep their order: from the first one on that may take longer,
    /// all of its own wait until after the look.
    pub(super) fn serve_moves(&mut self, ready: &[Option<ClientId>; CLIENTS_MAX]) {
        let mut packet = [0; REQUEST_MAX];
        let mut left = MOVES_BEFORE_A_LOOK;
        let start = MonoTime::now();
        let mut any = true;
        // One of each in turn, so that none who floods keeps the others' from being served.
        while std::mem::take(&mut any) {
            for id in ready.iter().flatten() {
                let next = self.server.peek(*id, &mut packet).and_then(Self::moves);
                let Some(moves) = next.filter(|moves| *moves <= left) else { continue };
                left = left.saturating_sub(moves);
                any |= self.serve_client(*id, 1) > 0;
                if MonoTime::now().micros_since(start) >= MOVES_LAST_US {
                    return;
                }
            }
        }
    }

    /// How many processes a command registers, moves or removes; one for another that is as cheap, and
    /// for what is refused; None for what may take longer.
    fn moves(packet: &[u8]) -> Option<usize> {
        match Request::decode(packet) {
            Ok(Request::ProcsPrio(batch)) => Some(batch.count().max(1)),
            Ok(Request::ProcPrio(_) | Request::ProcRemove(_)) => Some(1),
            Ok(Request::GetKillCnt(_) | Request::Subscribe(_)) | Err(_) => Some(1),
            Ok(_) => None,
        }
    }

    /// Serves up to `most` commands of a client. What it sent before hanging up is served first.
    fn serve_client(&mut self, id: ClientId, most: usize) -> usize {
        let mut inbox = Inbox::new();
        let mut served: usize = 0;
        self.clients.updated = None;
        for received in self.server.receive(id, &mut inbox, most) {
            match received {
                Received::Packet { datagram, from } => {
                    served = served.saturating_add(1);
                    match Request::decode(datagram) {
                        Ok(request) => {
                            let rights = self.authority.rights(from.uid);
                            self.serve_request(id, rights, &request);
                        }
                        Err(refusal) => self.notices.refused(MonoTime::now(), &refusal),
                    }
                    // None of them can be made to last; many of them are not one that does.
                    self.begin_handler(MonoTime::now());
                }
                Received::Closed | Received::NoCredentials => {
                    // Its processes stay registered; whoever comes next may take them over.
                    self.registry.release_claims(id);
                    self.server.close(id);
                    break;
                }
            }
        }
        served
    }

    fn serve_request(&mut self, id: ClientId, rights: Rights, request: &Request<'_>) {
        if !rights.allow(request) {
            self.notices.refused(MonoTime::now(), &"only root and the daemon's user may do this");
            return;
        }
        match request {
            Request::ProcPrio(record) => self.register_for(id, rights, record),
            Request::ProcsPrio(batch) => {
                for record in *batch {
                    match record {
                        Ok(record) => self.register_for(id, rights, &record),
                        Err(refusal) => self.notices.refused(MonoTime::now(), &refusal),
                    }
                }
            }
            Request::ProcRemove(pid) => {
                if let Err(refusal) = self.unregister(*pid, id, rights) {
                    self.notices.not_registered(MonoTime::now(), pid.get(), &refusal);
                }
            }
            Request::GetKillCnt(which) => {
                let ledger = &self.killer.ledger;
                let count = match *which {
                    KillCount::Total => ledger.total(),
                    KillCount::Between(min, max) => ledger.kills_between(min, max),
                    KillCount::Nothing => 0,
                };
                let count = i32::try_from(count).unwrap_or(i32::MAX);
                self.server.send(id, &wire::reply(Command::GetKillCnt, count));
            }
            Request::Subscribe(event) => self.server.subscribe(id, *event),
            Request::ProcPurge => self.purge(id, rights),
            // No levels are no wish, as in AOSP.
            Request::Target(targets) if targets.is_empty() => {}
            Request::Target(targets) => {
                self.clients.waiting_target = Some(*targets);
                self.apply_target(MonoTime::now());
            }
            Request::UpdateProps => {
                watchdog::stick_for_a_test();
                // All of one turn were sent before the first of them is executed, and so was set
                // what they are about: reading it once serves all.
                let updated = match self.clients.updated {
                    Some(updated) => updated,
                    None => self.update_props(),
                };
                self.clients.updated = Some(updated);
                let result = if updated { 0 } else { -1 };
                self.server.send(id, &wire::reply(Command::UpdateProps, result));
            }
            Request::StartMonitoring => self.start_monitoring(),
            Request::BootCompleted => {
                let result = self.boot_completed();
                self.server.send(id, &wire::reply(Command::BootCompleted, result));
            }
        }
    }

    fn register_for(&mut self, client: ClientId, rights: Rights, record: &ProcPrio) {
        let wanted = Registration {
            pid: record.pid,
            uid: record.uid,
            adj: record.adj,
            is_app: record.kind == ProcType::App,
            client,
            rights,
        };
        if let Err(refusal) = self.register(&wanted) {
            self.notices.not_registered(MonoTime::now(), record.pid.get(), &refusal);
        }
    }

    /// Forgets what the client registered, and what nobody claims.
    fn purge(&mut self, client: ClientId, rights: Rights) {
        let now = MonoTime::now();
        let (reactor, journal) = (&self.reactor, &mut self.journal);
        self.registry.retain(|record| {
            let foreign = record.claim.is_some_and(|claim| claim != client);
            let keep = foreign || !rights.covers(record.uid);
            if let (false, Some(pidfd)) = (keep, &record.pidfd) {
                reactor.remove(pidfd);
            }
            if !keep {
                let (pid, why) = (record.pid().get(), Removal::Asked);
                journal.write(now, &Change::Removed { pid, why });
            }
            keep
        });
        self.publish_next();
    }

    /// Applies the minfree levels that wait, if their time has come.
    pub(super) fn apply_target(&mut self, now: MonoTime) {
        if self.clients.target_due().is_some_and(|due| due > now) {
            return;
        }
        let Some(targets) = self.clients.waiting_target.take() else { return };
        self.clients.last_target = Some(now);
        self.settings.publish_minfree(&targets);
        let levels = targets
            .iter()
            .map(|level| (i32::try_from(level.minfree.get()).unwrap_or(i32::MAX), level.adj.get()));
        let table = MinfreeTable::from_pairs(levels);
        self.policy.set_minfree(table);
        self.journal.write(now, &Input::Minfree(table));
    }

    /// Reads the tunables again and arms the monitors by them. What is refused changes nothing.
    fn update_props(&mut self) -> bool {
        let Some(tunables) = self.settings.reload() else { return false };
        let old = std::mem::replace(&mut self.tunables, tunables);
        if self.pressure.is_some() && self.is_to_be_armed(&old) && !self.arm_pressure() {
            self.tunables = old;
            return false;
        }
        if self.tunables.direct_reclaim_threshold_ms != old.direct_reclaim_threshold_ms {
            self.warn_of_unheard_reclaim();
        }
        crate::logging::set_debug(self.tunables.debug);
        self.record_settings();
        true
    }

    /// Whether other monitors are wanted than by these tunables, or those in force are not what was
    /// wanted. Making and ending some takes milliseconds, and what was heard so far is forgotten.
    fn is_to_be_armed(&self, old: &Tunables) -> bool {
        let wanted = |of: &Tunables| {
            (of.use_psi, of.psi_window_size_ms, of.psi_partial_stall_ms, of.psi_complete_stall_ms)
        };
        let sampling = matches!(self.pressure, Some(psi::Source::Sampling { .. }));
        wanted(old) != wanted(&self.tunables) || (sampling && self.tunables.use_psi)
    }

    fn start_monitoring(&mut self) {
        if self.pressure.is_some() {
            return;
        }
        self.clients.updated = None;
        if self.settings.boot_completed() {
            self.arm_pressure();
        } else {
            self.notices.not_started(MonoTime::now());
        }
    }

    fn boot_completed(&mut self) -> i32 {
        if self.clients.boot_handled {
            return 1;
        }
        if !self.settings.boot_completed() {
            return -1;
        }
        self.clients.boot_handled = true;
        self.gpu.find();
        if self.memevents.is_none() {
            self.open_memevents();
        }
        0
    }
}
