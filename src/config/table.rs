//! The one table of tunables: name, type, default, range, meaning.
//!
//! Names, types and defaults are those of AOSP's lmkd (release after Android 16). Parsing, the
//! help text and the table in README.md all come from here.

use super::Tunables;
use std::fmt;
use std::io;

/// Prefix of the properties that a server may change on a running device.
pub const DEVICE_CONFIG: &str = "persist.device_config.lmkd_native.";
/// Prefix of the properties that the device's maker sets.
pub const RO_LMK: &str = "ro.lmk.";

/// One tunable.
pub struct Tunable {
    /// Its name without prefix.
    pub name: &'static str,
    /// Where it is looked for.
    pub scope: Scope,
    /// Its type, and the field that holds it.
    pub kind: Kind,
    /// Whether init has the daemon read all properties again when it changes.
    pub reinit: bool,
    /// What it does, with its unit.
    pub meaning: &'static str,
}

/// Where a tunable is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Under [`DEVICE_CONFIG`], then under [`RO_LMK`].
    Lmk,
    /// Under [`RO_LMK`] alone.
    RoLmk,
    /// Under this full name alone.
    Full(&'static str),
}

/// A tunable's type.
#[derive(Clone, Copy)]
pub enum Kind {
    /// true or false.
    Bool(fn(&mut Tunables) -> &mut bool),
    /// true or false; what it is unset depends on others.
    Choice(fn(&mut Tunables) -> &mut Option<bool>),
    /// A number.
    Int {
        /// Its field.
        field: fn(&mut Tunables) -> &mut i64,
        /// Bits of the number in AOSP: a value that does not fit is none.
        bits: u8,
        /// Lowest value.
        min: i64,
        /// Highest value.
        max: i64,
        /// What a value outside comes to.
        outside: Outside,
    },
    /// Known, and without effect: a setting of the vmpressure strategy.
    NoEffect,
}

/// What a value outside the range comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// The nearer end.
    Clamped,
    /// Nothing: at a start the default stays, later all that is in force.
    Refused,
}

/// A number's type and range.
macro_rules! int {
    ($field:ident, $bits:literal, $min:literal ..= $max:expr) => {
        int!($field, $bits, $min..=$max, Outside::Clamped)
    };
    ($field:ident, $bits:literal, $min:literal ..= $max:expr, $outside:expr) => {
        Kind::Int {
            field: |tunables| &mut tunables.$field,
            bits: $bits,
            min: $min,
            max: $max,
            outside: $outside,
        }
    };
}

macro_rules! boolean {
    ($field:ident) => {
        Kind::Bool(|tunables| &mut tunables.$field)
    };
}

const fn lmk(name: &'static str, kind: Kind, reinit: bool, meaning: &'static str) -> Tunable {
    Tunable { name, scope: Scope::Lmk, kind, reinit, meaning }
}

const fn no_effect(name: &'static str) -> Tunable {
    lmk(name, Kind::NoEffect, false, "vmpressure of older releases; no effect")
}

/// Largest value of AOSP's `int`.
const INT: i64 = i32::MAX as i64;

/// All of them. Those that set the default of another come before it.
pub static TABLE: &[Tunable] = &[
    Tunable {
        name: "low_ram",
        scope: Scope::Full("ro.config.low_ram"),
        kind: boolean!(low_ram),
        reinit: false,
        meaning: "this is a low-RAM device: other defaults",
    },
    Tunable {
        name: "per_app_memcg",
        scope: Scope::Full("ro.config.per_app_memcg"),
        kind: boolean!(per_app_memcg),
        reinit: false,
        meaning: "set the memory.soft_limit_in_bytes (cgroup v1) or memory.low (v2) of apps by their adj",
    },
    Tunable {
        name: "log_stats",
        scope: Scope::RoLmk,
        kind: boolean!(log_stats),
        reinit: false,
        meaning: "send statistics of each kill to clients that subscribed",
    },
    lmk("debug", boolean!(debug), true, "say more in the log"),
    lmk(
        "kill_heaviest_task",
        boolean!(kill_heaviest_task),
        true,
        "always take the heaviest process of an adj, not only at or below 200",
    ),
    lmk(
        "kill_timeout_ms",
        int!(kill_timeout_ms, 32, 0..=INT, Outside::Refused),
        true,
        "longest wait for a victim's exit before the next is chosen, ms; 0 waits without limit",
    ),
    lmk(
        "pressure_after_kill_min_score",
        int!(pressure_after_kill_min_score, 32, 0..=1001),
        false,
        "lowest adj of a kill that follows another while free memory is below the min watermark",
    ),
    lmk(
        "use_minfree_levels",
        boolean!(use_minfree_levels),
        false,
        "decide by the minfree levels that clients send instead of by PSI",
    ),
    lmk(
        "use_new_strategy",
        Kind::Choice(|tunables| &mut tunables.use_new_strategy),
        false,
        "with use_minfree_levels: true, the rules decide nevertheless; false, the levels; unset, the levels, but on a low-RAM device the rules",
    ),
    lmk(
        "swap_free_low_percentage",
        int!(swap_free_low_percentage, 32, 0..=100),
        true,
        "swap is low below this share of its total, percent; 0 turns the test off",
    ),
    lmk(
        "psi_window_size_ms",
        int!(psi_window_size_ms, 32, 500..=10_000),
        true,
        "window of the pressure thresholds, and of polling after an event, ms",
    ),
    lmk(
        "psi_partial_stall_ms",
        int!(psi_partial_stall_ms, 32, 0..=10_000),
        true,
        "stall of some tasks in a window that is medium pressure, ms; 0 turns it off",
    ),
    lmk(
        "psi_complete_stall_ms",
        int!(psi_complete_stall_ms, 32, 0..=10_000),
        true,
        "stall of all tasks in a window that is critical pressure, ms; 0 turns it off",
    ),
    lmk(
        "thrashing_limit",
        int!(thrashing_limit, 32, 0..=INT),
        true,
        "refaults in a window that are thrashing, percent of the file cache",
    ),
    lmk(
        "thrashing_limit_decay",
        int!(thrashing_limit_decay, 32, 0..=100),
        true,
        "how much a kill for thrashing lowers the limit until the window ends, percent",
    ),
    lmk(
        "thrashing_limit_critical",
        int!(thrashing_limit_critical, 32, 0..=INT),
        true,
        "thrashing from which perceptible apps are not spared, percent; 3 x thrashing_limit unless set",
    ),
    lmk(
        "swap_util_max",
        int!(swap_util_max, 32, 0..=100),
        true,
        "share of anonymous memory in swap above which low memory kills, percent; 100 turns it off",
    ),
    lmk(
        "filecache_min_kb",
        int!(filecache_min_kb, 64, 0..=i64::MAX),
        true,
        "file cache below which a kill for thrashing goes on killing, kB; 0 turns it off",
    ),
    lmk(
        "stall_limit_critical",
        int!(stall_limit_critical, 64, 0..=i64::MAX),
        false,
        "share of 10 s in which all tasks stalled that lifts every protection, percent",
    ),
    lmk(
        "delay_monitors_until_boot",
        boolean!(delay_monitors_until_boot),
        false,
        "watch pressure only when a client says so after boot",
    ),
    lmk(
        "direct_reclaim_threshold_ms",
        int!(direct_reclaim_threshold_ms, 64, 0..=INT),
        true,
        "direct reclaim that takes longer kills, ms; 0 turns it off",
    ),
    lmk(
        "swap_compression_ratio",
        int!(swap_compression_ratio, 64, 0..=INT),
        true,
        "how well swap compresses, numerator; 0 leaves available memory out of free swap",
    ),
    lmk(
        "swap_compression_ratio_div",
        int!(swap_compression_ratio_div, 64, 1..=INT),
        true,
        "how well swap compresses, denominator",
    ),
    lmk(
        "relaxed_available_memory",
        boolean!(relaxed_available_memory),
        true,
        "count active file pages and compressible anonymous pages as available",
    ),
    lmk(
        "lowmem_min_oom_score",
        int!(lowmem_min_oom_score, 32, 201..=1001),
        true,
        "lowest adj of a kill for low memory alone; 1001 turns such kills off",
    ),
    lmk("use_psi", boolean!(use_psi), false, "use PSI; without it, sample once a second"),
    lmk(
        "recorder_kb",
        int!(recorder_kb, 32, 32..=16_384),
        false,
        "memory of the flight recorder, kB, locked; read at the start",
    ),
    no_effect("low"),
    no_effect("medium"),
    no_effect("critical"),
    no_effect("critical_upgrade"),
    no_effect("upgrade_pressure"),
    no_effect("downgrade_pressure"),
];

impl Tunable {
    /// The properties that can set it, the first that has a value wins.
    pub fn properties(&self) -> impl Iterator<Item = String> + '_ {
        let (first, second) = match self.scope {
            Scope::Lmk => {
                (format!("{DEVICE_CONFIG}{}", self.name), Some(format!("{RO_LMK}{}", self.name)))
            }
            Scope::RoLmk => (format!("{RO_LMK}{}", self.name), None),
            Scope::Full(name) => (name.to_owned(), None),
        };
        std::iter::once(first).chain(second)
    }

    /// The tunable that this is a name of: bare, or a property's.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        TABLE.iter().find(|tunable| {
            tunable.name == name || tunable.properties().any(|property| property == name)
        })
    }

    fn default_of(&self, tunables: Tunables) -> Value {
        let mut tunables = tunables;
        match self.kind {
            Kind::Bool(field) => Value::Bool(*field(&mut tunables)),
            Kind::Int { field, .. } => Value::Int(*field(&mut tunables)),
            Kind::Choice(field) => field(&mut tunables).map_or(Value::Unset, Value::Bool),
            Kind::NoEffect => Value::None,
        }
    }

    /// Its default on an ordinary device and on one with little memory.
    fn defaults(&self) -> (Value, Value) {
        (self.default_of(Tunables::default()), self.default_of(Tunables::low_ram_defaults()))
    }

    fn range(&self) -> String {
        match self.kind {
            Kind::Bool(_) | Kind::Choice(_) => "bool".to_owned(),
            Kind::Int { min, max: INT | i64::MAX, .. } => format!("from {min}"),
            Kind::Int { min, max, .. } => format!("{min} to {max}"),
            Kind::NoEffect => "-".to_owned(),
        }
    }

    fn default_text(&self) -> String {
        match self.defaults() {
            (ordinary, low) if ordinary == low => ordinary.to_string(),
            (ordinary, low) => format!("{ordinary} (low RAM: {low})"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    Bool(bool),
    Int(i64),
    Unset,
    None,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Int(value) => value.fmt(f),
            Self::Unset => f.write_str("unset"),
            Self::None => f.write_str("-"),
        }
    }
}

/// The properties whose change makes init have all of them read again: lmkd.rc has a trigger for
/// each.
pub fn reinit_properties() -> impl Iterator<Item = String> {
    TABLE.iter().filter(|tunable| tunable.reinit).flat_map(|tunable| tunable.properties().take(1))
}

/// Writes the text of `--help-tunables`.
///
/// # Errors
///
/// Those of the writer.
pub fn help_tunables(out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "Tunables, for --set name=value and --props. Each is the property {DEVICE_CONFIG}<name> or\n\
         {RO_LMK}<name> (the first that has a value) unless another property is named.\n"
    )?;
    for tunable in TABLE.iter().filter(|tunable| !matches!(tunable.kind, Kind::NoEffect)) {
        let (name, range, default) = (tunable.name, tunable.range(), tunable.default_text());
        write!(out, "{name}  [{range}, default {default}")?;
        match tunable.scope {
            Scope::Lmk => writeln!(out, "]")?,
            Scope::RoLmk => writeln!(out, ", property {RO_LMK}{name}]")?,
            Scope::Full(property) => writeln!(out, ", property {property}]")?,
        }
        writeln!(out, "    {}", tunable.meaning)?;
    }
    let legacy: Vec<_> = TABLE
        .iter()
        .filter(|tunable| matches!(tunable.kind, Kind::NoEffect))
        .map(|tunable| tunable.name)
        .collect();
    writeln!(out, "\nKnown and without effect: {}", legacy.join(", "))
}

/// The table of README.md.
#[must_use]
pub fn readme_table() -> String {
    let mut table =
        String::from("| Name | Range | Default | Meaning |\n| --- | --- | --- | --- |\n");
    for tunable in TABLE {
        let name = match tunable.scope {
            Scope::Lmk => tunable.name.to_owned(),
            Scope::RoLmk => format!("{RO_LMK}{}", tunable.name),
            Scope::Full(property) => property.to_owned(),
        };
        let (range, default) = (tunable.range(), tunable.default_text());
        table.push_str(&format!("| `{name}` | {range} | {default} | {} |\n", tunable.meaning));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The README's table is this table: `cargo test` prints what it has to be.
    #[test]
    fn the_readme_has_this_table() {
        let readme = include_str!("../../README.md");
        let (_, rest) = readme.split_once("<!-- tunables -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- /tunables -->").unwrap();
        assert_eq!(table, readme_table(), "put this table there:\n{}", readme_table());
    }

    #[test]
    fn no_property_sets_two_tunables() {
        let names: Vec<_> = TABLE.iter().flat_map(Tunable::properties).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn defaults_are_within_their_ranges() {
        for tunable in TABLE {
            let Kind::Int { min, max, .. } = tunable.kind else { continue };
            for default in [tunable.defaults().0, tunable.defaults().1] {
                let Value::Int(default) = default else { panic!("{}", tunable.name) };
                assert!((min..=max).contains(&default), "{}", tunable.name);
            }
        }
    }

    #[test]
    fn the_help_names_every_tunable() {
        let mut help = Vec::new();
        help_tunables(&mut help).unwrap();
        let help = String::from_utf8(help).unwrap();
        for tunable in TABLE {
            assert!(help.contains(tunable.name), "{}", tunable.name);
        }
    }
}
