//! Who was registered from when to when, with which rank.

use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::pages::Fate;
use lmkd::pages::Life;
use lmkd::pages::Stay;
use lmkd::recorder::Change;
use lmkd::recorder::Process;
use lmkd::recorder::Registered;
use lmkd::recorder::Removal;

/// A registered process.
#[derive(Clone, Debug)]
struct One {
    process: Process,
    stays: Vec<Stay>,
    /// How and when it went.
    gone: Option<(f64, Removal)>,
}

/// All processes that ever were registered, and the order in which they would be killed.
#[derive(Clone, Debug, Default)]
pub struct Lives {
    all: Vec<One>,
    /// Who has been named of a list; None if its beginning is not in the recording.
    naming: Option<Vec<i32>>,
}

impl Lives {
    /// Those registered at one moment, a part of them.
    pub fn registered(&mut self, at: f64, list: &Registered) {
        if list.first {
            self.naming = Some(Vec::new());
        }
        for process in list.processes.iter() {
            if let Some(naming) = &mut self.naming {
                naming.push(process.pid);
            }
            let known = self.living(process.pid).map(|one| one.process.adj);
            if known != Some(process.adj) {
                self.set(at, *process);
            }
        }
        if list.last {
            // Who is no longer named has gone unseen.
            let Some(named) = self.naming.take() else { return };
            for one in self.all.iter_mut().filter(|one| one.gone.is_none()) {
                if !named.contains(&one.process.pid) {
                    one.end(at, Removal::Asked);
                }
            }
        }
    }

    /// Records are missing here: a list that goes on after them is not whole.
    pub fn lost(&mut self) {
        self.naming = None;
    }

    /// Somebody comes, moves or goes.
    pub fn change(&mut self, at: f64, change: &Change) {
        match change {
            Change::Added(process) | Change::Moved(process) => self.set(at, *process),
            Change::Removed { pid, why } => {
                if let Some(one) = self.living(*pid) {
                    one.end(at, *why);
                }
            }
        }
    }

    fn living(&mut self, pid: i32) -> Option<&mut One> {
        self.all.iter_mut().rev().find(|one| one.process.pid == pid && one.gone.is_none())
    }

    fn set(&mut self, at: f64, process: Process) {
        let stay = Stay { from: at, to: at, adj: Some(process.adj.get()) };
        match self.living(process.pid) {
            Some(one) => {
                one.process = process;
                if let Some(last) = one.stays.last_mut() {
                    last.to = at;
                }
                one.stays.push(stay);
            }
            None => self.all.push(One { process, stays: vec![stay], gone: None }),
        }
    }

    /// Who would have been the victim at `time` of a kill down to `min_adj`: the highest rank, and
    /// of that who has had it longest. Up to adj 200 the daemon takes the heaviest, which no
    /// recording knows.
    pub fn next_in_line(&self, time: f64, min_adj: OomScoreAdj, dead: &[i32]) -> Option<Process> {
        let mut best: Option<(i32, f64, Process)> = None;
        for one in &self.all {
            let gone = one.gone.is_some_and(|(gone, _)| gone <= time);
            if gone || dead.contains(&one.process.pid) {
                continue;
            }
            let now = one.stays.iter().rev().find(|stay| stay.from <= time);
            let Some((stay, adj)) = now.and_then(|stay| Some((stay, stay.adj?))) else { continue };
            let better = best.is_none_or(|(highest, since, _)| {
                adj > highest || adj == highest && stay.from < since
            });
            if adj >= min_adj.get() && better {
                let process = Process { adj: OomScoreAdj::saturating(adj.into()), ..one.process };
                best = Some((adj, stay.from, process));
            }
        }
        best.map(|(.., process)| process)
    }

    /// The lives within a stretch of time. `name` knows some by id, `killed` the end of others:
    /// when, and by which kill.
    pub fn within(
        &self,
        from: f64,
        to: f64,
        name: &dyn Fn(i32) -> Option<String>,
        killed: &dyn Fn(i32, f64) -> Option<(f64, usize)>,
    ) -> Vec<Life> {
        let mut lives = Vec::new();
        for one in &self.all {
            let pid = one.process.pid;
            let began = one.stays.first().map_or(from, |stay| stay.from);
            let kill = killed(pid, began);
            let gone = one.gone.filter(|(_, why)| *why != Removal::Killed);
            let end = match (kill, gone) {
                (Some((at, _)), _) | (None, Some((at, _))) => at,
                (None, None) => to,
            };
            if began > to || end < from {
                continue;
            }
            let fate = match (kill, gone) {
                (Some((_, kill)), _) if end <= to => Fate::Killed(kill),
                (None, Some(_)) if end <= to => Fate::Exited,
                _ => Fate::Lives,
            };
            let ends = one.stays.iter().skip(1).map(|stay| stay.from).chain([end]);
            let stays = one.stays.iter().zip(ends).filter_map(|(stay, next)| {
                let (from, to) = (stay.from.max(from), next.min(end).min(to));
                (from <= to).then_some(Stay { from, to, adj: stay.adj })
            });
            let words = name(pid).unwrap_or_else(|| format!("user {}", one.process.uid));
            lives.push(Life { name: words, pid, stays: stays.collect(), fate });
        }
        // Victims first, in their order; then who would be next.
        lives.sort_by_key(|life| {
            let turn = if let Fate::Killed(kill) = life.fate { kill } else { usize::MAX };
            (turn, life.stays.last().and_then(|stay| stay.adj).map_or(0, |adj| -adj), life.pid)
        });
        lives
    }

    /// Whether a process was ever registered.
    pub fn knows(&self, pid: i32) -> bool {
        self.all.iter().any(|one| one.process.pid == pid)
    }
}

impl One {
    fn end(&mut self, at: f64, why: Removal) {
        self.gone = Some((at, why));
        if let Some(last) = self.stays.last_mut() {
            last.to = at;
        }
    }
}
