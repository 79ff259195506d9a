//! The minfree levels: whether they are known, and whether they can be meant.

use super::daemon::Subject;
use super::finding::Finding;
use lmkd::config::Tunables;
use lmkd::units::PageSize;
use lmkd::units::Pages;

const CHECK: &str = "minfree";

/// Far more than the highest level of devices seen, which is 315 MiB.
const MOST_MIB: i64 = 1024;
/// With as little left the kernel's OOM killer is as near.
const LEAST_MIB: i64 = 4;

/// Levels as pairs of pages and oom_score_adj.
type Pairs = Vec<(i64, i64)>;

/// The levels, and where they were found.
#[derive(Debug, PartialEq, Eq)]
pub enum Levels {
    /// On the command line, to be examined whatever the settings are.
    Asked(Pairs),
    /// The daemon has these; empty if no client has sent any.
    Daemon(Pairs),
    /// A property has them, for whoever does not ask the daemon.
    Published(Pairs),
    /// Nobody tells.
    NotKnown,
}

/// Reads levels in the form of the property `sys.lmk.minfree_levels`.
pub fn parse(text: &str) -> Result<Pairs, String> {
    let level = |pair: &str| {
        let (pages, adj) = pair.split_once(':')?;
        Some((pages.parse().ok()?, adj.parse().ok()?))
    };
    let levels = text.split(',').map(level);
    levels.collect::<Option<_>>().ok_or_else(|| "levels are PAGES:ADJ, separated by commas".into())
}

impl Levels {
    /// Those asked about, else the running daemon's, else those of the property.
    pub fn find(asked: Option<Pairs>, subject: &Subject, published: Option<String>) -> Self {
        if let Some(levels) = asked {
            return Self::Asked(levels);
        }
        let outlook = subject.told().and_then(|(_, status)| status.outlook.as_ref());
        if let Some(outlook) = outlook {
            let levels = outlook.minfree.levels();
            return Self::Daemon(
                levels.map(|(pages, adj)| (pages.get(), adj.get().into())).collect(),
            );
        }
        let published = published.and_then(|text| parse(&text).ok());
        published.map_or(Self::NotKnown, Self::Published)
    }

    /// Whether they are known, and can be meant.
    pub fn examine(&self, t: &Tunables, memory: Option<Pages>, page: PageSize) -> Finding {
        let decide = t.levels_decide();
        const OFF: &str = "use_minfree_levels is off, and they have no effect";
        const LOW_RAM: &str = "they have no effect: on a low-RAM device the rules decide";
        const CHOSEN: &str = "they have no effect: by use_new_strategy the rules decide";
        let idle = match (t.use_minfree_levels, t.use_new_strategy) {
            (false, _) => OFF,
            (true, None) => LOW_RAM,
            (true, Some(_)) => CHOSEN,
        };
        match self {
            Self::Asked(levels) => sizes(levels, memory, page),
            Self::Daemon(levels) if levels.is_empty() && decide => Finding::broken(
                CHECK,
                "use_minfree_levels is on, and no client has sent levels",
                "nobody is killed for pressure, however high it is",
                "have a client send them (LMK_TARGET), or unset use_minfree_levels",
            ),
            Self::Daemon(levels) if levels.is_empty() => {
                Finding::ok(CHECK, format_args!("no client has sent levels; {idle}"))
            }
            Self::Daemon(levels) | Self::Published(levels) if decide => sizes(levels, memory, page),
            Self::Daemon(levels) | Self::Published(levels) => {
                Finding::ok(CHECK, format_args!("{} levels; {idle}", levels.len()))
            }
            Self::NotKnown if decide => Finding::untold(
                CHECK,
                "not known: no daemon runs here that tells the levels that clients sent",
                "ask where one runs, or name them with --minfree",
            ),
            Self::NotKnown => Finding::ok(
                CHECK,
                format_args!("not known: no daemon runs here that tells them; {idle}"),
            ),
        }
    }
}

/// LMK_TARGET has pages. Whoever fills in kilobytes asks for as many times the memory as a page
/// has of them; so does who counts in pages of another size.
fn sizes(levels: &[(i64, i64)], memory: Option<Pages>, page: PageSize) -> Finding {
    let Some(highest) = levels.iter().map(|(pages, _)| *pages).max() else {
        return Finding::ok(CHECK, "no levels");
    };
    let mib = |pages: i64| Pages(pages).to_kib(page).get() / 1024;
    let memory = memory.unwrap_or_default();
    let size = mib(highest);
    let of_memory = match memory {
        Pages::ZERO => String::new(),
        memory => format!(" of {} MiB", mib(memory.get())),
    };
    let found = format!("the highest level is {highest} pages = {size} MiB{of_memory}");
    let as_kb = size / page.kib();
    let as_pages = size.saturating_mul(4) / page.kib();
    let other = match page {
        PageSize::SMALL => String::new(),
        _ => format!(", as pages of 4 KiB {as_pages} MiB"),
    };
    let units = format!(
        "levels are pages of {} KiB; taken as kB it would be {as_kb} MiB{other}",
        page.kib()
    );
    if memory > Pages::ZERO && highest > memory.get() / 2 {
        let effect = "apps are killed with more than half of memory free";
        return Finding::broken(CHECK, found, effect, units);
    }
    if (memory > Pages::ZERO && highest > memory.get() / 4) || size > MOST_MIB {
        let effect = "apps are killed with much memory free, if it is kB that were meant";
        return Finding::degraded(CHECK, found, effect, units);
    }
    if size < LEAST_MIB {
        let effect = "nobody is killed before hardly any memory is left, for the kernel's OOM \
                      killer to act first";
        return Finding::degraded(CHECK, found, effect, "levels are pages, not MiB: send more");
    }
    let rising = levels.windows(2).all(|pair| match pair {
        [(lower, high_adj), (higher, low_adj)] => lower <= higher && high_adj <= low_adj,
        _ => true,
    });
    if !rising {
        return Finding::degraded(
            CHECK,
            "levels do not rise in pages and adj",
            "the first level that memory is below decides, whatever comes after it",
            "order them: few pages and low adj first",
        );
    }
    Finding::ok(CHECK, format_args!("{} levels up to {size} MiB", levels.len()))
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    /// 2 GiB, 8 GiB in pages of 4 KiB.
    const TWO: Pages = Pages(1 << 19);
    const EIGHT: Pages = Pages(1 << 21);

    fn of(text: &str, memory: Pages) -> State {
        sizes(&parse(text).unwrap(), Some(memory), PageSize::SMALL).state()
    }

    #[test]
    fn levels_in_kilobytes_are_told_from_pages() {
        // AOSP's levels of such a device in pages, and the same in kB.
        let pages = "18432:0,23040:100,27648:200,32256:250,55296:900,80640:950";
        let kb = "73728:0,92160:100,221184:900,322560:950";
        assert_eq!([of(pages, TWO), of(pages, EIGHT)], [State::Ok; 2]);
        assert_eq!([of(kb, TWO), of(kb, EIGHT)], [State::Broken, State::Degraded]);
        assert_eq!(of("18432:0,150000:950", TWO), State::Degraded);
        assert_eq!(of("18:0,80:950", TWO), State::Degraded);
        assert_eq!(of("80640:950,18432:0", TWO), State::Degraded);
        assert!(parse("18432").is_err() && parse("").is_err());
        // Where memory is not known the size alone counts.
        let unknown = sizes(&parse(kb).unwrap(), None, PageSize::SMALL);
        assert_eq!(unknown.state(), State::Degraded);
    }

    #[test]
    fn levels_counted_in_pages_of_another_size_are_found() {
        // 8 GiB in pages of 16 KiB.
        let (memory, page) = (Pages(1 << 19), PageSize::from_bytes(16 << 10));
        let of = |text| sizes(&parse(text).unwrap(), Some(memory), page).state();
        assert_eq!([of("4608:0,20160:950"), of("18432:0,80640:950")], [State::Ok, State::Degraded]);
    }

    #[test]
    fn levels_that_nobody_has_sent_or_tells_are_not_taken_for_well() {
        let with = |levels: Levels, on, low_ram| {
            let t = Tunables { use_minfree_levels: on, low_ram, ..Tunables::default() };
            levels.examine(&t, Some(TWO), PageSize::SMALL).state()
        };
        assert_eq!(with(Levels::Daemon(vec![]), true, false), State::Broken);
        assert_eq!(with(Levels::Daemon(vec![]), false, false), State::Ok);
        assert_eq!(with(Levels::Daemon(vec![]), true, true), State::Ok);
        assert_eq!(with(Levels::NotKnown, true, false), State::Unknown);
        assert_eq!(with(Levels::NotKnown, false, false), State::Ok);
        let wrong = || vec![(999_999_999, 0)];
        assert_eq!(with(Levels::Daemon(wrong()), true, false), State::Broken);
        assert_eq!(with(Levels::Published(wrong()), true, false), State::Broken);
        // Where they decide nothing they break nothing, unless they are asked about.
        assert_eq!(with(Levels::Daemon(wrong()), false, false), State::Ok);
        assert_eq!(with(Levels::Asked(wrong()), false, false), State::Broken);
    }
}
