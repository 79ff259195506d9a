//! The registry against the plainest thing that could be one: a list.

#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use lmkd::clock::MonoTime;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::ClientId;
use lmkd::processes::Pid;
use lmkd::processes::Record;
use lmkd::processes::RecordId;
use lmkd::processes::Registry;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prelude::Strategy;
use proptest::prop_oneof;
use proptest::proptest;

#[derive(Clone, Debug)]
enum Step {
    Insert { pid: Pid, adj: OomScoreAdj, claim: Option<ClientId> },
    SetAdj { pid: Pid, adj: OomScoreAdj },
    Remove { pid: Pid },
    Release { client: ClientId },
    Purge { client: ClientId },
}

fn a_pid() -> impl Strategy<Value = Pid> {
    (2..40_i32).prop_map(|pid| Pid::new(pid).unwrap())
}

/// Few values, so that lists grow; both ends of the range and of the bitmap's words.
fn an_adj() -> impl Strategy<Value = OomScoreAdj> {
    prop_oneof![
        proptest::sample::select(vec![-1000, -937, -936, -1, 0, 200, 201, 999, 1000]),
        -1000..=1000_i32,
    ]
    .prop_map(|adj| OomScoreAdj::new(adj).unwrap())
}

fn a_client() -> impl Strategy<Value = ClientId> {
    (0..2_u8, 0..3_u32).prop_map(|(slot, generation)| ClientId { slot, generation })
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (a_pid(), an_adj(), proptest::option::of(a_client()))
            .prop_map(|(pid, adj, claim)| Step::Insert { pid, adj, claim }),
        4 => (a_pid(), an_adj()).prop_map(|(pid, adj)| Step::SetAdj { pid, adj }),
        2 => a_pid().prop_map(|pid| Step::Remove { pid }),
        1 => a_client().prop_map(|client| Step::Release { client }),
        1 => a_client().prop_map(|client| Step::Purge { client }),
    ]
}

/// One line a process, the most recently registered last.
#[derive(Default)]
struct Model(Vec<(Pid, OomScoreAdj, Option<ClientId>)>);

impl Model {
    fn take(&mut self, pid: Pid) -> Option<(Pid, OomScoreAdj, Option<ClientId>)> {
        let place = self.0.iter().position(|line| line.0 == pid)?;
        Some(self.0.remove(place))
    }

    fn order(&self, min: OomScoreAdj) -> Vec<Pid> {
        let mut lines: Vec<_> = self.0.iter().filter(|line| line.1 >= min).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.1));
        lines.iter().map(|line| line.0).collect()
    }
}

fn check(registry: &Registry, model: &Model, gone: &[RecordId], min: OomScoreAdj) {
    assert_eq!(registry.len(), model.0.len());
    let order: Vec<Pid> =
        registry.oldest_first(min).map(|id| registry.get(id).unwrap().pid()).collect();
    assert_eq!(order, model.order(min));
    for &(pid, adj, claim) in &model.0 {
        let record = registry.get(registry.by_pid(pid).unwrap()).unwrap();
        assert_eq!((record.pid(), record.adj(), record.claim), (pid, adj, claim));
        let there = model.0.iter().filter(|line| line.1 == adj).count();
        assert_eq!(registry.len_at(adj), there);
    }
    assert!(gone.iter().all(|&id| registry.get(id).is_none()));
}

proptest! {
    #[test]
    fn after_any_steps_it_equals_a_plain_list(
        steps in vec(a_step(), 0..200),
        min in an_adj(),
        capacity in 0..4_usize,
        start in any::<u32>(),
    ) {
        let mut registry = Registry::with_capacity(capacity);
        let mut model = Model::default();
        let mut gone = Vec::new();
        for (tick, step) in (u64::from(start)..).zip(steps) {
            let now = MonoTime::from_millis(tick);
            match step {
                Step::Insert { pid, adj, claim } => {
                    gone.extend(registry.by_pid(pid));
                    model.take(pid);
                    model.0.push((pid, adj, claim));
                    let mut record = Record::new(pid, 10_000, adj, now);
                    record.claim = claim;
                    let id = registry.insert(record);
                    assert_eq!(registry.by_pid(pid), Some(id));
                    assert_eq!(RecordId::from_bits(id.to_bits()), id);
                }
                Step::SetAdj { pid, adj } => {
                    if let Some(id) = registry.by_pid(pid) {
                        registry.set_adj(id, adj, now);
                        assert_eq!(registry.get(id).unwrap().since(), now);
                    }
                    if let Some((pid, _, claim)) = model.take(pid) {
                        model.0.push((pid, adj, claim));
                    }
                }
                Step::Remove { pid } => {
                    let id = registry.by_pid(pid);
                    let removed = id.and_then(|id| registry.remove(id));
                    assert_eq!(removed.map(|record| record.pid()), model.take(pid).map(|l| l.0));
                    gone.extend(id);
                }
                Step::Release { client } => {
                    registry.release_claims(client);
                    for line in &mut model.0 {
                        line.2 = line.2.filter(|&claim| claim != client);
                    }
                }
                Step::Purge { client } => {
                    let purged = |claim: Option<ClientId>| claim.is_none_or(|c| c == client);
                    let before = model.0.len();
                    model.0.retain(|line| !purged(line.2));
                    let count = registry.retain(|record| !purged(record.claim));
                    assert_eq!(count, before - model.0.len());
                }
            }
            check(&registry, &model, &gone, min);
        }
    }
}
