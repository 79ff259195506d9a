//! The decision run again over a recording.
//!
//! The code is the daemon's own: with the recorded settings each verdict comes out as it was, bit
//! for bit. With others it shows what the decision would have been at each recorded moment; what
//! memory would have looked like after a kill that was not made, or without one that was, no
//! recording knows.

use super::look::Act;
use super::look::Look;
use super::record::Checkpoint;
use super::record::Entry;
use super::record::Input;
use super::record::Record;
use crate::config::Tunables;
use crate::policy::Admission;
use crate::policy::Policy;
use crate::policy::PollPlan;
use crate::policy::Verdict;

/// What one look came to when it was run again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Whether memory would have been looked at.
    pub admission: Admission,
    /// The verdict; None if memory would not have been looked at, or was not in the recording.
    pub verdict: Option<Verdict>,
    /// What would have been asked of the loop.
    pub plan: PollPlan,
}

impl Replayed {
    /// Whether this is what the recorded look came to.
    #[must_use]
    pub fn equals(&self, look: &Look) -> bool {
        self.admission == look.admission
            && self.verdict == look.seen.as_ref().map(|seen| seen.verdict)
            && self.plan == look.plan
    }
}

/// Runs the decision over the records of one recording, in their order.
#[derive(Clone, Debug)]
pub struct Replayer<F> {
    change: F,
    tunables: Option<Tunables>,
    policy: Option<Policy>,
    faithful: bool,
    /// Checkpoints at which the replayed decision remembered something else than the recorded one.
    pub strayed: u64,
}

impl<F: Fn(&mut Tunables)> Replayer<F> {
    /// A replay in which `change` is applied to the recorded settings. One that changes nothing is
    /// faithful: it takes up each checkpoint, and counts those it did not come to by itself.
    pub fn new(change: F) -> Self {
        Self { change, tunables: None, policy: None, faithful: true, strayed: 0 }
    }

    /// The settings in force.
    #[must_use]
    pub const fn tunables(&self) -> Option<&Tunables> {
        self.tunables.as_ref()
    }

    /// Whether the settings are the recorded ones.
    #[must_use]
    pub const fn is_faithful(&self) -> bool {
        self.faithful
    }

    /// Takes the next record. Returns what became of a look; None for other records, and for
    /// looks before the first settings and checkpoint.
    pub fn next(&mut self, entry: &Entry) -> Option<Replayed> {
        match &entry.record {
            Record::Settings(settings) => {
                let mut tunables = settings.tunables.clone();
                (self.change)(&mut tunables);
                self.faithful = tunables == settings.tunables;
                self.tunables = Some(tunables);
            }
            Record::Checkpoint(checkpoint) => self.check(checkpoint),
            Record::Input(input) => {
                let policy = self.policy.as_mut()?;
                match **input {
                    Input::WatermarksChanged => policy.watermarks_changed(),
                    Input::Minfree(table) => policy.set_minfree(table),
                    Input::WatermarkChangesAreTold(told) => {
                        policy.watermark_changes_are_told(told);
                    }
                    Input::PressureIsSampled(sampled) => policy.pressure_is_sampled(sampled),
                }
            }
            Record::Sources(sources) => self.policy.as_mut()?.window_lasts(sources.window_ms()),
            // What the decision saw in between is not known: wait for the next checkpoint.
            Record::Lost(_) => (self.policy, self.tunables) = (None, None),
            Record::Look(look) => return self.look(look),
            _ => {}
        }
        None
    }

    fn check(&mut self, checkpoint: &Checkpoint) {
        // Its settings were overwritten: no look can be decided again before the next.
        if self.tunables.is_none() {
            return;
        }
        match &self.policy {
            Some(policy) if !self.faithful || *policy == checkpoint.policy => return,
            Some(_) => self.strayed = self.strayed.saturating_add(1),
            None => {}
        }
        self.policy = Some(checkpoint.policy.clone());
    }

    fn look(&mut self, look: &Look) -> Option<Replayed> {
        let (policy, tunables) = (self.policy.as_mut()?, self.tunables.as_ref()?);
        let Look { trigger, now, pending, seen, act, waiting, .. } = look;
        let admission = policy.admit(*trigger, *now, *pending, tunables);
        let mut verdict = None;
        if matches!(admission, Admission::Evaluate { .. }) {
            match seen {
                Some(seen) => {
                    let said = policy.evaluate(*trigger, &seen.sample, tunables);
                    let killed = matches!(act, Act::Killed { .. });
                    if let Some(cause) = said.cause.filter(|_| killed) {
                        policy.note_kill(&cause, tunables);
                    }
                    verdict = Some(said);
                }
                // In the recorded run it was not read either, or could not be.
                None => policy.read_failed(*trigger),
            }
        }
        let plan = match admission {
            Admission::Ignored => PollPlan::default(),
            _ => policy.poll_plan(*trigger, *waiting),
        };
        Some(Replayed { admission, verdict, plan })
    }
}
