//! What a recording tells, read in its order: the kills with all that belongs to them, and how
//! things stand at its end.

use crate::text::Utc;
use lmkd::clock::MonoTime;
use lmkd::config::Tunables;
use lmkd::policy::Admission;
use lmkd::policy::Facts;
use lmkd::policy::MinfreeTable;
use lmkd::policy::PollPlan;
use lmkd::policy::Signals;
use lmkd::policy::Trigger;
use lmkd::recorder::few::Few;
use lmkd::recorder::Act;
use lmkd::recorder::Entry;
use lmkd::recorder::Fate;
use lmkd::recorder::Header;
use lmkd::recorder::Input;
use lmkd::recorder::Kill;
use lmkd::recorder::Look;
use lmkd::recorder::Record;
use lmkd::recorder::Seen;
use lmkd::recorder::Sources;
use lmkd::recorder::Status;
use lmkd::units::PageSize;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use std::time::UNIX_EPOCH;

/// Looks that a kill may still refer to. The recorder writes a kill right after its look; in
/// between stand what the search met.
const RECENT: usize = 64;

/// The wall clock beside CLOCK_MONOTONIC, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: MonoTime,
    wall_ns: u64,
}

impl Clock {
    /// The wall clock was at `wall_ns` since 1970 at this moment.
    pub const fn new(at: MonoTime, wall_ns: u64) -> Self {
        Self { at, wall_ns }
    }

    /// The wall clock's time at a moment. Where the clock was set in between, it is off by that.
    pub fn wall(&self, at: MonoTime) -> Utc {
        let later = at.as_nanos().saturating_sub(self.at.as_nanos());
        let earlier = self.at.as_nanos().saturating_sub(at.as_nanos());
        let nanos = self.wall_ns.saturating_add(later).saturating_sub(earlier);
        Utc(UNIX_EPOCH + Duration::from_nanos(nanos))
    }
}

/// A look with what it was decided by.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Its number.
    pub seq: u64,
    /// What was asked, seen and said.
    pub look: Look,
    /// The settings then.
    pub tunables: Rc<Tunables>,
    /// The minfree levels then, if they were set within the recording.
    pub minfree: Option<MinfreeTable>,
}

impl Looked {
    /// What was seen, if the rules were asked at all.
    pub fn signals(&self) -> Option<&Signals> {
        self.look.seen.as_ref()?.verdict.signals.as_ref()
    }

    /// What the rules look at.
    pub fn facts(&self, page: PageSize) -> Option<Facts<'_>> {
        Some(Facts { signals: self.signals()?, tunables: &self.tunables, page })
    }
}

/// A kill, from the event that led to it to what is known of the victim's end.
#[derive(Clone, Debug)]
pub struct Story {
    /// The victim.
    pub kill: Kill,
    /// The look that decided it; the recording may begin after it, and nothing decides what the
    /// watchdog kills.
    pub looked: Option<Looked>,
    /// What became of it, in order, and when that was recorded.
    pub fates: Vec<(MonoTime, Fate)>,
}

/// All of it.
#[derive(Debug)]
pub struct History {
    /// Who wrote it.
    pub header: Header,
    /// The time of day.
    pub clock: Clock,
    /// The settings at the end.
    pub tunables: Rc<Tunables>,
    /// What tells of pressure at the end.
    pub sources: Sources,
    /// The last look at which the rules were asked.
    pub looked: Option<Looked>,
    /// The daemon's state, if it was asked for it.
    pub status: Option<Status>,
    /// The kills, the first first.
    pub kills: Vec<Story>,
    /// Records that were overwritten before they were read.
    pub lost: u64,
    /// The first and the last record's time.
    pub span: Option<(MonoTime, MonoTime)>,
    recent: VecDeque<Looked>,
    minfree: Option<MinfreeTable>,
}

impl History {
    /// One that begins with this header, written at this moment.
    pub fn new(header: Header, at: MonoTime) -> Self {
        let clock = Clock::new(at, header.wall_ns);
        Self {
            header,
            clock,
            tunables: Rc::default(),
            sources: Sources::default(),
            looked: None,
            status: None,
            kills: Vec::new(),
            lost: 0,
            span: None,
            recent: VecDeque::new(),
            minfree: None,
        }
    }

    /// The history of a whole recording.
    pub fn of(header: Header, entries: Vec<Entry>) -> Self {
        let start = entries.first().map_or(MonoTime::ZERO, |entry| entry.at);
        let mut history = Self::new(header, start);
        for entry in entries {
            history.take(entry);
        }
        history
    }

    /// The kernel's page size.
    pub fn page(&self) -> PageSize {
        self.header.page
    }

    /// Takes the next record.
    pub fn take(&mut self, entry: Entry) {
        let Entry { seq, at, record } = entry;
        if seq != 0 {
            let (first, _) = self.span.unwrap_or((at, at));
            self.span = Some((first, at));
        }
        match record {
            Record::Settings(settings) => self.tunables = Rc::new(settings.tunables),
            Record::Input(input) => {
                if let Input::Minfree(table) = *input {
                    self.minfree = Some(table);
                }
            }
            // The levels may have been sent before the recording begins.
            Record::Checkpoint(checkpoint) => self.minfree = Some(*checkpoint.policy.minfree()),
            Record::Sources(sources) => self.sources = *sources,
            Record::Look(look) => {
                let tunables = Rc::clone(&self.tunables);
                let looked = Looked { seq, look: *look, tunables, minfree: self.minfree };
                if looked.signals().is_some() {
                    self.looked = Some(looked.clone());
                }
                if self.recent.len() == RECENT {
                    self.recent.pop_front();
                }
                self.recent.push_back(looked);
            }
            Record::Kill(kill) => {
                let looked = self.recent.iter().rev().find(|looked| looked.seq == kill.look);
                let looked = looked.filter(|_| kill.look != 0).cloned();
                self.kills.push(Story { kill: *kill, looked, fates: Vec::new() });
            }
            Record::Fate(fate) => {
                let story = self.kills.iter_mut().rev().find(|story| story.is(&fate));
                if let Some(story) = story {
                    story.fates.push((at, *fate));
                }
            }
            Record::Status(status) => {
                self.sources = status.sources;
                if let Some(seen) = &status.seen {
                    self.looked = Some(Looked {
                        seq,
                        look: moment(at, seen.clone()),
                        tunables: Rc::clone(&self.tunables),
                        minfree: self.minfree,
                    });
                }
                self.status = Some(*status);
            }
            Record::Lost(lost) => self.lost = self.lost.saturating_add(lost.records),
            _ => {}
        }
    }
}

/// A look at this moment that was taken for an operator: nothing was done for it.
fn moment(now: MonoTime, seen: Seen) -> Look {
    Look {
        trigger: Trigger::Poll,
        woken: now,
        now,
        pending: None,
        admission: Admission::Evaluate { watermarks: seen.sample.watermarks.is_some() },
        seen: Some(seen),
        act: Act::Nothing,
        tried: Few::default(),
        waiting: false,
        plan: PollPlan::default(),
    }
}

impl Story {
    fn is(&self, fate: &Fate) -> bool {
        (self.kill.ticket, self.kill.pid) == (fate.ticket, fate.pid)
    }
}
