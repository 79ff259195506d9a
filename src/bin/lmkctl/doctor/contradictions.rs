//! Settings that make no sense beside each other, or on this machine.

use super::daemon::Subject;
use super::finding::Finding;
use super::finding::State;
use lmkd::config::Tunables;
use lmkd::kernel::Sample;
use lmkd::oom_score_adj::OomScoreAdj;
use lmkd::recorder::Reclaims;
use lmkd::units::PageSize;
use lmkd::units::Pages;

/// What settings are held against. What is not known is None.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// All of memory.
    pub memory: Option<Pages>,
    /// Swap, used or not.
    pub swap: Option<Pages>,
    /// Whether something tells of direct reclaim.
    pub reclaim_events: Option<bool>,
    /// The highest oom_score_adj of the running daemon's candidates.
    pub highest: Option<OomScoreAdj>,
}

impl Machine {
    /// As the daemon says and the other findings do.
    pub fn of(subject: &Subject, kernel: &[Finding], sample: Option<&Sample>) -> Self {
        let probed = kernel.iter().find(|finding| finding.check() == "reclaim_events");
        let probed = probed.and_then(|finding| match finding.state() {
            State::Ok => Some(true),
            State::Degraded | State::Broken => Some(false),
            State::Unknown => None,
        });
        let status = subject.told().map(|(_, status)| status);
        let told = status.map(|status| status.sources.reclaim != Reclaims::Counters);
        Self {
            memory: sample.map(|sample| sample.meminfo.total),
            swap: sample.map(|sample| sample.meminfo.swap_total),
            reclaim_events: told.or(probed),
            highest: status
                .and_then(|status| status.next.iter().map(|next| next.process.adj).max()),
        }
    }
}

/// Looks for all of them.
pub fn find(t: &Tunables, machine: &Machine, page: PageSize) -> Vec<Finding> {
    let mut findings = Vec::new();
    pressure(t, &mut findings);
    thrashing(t, &mut findings);
    swap(t, machine, &mut findings);
    floors(t, machine, &mut findings);
    let mut degraded = |check, found: String, effect: &str, remedy: &str| {
        findings.push(Finding::degraded(check, found, effect, remedy));
    };
    if t.kill_timeout_ms == 0 {
        degraded(
            "kill_timeout",
            "kill_timeout_ms is 0".to_owned(),
            "a victim that cannot die keeps the next from being chosen, without end",
            "unset it",
        );
    }
    let memory_kb = machine.memory.unwrap_or_default().to_kib(page).get();
    if t.filecache_min_kb > memory_kb / 4 && memory_kb > 0 {
        degraded(
            "filecache",
            format!(
                "filecache_min_kb {} is over a quarter of memory ({memory_kb} kB)",
                t.filecache_min_kb
            ),
            "after thrashing it goes on killing until hardly anything else is left",
            "set it in kB, to some percent of memory",
        );
    }
    let threshold = t.direct_reclaim_threshold_ms;
    if threshold > 0 && machine.reclaim_events == Some(false) {
        degraded(
            "direct_reclaim",
            format!("direct_reclaim_threshold_ms {threshold}, and nothing tells of direct reclaim"),
            "DIRECT_RECL_STUCK never fires: no time is measured",
            "do what helps reclaim_events, or set it to 0",
        );
    }
    findings
}

fn pressure(t: &Tunables, findings: &mut Vec<Finding>) {
    let (partial, complete) = (t.psi_partial_stall_ms, t.psi_complete_stall_ms);
    let mut degraded = |check, found: &str, effect: &str, remedy: &str| {
        findings.push(Finding::degraded(check, found, effect, remedy));
    };
    if complete > 0 && partial > complete {
        degraded(
            "stalls",
            &format!("psi_partial_stall_ms {partial} > psi_complete_stall_ms {complete}"),
            "the critical event comes before the medium one, and kills down to adj 0",
            "set psi_complete_stall_ms above psi_partial_stall_ms",
        );
    }
    if t.use_psi && partial == 0 && complete > 0 {
        degraded(
            "stalls",
            "psi_partial_stall_ms is 0",
            "nothing is heard before all tasks stand still",
            "unset it",
        );
    }
    if t.stall_limit_critical == 0 {
        degraded(
            "stall_limit",
            "stall_limit_critical is 0",
            "any stall of all tasks lifts every protection: the foreground app may go",
            "set it to 100 or more to turn it off",
        );
    }
    if t.use_minfree_levels && !t.use_psi {
        degraded(
            "strategy",
            "use_minfree_levels without use_psi",
            "the levels are looked at once a second only",
            "leave use_psi on",
        );
    }
    if t.use_minfree_levels && !t.levels_decide() {
        let (found, effect) = match t.use_new_strategy {
            None => (
                "use_minfree_levels with ro.config.low_ram",
                "the levels have no effect: on a low-RAM device the rules decide",
            ),
            Some(_) => (
                "use_minfree_levels with use_new_strategy",
                "the levels have no effect: the rules decide",
            ),
        };
        degraded("strategy", found, effect, "unset one of them");
    }
    if t.use_psi && partial == 0 && complete == 0 {
        findings.push(Finding::broken(
            "stalls",
            "psi_partial_stall_ms and psi_complete_stall_ms are both 0",
            "no pressure is heard of: nothing is killed for it",
            "set at least one",
        ));
    }
}

fn thrashing(t: &Tunables, findings: &mut Vec<Finding>) {
    let (limit, critical) = (t.thrashing_limit, t.thrashing_limit_critical);
    let mut degraded = |found: &str, effect: &str, remedy: &str| {
        findings.push(Finding::degraded("thrashing", found, effect, remedy));
    };
    if critical < limit {
        degraded(
            &format!("thrashing_limit_critical {critical} < thrashing_limit {limit}"),
            "every kill for thrashing may take what the user perceives",
            "set thrashing_limit_critical above thrashing_limit",
        );
    }
    if limit == 0 {
        degraded(
            "thrashing_limit is 0",
            "any refault at all is thrashing",
            "set it to the share of the file cache that may come back in a window, percent",
        );
    }
    if t.thrashing_limit_decay == 100 {
        degraded(
            "thrashing_limit_decay is 100",
            "after a kill for thrashing any refault at all is thrashing, until the window ends",
            "set it lower",
        );
    }
}

fn swap(t: &Tunables, machine: &Machine, findings: &mut Vec<Finding>) {
    let mut degraded = |check, found: &str, effect: &str, remedy: &str| {
        findings.push(Finding::degraded(check, found, effect, remedy));
    };
    if t.swap_free_low_percentage == 100 {
        degraded(
            "swap_low",
            "swap_free_low_percentage is 100",
            "swap counts as low as soon as any of it is used",
            "set it lower",
        );
    }
    if t.swap_util_max < 100 && machine.swap == Some(Pages::ZERO) {
        degraded(
            "swap_util",
            &format!("swap_util_max {}, and there is no swap", t.swap_util_max),
            "LOW_MEM_AND_SWAP_UTIL never fires: no memory is in swap",
            "set up zram, or unset it",
        );
    }
}

/// Floors that nobody is as high as.
fn floors(t: &Tunables, machine: &Machine, findings: &mut Vec<Finding>) {
    const CHECK: &str = "after_kill";
    let floor = t.pressure_after_kill_min_score;
    if floor > i64::from(OomScoreAdj::MAX.get()) {
        // The first rule that holds decides, whether or not it finds anybody.
        findings.push(Finding::degraded(
            CHECK,
            format_args!("pressure_after_kill_min_score {floor} is above every oom_score_adj"),
            "the first look after a kill that did not help kills nobody, whatever else holds",
            "set it to the lowest oom_score_adj that may go then, 0 to 1000",
        ));
        return;
    }
    if let Some(highest) = machine.highest.filter(|highest| i64::from(highest.get()) < floor) {
        findings.push(Finding::degraded(
            CHECK,
            format_args!(
                "pressure_after_kill_min_score {floor}, and the highest candidate is {highest} now"
            ),
            "the first look after a kill that did not help kills nobody, whatever else holds",
            "set it to the oom_score_adj of those that may go then",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lmkd::config::Tunable;

    const MACHINE: Machine = Machine {
        memory: Some(Pages(1 << 18)),
        swap: Some(Pages(1 << 16)),
        reclaim_events: Some(true),
        highest: None,
    };

    fn on(machine: &Machine, change: impl FnOnce(&mut Tunables)) -> Vec<(&'static str, State)> {
        let mut tunables = Tunables::default();
        change(&mut tunables);
        let findings = find(&tunables, machine, PageSize::SMALL);
        findings.iter().map(|finding| (finding.check(), finding.state())).collect()
    }

    fn of(change: impl FnOnce(&mut Tunables)) -> Vec<(&'static str, State)> {
        on(&MACHINE, change)
    }

    #[test]
    fn the_defaults_do_not_contradict_themselves() {
        assert_eq!(of(|_| {}), []);
        assert_eq!(of(|t| *t = Tunables::low_ram_defaults()), []);
        assert_eq!(on(&Machine::default(), |_| {}), []);
    }

    #[test]
    fn what_cannot_be_meant_is_found() {
        let degraded = |check| [(check, State::Degraded)];
        assert_eq!(of(|t| t.psi_partial_stall_ms = 800), degraded("stalls"));
        assert_eq!(of(|t| t.psi_partial_stall_ms = 0), degraded("stalls"));
        assert_eq!(of(|t| t.thrashing_limit_critical = 50), degraded("thrashing"));
        assert_eq!(of(|t| t.thrashing_limit = 0), degraded("thrashing"));
        assert_eq!(of(|t| t.thrashing_limit_decay = 100), degraded("thrashing"));
        assert_eq!(of(|t| t.kill_timeout_ms = 0), degraded("kill_timeout"));
        assert_eq!(of(|t| t.stall_limit_critical = 0), degraded("stall_limit"));
        assert_eq!(of(|t| t.swap_free_low_percentage = 100), degraded("swap_low"));
        assert_eq!(of(|t| t.filecache_min_kb = 400_000), degraded("filecache"));
        let deaf = of(|t| (t.psi_partial_stall_ms, t.psi_complete_stall_ms) = (0, 0));
        assert_eq!(deaf, [("stalls", State::Broken)]);
    }

    #[test]
    fn levels_beside_what_makes_little_of_them_are_found() {
        let strategy = [("strategy", State::Degraded)];
        assert_eq!(of(|t| (t.use_minfree_levels, t.low_ram) = (true, true)), strategy);
        assert_eq!(of(|t| (t.use_minfree_levels, t.use_psi) = (true, false)), strategy);
        let new = |t: &mut Tunables, new| {
            (t.use_minfree_levels, t.use_new_strategy) = (true, Some(new));
        };
        assert_eq!(of(|t| new(t, true)), strategy);
        assert_eq!(of(|t| new(t, false)), []);
        assert_eq!(of(|t| t.use_minfree_levels = true), []);
    }

    #[test]
    fn a_threshold_of_direct_reclaim_needs_somebody_who_tells_of_it() {
        let with = |reclaim_events| {
            on(&Machine { reclaim_events, ..MACHINE }, |t| t.direct_reclaim_threshold_ms = 50)
        };
        assert_eq!(with(Some(false)), [("direct_reclaim", State::Degraded)]);
        assert_eq!([with(Some(true)), with(None)], [[], []]);
        assert_eq!(on(&Machine { reclaim_events: Some(false), ..MACHINE }, |_| {}), []);
    }

    #[test]
    fn a_limit_of_what_is_in_swap_needs_swap() {
        let with = |swap| on(&Machine { swap, ..MACHINE }, |t| t.swap_util_max = 60);
        assert_eq!(with(Some(Pages::ZERO)), [("swap_util", State::Degraded)]);
        assert_eq!([with(Some(Pages(1))), with(None)], [[], []]);
    }

    #[test]
    fn a_floor_that_nobody_is_as_high_as_is_found() {
        let with = |floor, highest| {
            let highest = OomScoreAdj::new(highest);
            on(&Machine { highest, ..MACHINE }, |t| t.pressure_after_kill_min_score = floor)
        };
        let found = [("after_kill", State::Degraded)];
        assert_eq!([with(1001, 1000), with(1001, -5000)], [found, found]);
        assert_eq!(with(950, 900), found);
        assert_eq!([with(900, 900), with(1000, -5000)], [[], []]);
    }

    /// Names are those of the table, and so is what a remedy asks for.
    #[test]
    fn each_tunable_that_is_named_exists() {
        let machine = Machine {
            swap: Some(Pages::ZERO),
            reclaim_events: Some(false),
            highest: OomScoreAdj::new(0),
            ..MACHINE
        };
        let mut tunables = Tunables {
            psi_partial_stall_ms: 800,
            stall_limit_critical: 0,
            use_minfree_levels: true,
            use_psi: false,
            low_ram: true,
            thrashing_limit: 0,
            thrashing_limit_decay: 100,
            thrashing_limit_critical: -1,
            swap_free_low_percentage: 100,
            swap_util_max: 0,
            pressure_after_kill_min_score: 950,
            kill_timeout_ms: 0,
            filecache_min_kb: i64::MAX,
            direct_reclaim_threshold_ms: 1,
            ..Tunables::default()
        };
        let mut findings = find(&tunables, &machine, PageSize::SMALL);
        tunables.use_psi = true;
        (tunables.psi_partial_stall_ms, tunables.psi_complete_stall_ms) = (0, 0);
        tunables.pressure_after_kill_min_score = 1001;
        findings.extend(find(&tunables, &machine, PageSize::SMALL));
        tunables.psi_complete_stall_ms = 700;
        findings.extend(find(&tunables, &machine, PageSize::SMALL));
        assert!(findings.len() > 30, "{}", findings.len());
        let mut named = 0;
        for text in findings.iter().flat_map(Finding::texts) {
            let words = text.split(|c: char| !(c.is_ascii_alphabetic() || "._".contains(c)));
            let words = words.map(|word| word.trim_end_matches('.'));
            // Those of the kernel and of the doctor itself.
            let others = ["oom_score_adj", "reclaim_events"];
            let is_name = |word: &&str| word.contains('_') && *word == word.to_lowercase();
            for word in words.filter(is_name).filter(|word| !others.contains(word)) {
                assert!(Tunable::named(word).is_some(), "{word} in '{text}'");
                named += 1;
            }
        }
        assert!(named > 30, "{named}");
    }
}
