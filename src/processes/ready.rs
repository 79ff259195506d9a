//! The next victims, with their files open and their names read.
//!
//! What a kill says of its victim is read before the signal. Opening a file makes the kernel
//! allocate, which can take long exactly when memory has run out, and a name may be kept from its
//! reader ([`super::names`]). So it is done ahead for those who are next.

use super::names::Named;
use super::names::Names;
use super::RecordId;
use super::Registry;
use crate::kernel::memcg::MemoryCgroups;
use crate::kernel::process::ProcDir;
use crate::kernel::process::ProcError;
use crate::kernel::process::Stat;
use crate::kernel::process::Status;
use crate::kernel::process::TaskName;
use crate::kernel::GroupUsage;
use crate::kernel::UsageFiles;
use crate::oom_score_adj::OomScoreAdj;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

/// How many of the next victims are kept ready. Each takes two descriptors, three if it has several
/// threads, two more for its memory cgroup where that is wanted, and as many pages of the kernel's
/// memory.
pub const READY: usize = 8;

/// The next victims and the adj of each: by age, but where sizes decide the one that is likely to be
/// the heaviest first.
pub type Heads = [Option<(RecordId, OomScoreAdj)>; READY];

impl Registry {
    /// Who is next, if `heaviest` is the heaviest of the highest adj at which sizes decide.
    #[must_use]
    pub fn heads(&self, heaviest: Option<RecordId>) -> Heads {
        let with_adj = |id: RecordId| self.get(id).map(|record| (id, record.adj()));
        let killable = |(_, adj): &(RecordId, OomScoreAdj)| *adj >= OomScoreAdj::FOREGROUND;
        let mut heaviest = heaviest.and_then(with_adj).filter(killable);
        let all = self.oldest_first(OomScoreAdj::FOREGROUND).filter_map(with_adj);
        let other = heaviest.map(|(id, _)| id);
        let mut by_age = all.filter(|(id, _)| Some(*id) != other).peekable();
        std::array::from_fn(|_| {
            let oldest = by_age.peek().map(|(_, adj)| *adj);
            heaviest.take_if(|(_, adj)| Some(*adj) >= oldest).or_else(|| by_age.next())
        })
    }
}

/// Open files and names of the next victims.
pub struct Ready {
    heads: Heads,
    /// So many of them have been prepared, or could not be.
    tried: usize,
    places: [Option<Prepared>; READY],
    names: Names,
}

/// A process whose files are open.
#[derive(Debug)]
pub struct Prepared {
    id: RecordId,
    status: OwnedFd,
    stat: OwnedFd,
    threads: Option<OwnedFd>,
    group: Option<UsageFiles>,
    seen: Status,
    /// What the process called itself, once that has been read.
    named: Option<Named>,
}

impl Ready {
    /// With nobody prepared.
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self { heads: Heads::default(), tried: 0, places: Default::default(), names }
    }

    /// Whether others are next than at the last [`Self::prepare_one`], or any of them is still to be
    /// prepared.
    #[must_use]
    pub fn is_behind(&self, heads: &Heads) -> bool {
        self.heads != *heads || heads.iter().skip(self.tried).any(Option::is_some)
    }

    /// Opens the files of the first of `heads` that is new among them, and closes those of others.
    /// False if there is none. One whose files cannot be opened is read when it is killed. With
    /// `groups` what its memory cgroup has used is wanted too.
    pub fn prepare_one(
        &mut self,
        heads: &Heads,
        registry: &Registry,
        proc: &ProcDir,
        groups: Option<&MemoryCgroups>,
    ) -> bool {
        if self.heads != *heads {
            self.change_heads(heads, registry);
        }
        while let Some(head) = heads.get(self.tried) {
            self.tried = self.tried.saturating_add(1);
            let Some((id, _)) = *head else { continue };
            if self.get(id).is_some() {
                continue;
            }
            let prepared = Prepared::open(id, registry, proc, groups);
            let mut places = self.places.iter_mut().enumerate();
            if let Some((index, free)) = places.find(|(_, place)| place.is_none()) {
                *free = prepared;
                self.ask_name(index, registry);
            }
            return true;
        }
        false
    }

    /// Drops those who are no longer next. One who has moved may have got its name since it was
    /// prepared, as Android's processes do when they become an app.
    fn change_heads(&mut self, heads: &Heads, registry: &Registry) {
        let old = std::mem::replace(&mut self.heads, *heads);
        self.tried = 0;
        for index in 0..READY {
            let Some(place) = self.places.get_mut(index) else { continue };
            let Some(id) = place.as_ref().map(|prepared| prepared.id) else { continue };
            let adj_in = |heads: &Heads| heads.iter().flatten().find(|(of, _)| *of == id).copied();
            match adj_in(heads) {
                None => *place = None,
                now if now != adj_in(&old) => self.ask_name(index, registry),
                Some(_) => {}
            }
        }
    }

    fn ask_name(&self, index: usize, registry: &Registry) {
        let prepared = self.places.get(index).and_then(Option::as_ref);
        let Some(id) = prepared.map(|prepared| prepared.id) else { return };
        let Some(record) = registry.get(id) else { return };
        self.names.ask(index, id.to_bits(), record.pid().get());
    }

    /// Readable when a name has been read; None if names are not read.
    #[must_use]
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.names.bell()
    }

    /// Takes the names that have been read.
    pub fn take_names(&mut self) {
        self.names.heard();
        for (index, prepared) in self.places.iter_mut().enumerate() {
            let Some(prepared) = prepared else { continue };
            if let Some(named) = self.names.take(index, prepared.id.to_bits()) {
                log::debug!("process {} is called '{}'", prepared.seen.tgid, named.name);
                prepared.named = Some(named);
            }
        }
    }

    /// The name of a process that is not prepared, or whose name has not been taken yet; see
    /// [`Names::now`].
    pub fn name_now(&self, pid: i32, id: Option<RecordId>, status: &Status) -> Option<TaskName> {
        let place = |id| self.places.iter().position(|p| p.as_ref().is_some_and(|p| p.id == id));
        let come = id.and_then(|id: RecordId| self.names.take(place(id)?, id.to_bits()));
        let come = come.filter(|named| named.comm == status.comm).map(|named| named.name);
        come.or_else(|| self.names.now(pid))
    }

    /// The open files of a process, if it is among the next.
    #[must_use]
    pub fn get(&self, id: RecordId) -> Option<&Prepared> {
        self.places.iter().flatten().find(|prepared| prepared.id == id)
    }
}

impl Prepared {
    fn open(
        id: RecordId,
        registry: &Registry,
        proc: &ProcDir,
        groups: Option<&MemoryCgroups>,
    ) -> Option<Self> {
        let record = registry.get(id)?;
        let pid = record.pid().get();
        let status = proc.open_status(pid).ok()?;
        let stat = proc.open_stat(pid).ok()?;
        // The first read makes the kernel's buffer.
        let seen = ProcDir::held_status(&status).ok()?;
        let several = seen.threads != 1;
        let threads = if several { proc.open_threads(pid).ok() } else { None };
        ProcDir::held_stat(&stat).ok()?;
        let group = groups.and_then(|groups| groups.open_usage(proc, pid).ok());
        let group = group.filter(|group| group.read().is_ok());
        // What was opened is of the process that was registered, if that still has its id. Without
        // a pidfd nobody could tell.
        let same = record.pidfd.as_ref()?.holds_its_pid();
        same.then_some(Self { id, status, stat, threads, group, seen, named: None })
    }

    /// Reads `status`.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn status(&self) -> Result<Status, ProcError> {
        ProcDir::held_status(&self.status)
    }

    /// Reads `stat`.
    ///
    /// # Errors
    ///
    /// The process is gone.
    pub fn stat(&self) -> Result<Stat, ProcError> {
        ProcDir::held_stat(&self.stat)
    }

    /// What was read of it when it was prepared, and what it is called as far as known.
    #[must_use]
    pub fn seen(&self) -> (&Status, TaskName) {
        let name = self.name(&self.seen);
        (&self.seen, name.unwrap_or_else(|| self.seen.short_name()))
    }

    /// The list of its threads, if it had several.
    #[must_use]
    pub fn threads(&self) -> Option<&OwnedFd> {
        self.threads.as_ref()
    }

    /// What its memory cgroup has used, if that was wanted and it has one.
    #[must_use]
    pub fn group_usage(&self) -> Option<GroupUsage> {
        self.group.as_ref()?.read().ok()
    }

    /// The name of the process, if it is known and the process has not taken another since:
    /// Android's change both names when they become an app.
    #[must_use]
    pub fn name(&self, status: &Status) -> Option<TaskName> {
        self.named.filter(|named| named.comm == status.comm).map(|named| named.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonoTime;
    use crate::pidfd::PidFd;
    use crate::processes::Pid;
    use crate::processes::Record;
    use crate::testing::Held;
    use rustix::event::PollFd;
    use rustix::event::PollFlags;
    use rustix::event::Timespec;
    use std::path::Path;

    fn registered(registry: &mut Registry, proc: &ProcDir, adj: i32) -> (Held, RecordId) {
        let child = Held::sleep();
        let pid = Pid::new(child.pid()).unwrap();
        // It gets its new name a little after its new program.
        while !proc.status(pid.get()).unwrap().comm.starts_with(b"sleep") {
            std::thread::yield_now();
        }
        let adj = OomScoreAdj::new(adj).unwrap();
        let mut record = Record::new(pid, 0, adj, MonoTime::ZERO);
        record.pidfd = PidFd::open(pid.get()).ok();
        (child, registry.insert(record))
    }

    /// Waits for it.
    fn name_of(ready: &mut Ready, id: RecordId) -> String {
        loop {
            ready.take_names();
            let prepared = ready.get(id).unwrap();
            if let Some(name) = prepared.name(&prepared.status().unwrap()) {
                return name.to_string();
            }
            let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
            let bell = ready.bell().unwrap();
            let mut heard = [PollFd::new(&bell, PollFlags::IN)];
            assert_eq!(rustix::event::poll(&mut heard, Some(&limit)).unwrap(), 1);
        }
    }

    #[test]
    fn those_who_are_next_are_ready_and_others_are_not() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let mut registry = Registry::with_capacity(16);
        let mut ready = Ready::new(Names::start());
        let (_low, spared) = registered(&mut registry, &proc, 0);
        let (_system, shielded) = registered(&mut registry, &proc, -900);
        let apps = [(); READY].map(|()| registered(&mut registry, &proc, 900));
        let heads = registry.heads(None);
        assert!(ready.is_behind(&heads));
        assert!(ready.prepare_one(&heads, &registry, &proc, None));
        assert!(ready.get(apps[0].1).is_some() && ready.get(apps[1].1).is_none());
        assert!(ready.is_behind(&heads));
        while ready.prepare_one(&heads, &registry, &proc, None) {}
        assert!(!ready.is_behind(&heads));
        for (_, id) in &apps[1..] {
            assert_eq!(name_of(&mut ready, *id), "sleep");
        }
        assert!(ready.get(spared).is_none() && ready.get(shielded).is_none());
        for (_, id) in &apps {
            let prepared = ready.get(*id).unwrap();
            let status = prepared.status().unwrap();
            assert_eq!(status.tgid, registry.get(*id).unwrap().pid().get());
            assert!(prepared.stat().unwrap().start_time > 0);
        }

        let (_, first) = apps[0];
        registry.remove(first);
        let heads = registry.heads(None);
        assert!(ready.is_behind(&heads));
        while ready.prepare_one(&heads, &registry, &proc, None) {}
        assert!(!ready.is_behind(&heads));
        assert!(ready.get(first).is_none());
        assert!(ready.get(spared).is_some() && ready.get(shielded).is_none());

        // With nobody left there is nobody's file to keep.
        registry.retain(|_| false);
        let heads = registry.heads(None);
        assert!(ready.is_behind(&heads) && !ready.prepare_one(&heads, &registry, &proc, None));
        assert!(ready.places.iter().all(Option::is_none) && !ready.is_behind(&heads));
    }

    #[test]
    fn where_sizes_decide_the_heaviest_is_the_next() {
        let mut registry = Registry::with_capacity(4);
        let ids = [200, 900, 200, 0, 200].map(|adj| {
            let pid = Pid::new(4_000_000 + i32::try_from(registry.len()).unwrap()).unwrap();
            registry.insert(Record::new(pid, 0, OomScoreAdj::new(adj).unwrap(), MonoTime::ZERO))
        });
        let order = |registry: &Registry, heaviest: Option<usize>| {
            let heads = registry.heads(heaviest.map(|n| ids[n]));
            let place = |id| ids.iter().position(|known| *known == id).unwrap();
            heads.iter().flatten().map(|(id, _)| place(*id)).collect::<Vec<_>>()
        };
        assert_eq!(order(&registry, None), [1, 0, 2, 4, 3]);
        assert_eq!(order(&registry, Some(4)), [1, 4, 0, 2, 3]);
        assert_eq!(order(&registry, Some(1)), [1, 0, 2, 4, 3]);
        assert_eq!(order(&registry, Some(3)), [1, 0, 2, 4, 3]);
        registry.remove(ids[4]);
        assert_eq!(order(&registry, Some(4)), [1, 0, 2, 3]);
    }

    #[test]
    fn a_heaviest_that_was_moved_out_of_reach_is_nobodys_next_victim() {
        let mut registry = Registry::with_capacity(4);
        let ids = [100, 0, -1, -900].map(|adj| {
            let pid = Pid::new(4_000_000 + i32::try_from(registry.len()).unwrap()).unwrap();
            registry.insert(Record::new(pid, 0, OomScoreAdj::new(adj).unwrap(), MonoTime::ZERO))
        });
        for guess in 1..4 {
            let heads = registry.heads(Some(ids[guess]));
            let order: Vec<RecordId> = heads.iter().flatten().map(|(id, _)| *id).collect();
            assert_eq!(order, ids[..2]);
        }
        // Nor if nobody else is left.
        registry.remove(ids[0]);
        registry.remove(ids[1]);
        assert_eq!(registry.heads(Some(ids[3])), Heads::default());
    }

    #[test]
    fn a_process_that_took_another_name_is_asked_again() {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let mut registry = Registry::with_capacity(1);
        let mut ready = Ready::new(Names::start());
        let (child, id) = registered(&mut registry, &proc, 900);
        assert!(ready.prepare_one(&registry.heads(None), &registry, &proc, None));
        assert_eq!(name_of(&mut ready, id), "sleep");
        let prepared = ready.get(id).unwrap();
        let status = prepared.status().unwrap();
        assert!(prepared.name(&Status { comm: *b"another\0\0\0\0\0\0\0\0\0", ..status }).is_none());
        // It is asked when it moves.
        ready.places[0].as_mut().unwrap().named = None;
        registry.set_adj(id, OomScoreAdj::new(800).unwrap(), MonoTime::ZERO);
        ready.prepare_one(&registry.heads(None), &registry, &proc, None);
        assert_eq!(name_of(&mut ready, id), "sleep");
        drop(child);
        assert_eq!(ready.get(id).unwrap().status(), Err(ProcError::Gone));
    }
}
