//! Any registry is searched to its end: from the highest adj down to the lowest allowed, each record
//! once, whatever becomes of those before.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use lmkd::clock::MonoTime;
use lmkd::kernel::process::ProcDir;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::processes::Pid;
use lmkd::processes::Record;
use lmkd::processes::Registry;
use lmkd::processes::Searcher;
use lmkd::processes::Who;
use lmkd::units::Kib;
use lmkd::units::PageSize;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prelude::ProptestConfig;
use proptest::prop_assert;
use proptest::prop_assert_eq;
use proptest::proptest;
use std::path::Path;

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_registry_is_searched_to_its_end_each_record_once(
        adjs in vec(-1000..=1000, 0..40),
        min_adj in -1000..=1000,
        by_size in any::<bool>(),
        swap_used in 0_i64..10_000,
        removed in vec(any::<bool>(), 40),
    ) {
        let proc = ProcDir::open(Path::new("/proc")).unwrap();
        let mut registry = Registry::with_capacity(64);
        for (n, at) in (4_000_001..).zip(&adjs) {
            let at = OomScoreAdj::new(*at).unwrap();
            registry.insert(Record::new(Pid::new(n).unwrap(), 0, at, MonoTime::from_millis(5)));
        }
        let mut searcher = Searcher::with(None, PageSize::of_this_kernel(), 100);
        searcher.start(OomScoreAdj::new(min_adj).unwrap(), by_size, Kib(swap_used));
        let mut found = Vec::new();
        while let Some(candidate) = searcher.next(&mut registry, &proc) {
            prop_assert!(found.len() < adjs.len(), "without end");
            found.push((candidate.pid.get(), candidate.adj.get()));
            // Dead ones are removed by the caller, those it could not signal stay.
            if let (Who::Registered(id), true) = (candidate.who, removed[found.len() - 1]) {
                registry.remove(id);
            }
        }
        prop_assert!(found.is_sorted_by(|a, b| a.1 >= b.1), "highest first: {found:?}");
        found.sort_unstable();
        let floor = min_adj.max(0);
        let all: Vec<_> = (4_000_001..).zip(adjs).filter(|(_, at)| *at >= floor).collect();
        prop_assert_eq!(found, all);
    }
}
