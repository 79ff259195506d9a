//! What was found, and how it is told.

use serde_json::json;
use serde_json::Value;
use std::fmt::Display;
use std::io;
use std::io::Write;

/// How things stand. Ordered: worse is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// It could not be looked at with the rights of whoever asks, or nobody is there to tell. Says
    /// nothing of the machine.
    Unknown,
    /// The daemon works, with less.
    Degraded,
    /// The daemon cannot do what it is for.
    Broken,
}

impl State {
    /// Its name, in the text and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Degraded => "degraded",
            Self::Broken => "BROKEN",
        }
    }

    /// The exit status if this is the worst.
    pub const fn exit_status(self) -> u8 {
        match self {
            Self::Ok | Self::Unknown => 0,
            Self::Degraded => 3,
            Self::Broken => 4,
        }
    }
}

/// One line of the diagnosis.
#[derive(Debug)]
pub struct Finding {
    /// Stable name of what was looked at.
    check: &'static str,
    state: State,
    found: String,
    /// What follows for the daemon; empty if it is well.
    effect: String,
    /// What helps; empty if it is well.
    remedy: String,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Display) -> Self {
        Self::new(check, State::Ok, &found, &"", &"")
    }

    /// It could not be looked at.
    pub fn unknown(check: &'static str, found: impl Display) -> Self {
        Self::new(check, State::Unknown, &found, &"", &"run it as root")
    }

    /// Nobody is there to tell.
    pub fn untold(check: &'static str, found: impl Display, remedy: impl Display) -> Self {
        Self::new(check, State::Unknown, &found, &"", &remedy)
    }

    /// The daemon works, with less.
    pub fn degraded(
        check: &'static str,
        found: impl Display,
        effect: impl Display,
        remedy: impl Display,
    ) -> Self {
        Self::new(check, State::Degraded, &found, &effect, &remedy)
    }

    /// The daemon cannot do what it is for.
    pub fn broken(
        check: &'static str,
        found: impl Display,
        effect: impl Display,
        remedy: impl Display,
    ) -> Self {
        Self::new(check, State::Broken, &found, &effect, &remedy)
    }

    fn new(
        check: &'static str,
        state: State,
        found: &dyn Display,
        effect: &dyn Display,
        remedy: &dyn Display,
    ) -> Self {
        let [found, effect, remedy] = [found, effect, remedy].map(ToString::to_string);
        Self { check, state, found, effect, remedy }
    }

    /// What was looked at.
    pub const fn check(&self) -> &'static str {
        self.check
    }

    /// How it stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What was found, what follows, what helps.
    #[cfg(test)]
    pub fn texts(&self) -> [&str; 3] {
        [&self.found, &self.effect, &self.remedy]
    }

    fn to_json(&self, area: &str) -> Value {
        json!({
            "area": area, "check": self.check, "state": self.state.name().to_lowercase(),
            "found": self.found, "effect": self.effect, "remedy": self.remedy,
        })
    }
}

/// Findings about one thing.
pub type Area = (&'static str, Vec<Finding>);

/// The worst of all.
pub fn worst(areas: &[Area]) -> State {
    let states = areas.iter().flat_map(|(_, findings)| findings).map(Finding::state);
    states.max().unwrap_or(State::Ok)
}

/// For people.
pub fn print(areas: &[Area], out: &mut dyn Write) -> io::Result<()> {
    for (area, findings) in areas {
        writeln!(out, "{area}")?;
        for finding in findings {
            writeln!(out, "  {:<9} {:<16} {}", finding.state.name(), finding.check, finding.found)?;
            for (title, text) in [("effect", &finding.effect), ("remedy", &finding.remedy)] {
                if !text.is_empty() {
                    writeln!(out, "{:12}{title}: {text}", "")?;
                }
            }
        }
    }
    let count = |state| {
        let all = areas.iter().flat_map(|(_, findings)| findings);
        all.filter(|finding| finding.state == state).count()
    };
    let [ok, degraded, broken] = [State::Ok, State::Degraded, State::Broken].map(count);
    write!(out, "{ok} ok, {degraded} degraded, {broken} broken")?;
    match count(State::Unknown) {
        0 => writeln!(out),
        unknown => writeln!(out, ", {unknown} not known"),
    }
}

/// For programs: one object, `findings` in the order of the text.
pub fn print_json(areas: &[Area], out: &mut dyn Write) -> io::Result<()> {
    let findings: Vec<_> = areas
        .iter()
        .flat_map(|(area, findings)| findings.iter().map(|finding| finding.to_json(area)))
        .collect();
    let worst = worst(areas).name().to_lowercase();
    writeln!(out, "{}", json!({ "schema": 1, "worst": worst, "findings": findings }))
}
