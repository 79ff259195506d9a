//! From properties to [`Tunables`].

use super::parse;
use super::table::Kind;
use super::table::Outside;
use super::table::Tunable;
use super::table::TABLE;
use super::PropertySource;
use super::Tunables;
use std::fmt;

/// Something about a value that the operator should know. One log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The value is outside the range; the nearer end is used.
    Clamped {
        /// Whose.
        name: &'static str,
        /// What was set.
        value: i64,
        /// What is used.
        used: i64,
    },
    /// The value cannot be used; the default is, at a start. Read again, nothing of the settings is.
    Refused {
        /// Whose.
        name: &'static str,
        /// What was set.
        value: i64,
        /// What is used.
        used: i64,
    },
    /// These are set and have no effect.
    NoEffect(Vec<&'static str>),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clamped { name, value, used } => {
                write!(f, "{name} = {value} is out of range; {used} is used")
            }
            Self::Refused { name, value, used } => {
                write!(f, "{name} = {value} makes no sense; the default {used} is used")
            }
            Self::NoEffect(names) => {
                write!(f, "set, but without effect in this daemon: {}", names.join(", "))
            }
        }
    }
}

/// Reads all tunables, and says what had to be changed. A property that does not parse counts as
/// not set.
#[must_use]
pub fn load(source: &dyn PropertySource) -> (Tunables, Vec<Notice>) {
    let mut notices = Vec::new();
    let mut no_effect = Vec::new();
    let low_ram = Tunable::named("low_ram").and_then(|tunable| boolean(source, tunable));
    let mut tunables = match low_ram {
        Some(true) => Tunables::low_ram_defaults(),
        _ => Tunables::default(),
    };
    for tunable in TABLE {
        match tunable.kind {
            Kind::Bool(field) => {
                if let Some(value) = boolean(source, tunable) {
                    *field(&mut tunables) = value;
                }
            }
            Kind::Choice(field) => {
                let value = boolean(source, tunable);
                *field(&mut tunables) = value;
                if value == Some(false) && !tunables.use_minfree_levels {
                    no_effect.push(tunable.name);
                }
            }
            Kind::Int { field, bits, min, max, outside } => {
                if tunable.name == "thrashing_limit_critical" {
                    // AOSP multiplies as int.
                    let triple = tunables.thrashing_limit.saturating_mul(3);
                    tunables.thrashing_limit_critical = triple.min(i64::from(i32::MAX));
                }
                let Some(value) = integer(source, tunable, bits) else { continue };
                let (name, field) = (tunable.name, field(&mut tunables));
                if (min..=max).contains(&value) {
                    *field = value;
                } else if outside == Outside::Refused {
                    notices.push(Notice::Refused { name, value, used: *field });
                } else {
                    *field = value.clamp(min, max);
                    notices.push(Notice::Clamped { name, value, used: *field });
                }
            }
            Kind::NoEffect => {
                if tunable.properties().any(|name| source.get(&name).is_some()) {
                    no_effect.push(tunable.name);
                }
            }
        }
    }
    // The kernel refuses a trigger whose threshold exceeds its window.
    let window = tunables.psi_window_size_ms;
    for (name, stall) in [
        ("psi_partial_stall_ms", &mut tunables.psi_partial_stall_ms),
        ("psi_complete_stall_ms", &mut tunables.psi_complete_stall_ms),
    ] {
        if *stall > window {
            notices.push(Notice::Clamped { name, value: *stall, used: window });
            *stall = window;
        }
    }
    if !no_effect.is_empty() {
        notices.push(Notice::NoEffect(no_effect));
    }
    (tunables, notices)
}

/// The property that says whether the boot is over.
pub const BOOT_COMPLETED: &str = "sys.boot_completed";

/// Whether the boot is over; None if nothing says so.
#[must_use]
pub fn boot_completed(source: &dyn PropertySource) -> Option<bool> {
    parse::boolean(&source.get(BOOT_COMPLETED)?)
}

fn boolean(source: &dyn PropertySource, tunable: &Tunable) -> Option<bool> {
    tunable.properties().find_map(|name| parse::boolean(&source.get(&name)?))
}

fn integer(source: &dyn PropertySource, tunable: &Tunable, bits: u8) -> Option<i64> {
    tunable.properties().find_map(|name| Some(parse::integer(&source.get(&name)?, bits)?.0))
}

#[cfg(test)]
mod tests {
    use super::super::PropertyMap;
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> (Tunables, Vec<Notice>) {
        load(&pairs.iter().copied().collect::<PropertyMap>())
    }

    #[test]
    fn nothing_set_gives_the_defaults() {
        assert_eq!(of(&[]), (Tunables::default(), Vec::new()));
    }

    #[test]
    fn low_ram_changes_the_defaults() {
        let (tunables, notices) = of(&[("ro.config.low_ram", "true")]);
        assert_eq!(tunables, Tunables::low_ram_defaults());
        assert!(notices.is_empty());
    }

    #[test]
    fn what_a_server_sets_comes_before_what_the_maker_sets() {
        let maker = ("ro.lmk.swap_util_max", "60");
        let server = ("persist.device_config.lmkd_native.swap_util_max", "0x32");
        assert_eq!(of(&[maker]).0.swap_util_max, 60);
        assert_eq!(of(&[maker, server]).0.swap_util_max, 50);
    }

    #[test]
    fn a_value_that_does_not_parse_counts_as_not_set() {
        let server = ("persist.device_config.lmkd_native.debug", "maybe");
        assert!(of(&[server, ("ro.lmk.debug", "1")]).0.debug);
        assert_eq!(of(&[("ro.lmk.thrashing_limit", "99999999999")]).0.thrashing_limit, 100);
    }

    #[test]
    fn statistics_are_the_makers_business_alone() {
        assert!(of(&[("persist.device_config.lmkd_native.log_stats", "0")]).0.log_stats);
        assert!(!of(&[("ro.lmk.log_stats", "0")]).0.log_stats);
    }

    #[test]
    fn critical_thrashing_is_three_times_the_limit_unless_set() {
        assert_eq!(of(&[("ro.lmk.thrashing_limit", "40")]).0.thrashing_limit_critical, 120);
        let both = [("ro.lmk.thrashing_limit", "40"), ("ro.lmk.thrashing_limit_critical", "50")];
        assert_eq!(of(&both).0.thrashing_limit_critical, 50);
    }

    #[test]
    fn a_value_out_of_range_is_clamped_and_said_once() {
        let (tunables, notices) = of(&[
            ("ro.lmk.swap_free_low_percentage", "500"),
            ("ro.lmk.lowmem_min_oom_score", "0"),
            ("ro.lmk.psi_window_size_ms", "100"),
            ("ro.lmk.psi_complete_stall_ms", "9000"),
        ]);
        assert_eq!(tunables.swap_free_low_percentage, 100);
        assert_eq!(tunables.lowmem_min_oom_score, 201);
        assert_eq!(tunables.psi_window_size_ms, 500);
        assert_eq!(tunables.psi_complete_stall_ms, 500);
        assert_eq!(notices.len(), 4, "{notices:?}");
    }

    #[test]
    fn every_number_is_moved_into_its_range_or_refused_at_both_ends() {
        for tunable in TABLE {
            let Kind::Int { field, bits, min, max, outside } = tunable.kind else { continue };
            let Some(property) = tunable.properties().last() else { continue };
            // A stall cannot be longer than its window.
            let others = [
                ("ro.lmk.psi_window_size_ms", "10000"),
                ("ro.lmk.psi_partial_stall_ms", "0"),
                ("ro.lmk.psi_complete_stall_ms", "0"),
            ];
            let with = |value: i64| {
                let value = value.to_string();
                let pairs = others.into_iter().chain([(property.as_str(), value.as_str())]);
                let (mut tunables, notices) = load(&pairs.collect::<PropertyMap>());
                (*field(&mut tunables), notices.len())
            };
            assert_eq!(with(min), (min, 0), "{property}");
            assert_eq!(with(max), (max, 0), "{property}");
            let default = *field(&mut Tunables::default());
            for (beyond, end) in [(min.checked_sub(1), min), (max.checked_add(1), max)] {
                // What AOSP's own type cannot hold is no number at all.
                let fits = |value: &i64| bits == 64 || i32::try_from(*value).is_ok();
                let Some(beyond) = beyond.filter(fits) else { continue };
                let used = if outside == Outside::Refused { default } else { end };
                assert_eq!(with(beyond), (used, 1), "{property}={beyond}");
            }
        }
    }

    #[test]
    fn a_zero_divisor_becomes_one_and_a_negative_timeout_is_refused() {
        let (tunables, notices) =
            of(&[("ro.lmk.swap_compression_ratio_div", "0"), ("ro.lmk.kill_timeout_ms", "-1")]);
        assert_eq!(tunables.swap_compression_ratio_div, 1);
        assert_eq!(tunables.kill_timeout_ms, 100);
        assert_eq!(notices.len(), 2);
        assert!(notices.contains(&Notice::Refused {
            name: "kill_timeout_ms",
            value: -1,
            used: 100
        }));
    }

    #[test]
    fn settings_without_effect_are_said_in_one_line() {
        let (_, notices) = of(&[("ro.lmk.low", "1001"), ("ro.lmk.use_new_strategy", "0")]);
        assert_eq!(notices, [Notice::NoEffect(vec!["use_new_strategy", "low"])]);
    }

    #[test]
    fn levels_decide_unless_the_new_strategy_is_asked_for_or_the_device_has_little_memory() {
        let levels = ("ro.lmk.use_minfree_levels", "1");
        let low_ram = ("ro.config.low_ram", "1");
        let new = |value| ("ro.lmk.use_new_strategy", value);
        for (pairs, decide) in [
            (vec![levels], true),
            (vec![levels, new("false")], true),
            (vec![levels, new("true")], false),
            (vec![levels, low_ram], false),
            (vec![levels, low_ram, new("false")], true),
            (vec![levels, low_ram, new("true")], false),
            (vec![new("false")], false),
            (vec![], false),
        ] {
            assert_eq!(of(&pairs).0.levels_decide(), decide, "{pairs:?}");
        }
        assert_eq!(of(&[levels, new("false")]).1, []);
        assert_eq!(of(&[new("true")]).1, []);
    }
}
