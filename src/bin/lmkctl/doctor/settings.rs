//! The settings: what is out of range, what contradicts itself, what cannot be meant.

use super::daemon::Subject;
use super::finding::Finding;
use clap::ArgMatches;
use lmkd::config;
use lmkd::config::Options;
use lmkd::config::Properties;
use lmkd::config::PropertySource;
use lmkd::config::Tunables;
use lmkd::kernel::meminfo;
use lmkd::units::PageSize;
use lmkd::units::Pages;
use std::path::Path;
use std::path::PathBuf;

/// Settings, and what was said when they were read.
pub struct Settings {
    /// As the daemon would use them.
    pub tunables: Tunables,
    options: Options,
    /// One line each.
    notices: Vec<String>,
    refused: Option<String>,
    minfree: Vec<(i64, i64)>,
}

/// Reads levels in the form of the property `sys.lmk.minfree_levels`.
pub fn minfree(text: &str) -> Result<Vec<(i64, i64)>, String> {
    let level = |pair: &str| {
        let (pages, adj) = pair.split_once(':')?;
        Some((pages.parse().ok()?, adj.parse().ok()?))
    };
    let levels = text.split(',').map(level);
    levels.collect::<Option<_>>().ok_or_else(|| "levels are PAGES:ADJ, separated by commas".into())
}

impl Settings {
    /// Those of the command line; without any, the running daemon's.
    pub fn gather(arguments: &ArgMatches, subject: &Subject) -> Self {
        let set: Vec<String> = arguments.get_many("set").into_iter().flatten().cloned().collect();
        let props = arguments.get_one::<PathBuf>("props").cloned();
        let mut options = subject.options().unwrap_or_default();
        if !set.is_empty() || props.is_some() {
            (options.set, options.props) = (set, props);
        }
        if let Some(psi) = arguments.get_one::<PathBuf>("psi") {
            options.psi = Some(psi.clone());
        }
        let (properties, refused) = match Properties::new(&options.set, options.props.as_deref()) {
            Ok(properties) => (properties, None),
            Err(error) => (Properties::default(), Some(error.to_string())),
        };
        let (tunables, notices) = config::load(&properties);
        let levels = arguments.get_one::<Vec<(i64, i64)>>("minfree").cloned();
        let published = || minfree(&properties.get("sys.lmk.minfree_levels")?).ok();
        Self {
            tunables,
            options,
            notices: notices.iter().map(ToString::to_string).collect(),
            refused,
            minfree: levels.or_else(published).unwrap_or_default(),
        }
    }

    /// The pressure file.
    pub fn pressure_file(&self) -> &Path {
        self.options.pressure_file()
    }

    /// Looks at all of it.
    pub fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(error) = &self.refused {
            findings.push(Finding::broken(
                "values",
                error,
                "the daemon does not start, or keeps its old settings",
                "correct it; lmkd --help-tunables lists names and ranges",
            ));
        }
        findings.extend(self.notices.iter().map(|notice| {
            let effect = "the daemon runs with another value than was set";
            Finding::degraded("range", notice, effect, "set what is to be used, or nothing")
        }));
        let page = PageSize::of_this_kernel();
        let total = std::fs::read("/proc/meminfo").ok();
        let total = total.and_then(|text| meminfo::parse(&text, page).ok());
        let memory = total.map_or(Pages::ZERO, |meminfo| meminfo.total);
        findings.extend(contradictions(&self.tunables, memory.to_kib(page).get()));
        findings.extend(examine_minfree(&self.minfree, memory, page));
        if findings.is_empty() {
            let count = self.options.set.len();
            let from = match (&self.options.props, count) {
                (None, 0) => "the defaults".to_owned(),
                (None, _) => format!("{count} set"),
                (Some(file), _) => format!("{} and {count} set", file.display()),
            };
            findings.push(Finding::ok("values", from));
        }
        findings
    }
}

/// Settings that make no sense beside each other or on this machine.
fn contradictions(t: &Tunables, memory_kb: i64) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut degraded = |check, found: String, effect: &str, remedy: &str| {
        findings.push(Finding::degraded(check, found, effect, remedy));
    };
    let (partial, complete) = (t.psi_partial_stall_ms, t.psi_complete_stall_ms);
    if complete > 0 && partial > complete {
        degraded(
            "stalls",
            format!("psi_partial_stall_ms {partial} > psi_complete_stall_ms {complete}"),
            "the critical event comes before the medium one, and kills down to adj 0",
            "set psi_complete_stall_ms above psi_partial_stall_ms",
        );
    }
    if t.use_psi && partial == 0 && complete > 0 {
        degraded(
            "stalls",
            "psi_partial_stall_ms is 0".to_owned(),
            "nothing is heard before all tasks stand still",
            "unset it",
        );
    }
    let (limit, critical) = (t.thrashing_limit, t.thrashing_limit_critical);
    if critical < limit {
        degraded(
            "thrashing",
            format!("thrashing_limit_critical {critical} < thrashing_limit {limit}"),
            "every kill for thrashing may take what the user perceives",
            "set thrashing_limit_critical above thrashing_limit",
        );
    }
    if limit == 0 {
        degraded(
            "thrashing",
            "thrashing_limit is 0".to_owned(),
            "any refault at all is thrashing",
            "set it to the share of the file cache that may come back in a window, percent",
        );
    }
    if t.kill_timeout_ms == 0 {
        degraded(
            "kill_timeout",
            "kill_timeout_ms is 0".to_owned(),
            "a victim that cannot die keeps the next from being chosen, without end",
            "unset it",
        );
    }
    if t.stall_limit_critical == 0 {
        degraded(
            "stall_limit",
            "stall_limit_critical is 0".to_owned(),
            "any stall of all tasks lifts every protection: the foreground app may go",
            "set it to 100 or more to turn it off",
        );
    }
    if t.swap_free_low_percentage == 100 {
        degraded(
            "swap_low",
            "swap_free_low_percentage is 100".to_owned(),
            "swap counts as low as soon as any of it is used",
            "set it lower",
        );
    }
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
    if t.use_minfree_levels && !t.use_psi {
        degraded(
            "strategy",
            "use_minfree_levels without use_psi".to_owned(),
            "the levels are looked at once a second only",
            "leave use_psi on",
        );
    }
    if t.use_psi && partial == 0 && complete == 0 {
        findings.push(Finding::broken(
            "stalls",
            "psi_partial_stall_ms and psi_complete_stall_ms are both 0",
            "no pressure is heard of: nothing is killed for it",
            "set at least one",
        ));
    }
    findings
}

/// LMK_TARGET has pages. Whoever fills in kilobytes asks for as many times the memory as a page
/// has of them.
fn examine_minfree(levels: &[(i64, i64)], memory: Pages, page: PageSize) -> Vec<Finding> {
    let Some(highest) = levels.iter().map(|(pages, _)| *pages).max() else { return Vec::new() };
    let mib = |pages: i64| Pages(pages).to_kib(page).get() / 1024;
    if memory > Pages::ZERO && highest > memory.get() / 2 {
        let as_kb = mib(highest) / page.kib();
        return vec![Finding::broken(
            "minfree",
            format_args!(
                "the highest level is {highest} pages = {} MiB of {} MiB",
                mib(highest),
                mib(memory.get())
            ),
            "apps are killed with more than half of memory free",
            format_args!("levels are pages, not kB; taken as kB it would be {as_kb} MiB"),
        )];
    }
    let rising = levels.windows(2).all(|pair| match pair {
        [(lower, high_adj), (higher, low_adj)] => lower <= higher && high_adj <= low_adj,
        _ => true,
    });
    if !rising {
        return vec![Finding::degraded(
            "minfree",
            "levels do not rise in pages and adj",
            "the first level that memory is below decides, whatever comes after it",
            "order them: few pages and low adj first",
        )];
    }
    vec![Finding::ok("minfree", format_args!("{} levels up to {} MiB", levels.len(), mib(highest)))]
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    const GIB_KB: i64 = 1 << 20;

    fn of(change: impl FnOnce(&mut Tunables)) -> Vec<State> {
        let mut tunables = Tunables::default();
        change(&mut tunables);
        contradictions(&tunables, GIB_KB).iter().map(Finding::state).collect()
    }

    #[test]
    fn the_defaults_do_not_contradict_themselves() {
        assert_eq!(of(|_| {}), []);
        assert_eq!(of(|t| *t = Tunables::low_ram_defaults()), []);
    }

    #[test]
    fn what_cannot_be_meant_is_found() {
        assert_eq!(of(|t| t.psi_partial_stall_ms = 800), [State::Degraded]);
        assert_eq!(of(|t| t.thrashing_limit_critical = 50), [State::Degraded]);
        assert_eq!(of(|t| t.kill_timeout_ms = 0), [State::Degraded]);
        assert_eq!(of(|t| t.stall_limit_critical = 0), [State::Degraded]);
        assert_eq!(of(|t| t.filecache_min_kb = 400_000), [State::Degraded]);
        let deaf = of(|t| (t.psi_partial_stall_ms, t.psi_complete_stall_ms) = (0, 0));
        assert_eq!(deaf, [State::Broken]);
    }

    #[test]
    fn minfree_levels_in_kilobytes_are_told_from_pages() {
        let page = PageSize::from_bytes(4096);
        let memory = Pages(1 << 19);
        let of = |text| {
            let findings = examine_minfree(&minfree(text).unwrap(), memory, page);
            findings.first().map(Finding::state)
        };
        // 2 GiB: AOSP's levels of such a device in pages, and the same in kB.
        assert_eq!(
            of("18432:0,23040:100,27648:200,32256:250,55296:900,80640:950"),
            Some(State::Ok)
        );
        assert_eq!(of("73728:0,92160:100,221184:900,322560:950"), Some(State::Broken));
        assert_eq!(of("80640:950,18432:0"), Some(State::Degraded));
        assert!(minfree("18432").is_err() && minfree("").is_err());
    }
}
