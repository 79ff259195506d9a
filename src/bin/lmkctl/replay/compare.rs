//! Recorded kills beside replayed ones.

use crate::timeline::Moment;
use crate::timeline::Timeline;
use crate::timeline::View;
use lmkd::config::Tunables;
use lmkd::policy::Cause;
use lmkd::recorder::Act;
use lmkd::recorder::Process;
use lmkd::recorder::Record;
use lmkd::recorder::Recording;
use lmkd::recorder::Replayed;
use lmkd::recorder::Replayer;
use std::collections::HashMap;

/// A kill that comes at most so many seconds after one that went is the same, moved.
const MOVED: f64 = 10.0;

/// A recording's decisions, made again.
pub struct Comparison<'a> {
    /// What each look came to, by its place in [`Timeline::looks`]; None before the first checkpoint.
    pub replayed: Vec<Option<Replayed>>,
    /// The settings each was decided by.
    pub settings: Vec<Option<Tunables>>,
    /// Looks that came to something else, bit for bit.
    pub differing: Vec<usize>,
    /// Checkpoints at which the decision remembered something else.
    pub strayed: u64,
    /// What became of every kill, in the order of time.
    pub outcomes: Vec<Outcome>,
    /// Whether the settings are the recorded ones.
    pub faithful: bool,
    /// The recording.
    pub timeline: &'a Timeline<'a>,
}

/// What becomes of a kill.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is made in both, at the same look and for the same reason.
    Stays {
        /// Its place in [`Timeline::looks`].
        look: usize,
    },
    /// It is made in the recording alone.
    Goes {
        /// Its place in [`Timeline::looks`].
        look: usize,
    },
    /// It is made in the replay alone.
    Comes(Coming),
    /// It is made at another look, for another reason or down to another adj.
    Moves {
        /// Where it was made, in [`Timeline::looks`].
        look: usize,
        /// Where it would be made.
        to: Coming,
    },
}

/// A kill of the replay that the recording has not.
#[derive(Clone, Debug, PartialEq)]
pub struct Coming {
    /// Its place in [`Timeline::looks`].
    pub look: usize,
    /// Why.
    pub cause: Cause,
    /// Who was next in line, if anybody was registered.
    pub victim: Option<Process>,
    /// Looks after it that asked for a kill again, while memory went on as recorded.
    pub again: usize,
}

impl Outcome {
    /// The looks that decide it: recorded and replayed.
    pub fn looks(&self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Stays { look } => (Some(*look), Some(*look)),
            Self::Goes { look } => (Some(*look), None),
            Self::Comes(to) => (None, Some(to.look)),
            Self::Moves { look, to } => (Some(*look), Some(to.look)),
        }
    }
}

impl<'a> Comparison<'a> {
    /// Replays a recording with `change` made to its settings.
    pub fn new(
        recording: &Recording,
        timeline: &'a Timeline<'a>,
        change: &dyn Fn(&mut Tunables),
    ) -> Self {
        let mut replayer = Replayer::new(|tunables: &mut Tunables| change(tunables));
        let (mut replayed, mut settings, mut differing) = (Vec::new(), Vec::new(), Vec::new());
        for entry in &recording.entries {
            let said = replayer.next(entry);
            let Record::Look(look) = &entry.record else { continue };
            if said.as_ref().is_some_and(|said| !said.equals(look)) {
                differing.push(replayed.len());
            }
            replayed.push(said);
            settings.push(replayer.tunables().cloned());
        }
        let recorded = timeline.looks.iter().map(|moment| moment.tunables);
        let same = settings.iter().map(Option::as_ref).zip(recorded).all(|(now, then)| now == then);
        let mut comparison = Self {
            replayed,
            settings,
            differing,
            strayed: replayer.strayed,
            outcomes: Vec::new(),
            faithful: same,
            timeline,
        };
        comparison.outcomes = comparison.weigh();
        comparison
    }

    /// Looks that were replayed.
    pub fn compared(&self) -> usize {
        self.replayed.iter().flatten().count()
    }

    /// Kills among them.
    pub fn kills_compared(&self) -> usize {
        let both = self.replayed.iter().zip(&self.timeline.looks);
        both.filter(|(replayed, moment)| replayed.is_some() && moment.killed()).count()
    }

    /// The views of some looks as the replay has them.
    pub fn views(&self, looks: std::ops::Range<usize>) -> Vec<View<'_>> {
        let view = |n: usize| {
            let moment = *self.timeline.looks.get(n)?;
            let said = self.replayed.get(n)?.as_ref().and_then(|said| said.verdict);
            let signals = said.and_then(|verdict| verdict.signals);
            Some(View { moment, signals, tunables: self.settings.get(n)?.as_ref() })
        };
        looks.filter_map(view).collect()
    }

    /// The replay's reason to kill at a look.
    fn cause(&self, look: usize) -> Option<Cause> {
        self.replayed.get(look)?.as_ref()?.verdict?.cause
    }

    fn weigh(&self) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = Vec::new();
        // The kill that came and whose need still lasts; whether it is one of the recording, moved.
        let mut needed: Option<(usize, bool)> = None;
        // The kill that went last.
        let mut went: Option<usize> = None;
        let mut dead: HashMap<i32, f64> = HashMap::new();
        for (n, moment) in self.timeline.looks.iter().enumerate() {
            let Some(Some(said)) = self.replayed.get(n) else { continue };
            let recorded = moment.look.seen.as_ref().and_then(|seen| seen.verdict.cause);
            let now = self.cause(n).filter(|now| !nobody(moment, now));
            let recorded = recorded.filter(|_| moment.killed());
            match (recorded, now) {
                (Some(then), now) => {
                    let early = needed.filter(|(_, moved)| !moved).map(|(place, _)| place);
                    let came = early.and_then(|place| outcomes.get_mut(place));
                    match (came, now) {
                        // It was due before: the same kill, made earlier.
                        (Some(outcome), _) => {
                            if let Outcome::Comes(to) = outcome.clone() {
                                *outcome = Outcome::Moves { look: n, to };
                            }
                        }
                        (None, Some(now)) if same(&then, &now) => {
                            outcomes.push(Outcome::Stays { look: n });
                        }
                        (None, Some(now)) => {
                            let to = self.coming(n, now, &dead);
                            outcomes.push(Outcome::Moves { look: n, to });
                        }
                        (None, None) => {
                            went = Some(outcomes.len());
                            outcomes.push(Outcome::Goes { look: n });
                        }
                    }
                    needed = None;
                }
                (None, Some(now)) => {
                    if let Some((place, _)) = needed {
                        if let Some(Outcome::Comes(to) | Outcome::Moves { to, .. }) =
                            outcomes.get_mut(place)
                        {
                            to.again = to.again.saturating_add(1);
                        }
                        continue;
                    }
                    let to = self.coming(n, now, &dead);
                    if let Some(victim) = to.victim {
                        dead.insert(victim.pid, moment.at);
                    }
                    let earlier =
                        went.take().filter(|place| self.is_near(&outcomes, *place, moment));
                    match earlier.and_then(|place| Some((place, outcomes.get_mut(place)?))) {
                        Some((place, outcome)) => {
                            if let (Some(look), _) = outcome.looks() {
                                *outcome = Outcome::Moves { look, to };
                            }
                            needed = Some((place, true));
                        }
                        None => {
                            needed = Some((outcomes.len(), false));
                            outcomes.push(Outcome::Comes(to));
                        }
                    }
                }
                // Memory was looked at, and nobody need die.
                (None, None) if said.verdict.is_some() => needed = None,
                (None, None) => {}
            }
        }
        let time = |outcome: &Outcome| match outcome.looks() {
            (Some(look), _) | (None, Some(look)) => look,
            (None, None) => usize::MAX,
        };
        outcomes.sort_by_key(time);
        outcomes
    }

    fn is_near(&self, outcomes: &[Outcome], place: usize, moment: &Moment<'_>) -> bool {
        let look = outcomes.get(place).and_then(|outcome| outcome.looks().0);
        let then = look.and_then(|look| self.timeline.looks.get(look));
        then.is_some_and(|then| moment.at - then.at <= MOVED)
    }

    fn coming(&self, look: usize, cause: Cause, dead: &HashMap<i32, f64>) -> Coming {
        let at = self.timeline.looks.get(look).map_or(0.0, |moment| moment.at);
        let dead: Vec<i32> = dead.keys().copied().collect();
        let victim = self.timeline.lives.next_in_line(at, cause.min_adj, &dead);
        Coming { look, cause, victim, again: 0 }
    }
}

/// Whether the daemon found nobody to kill at a look, and would find nobody now either.
fn nobody(moment: &Moment<'_>, now: &Cause) -> bool {
    let then = moment.look.seen.as_ref().and_then(|seen| seen.verdict.cause);
    moment.look.act == Act::Nobody && then.is_some_and(|then| now.min_adj >= then.min_adj)
}

fn same(then: &Cause, now: &Cause) -> bool {
    then.reason == now.reason && then.min_adj == now.min_adj
}
