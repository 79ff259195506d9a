//! The settings: what is out of range, and what [`contradictions`] and levels show.

use super::contradictions;
use super::contradictions::Machine;
use super::daemon::Subject;
use super::finding::Finding;
use super::levels::Levels;
use clap::ArgMatches;
use lmkd::config;
use lmkd::config::Notice;
use lmkd::config::Options;
use lmkd::config::Properties;
use lmkd::config::PropertySource;
use lmkd::config::Tunables;
use lmkd::units::PageSize;
use std::path::Path;
use std::path::PathBuf;

/// Settings, and what was said when they were read.
pub struct Settings {
    /// As the daemon would use them.
    pub tunables: Tunables,
    options: Options,
    notices: Vec<Notice>,
    refused: Option<String>,
    levels: Levels,
}

impl Settings {
    /// Those of the command line; without any, the running daemon's.
    pub fn gather(arguments: &ArgMatches, subject: &Subject) -> Self {
        let set: Vec<String> = arguments.get_many("set").into_iter().flatten().cloned().collect();
        let props = arguments.get_one::<PathBuf>("props").cloned();
        let mut options = subject.options().unwrap_or_default();
        let others = !set.is_empty() || props.is_some();
        if others {
            (options.set, options.props) = (set, props);
        }
        if let Some(psi) = arguments.get_one::<PathBuf>("psi") {
            options.psi = Some(psi.clone());
        }
        let (properties, refused) = match Properties::new(&options.set, options.props.as_deref()) {
            Ok(properties) => (properties, None),
            Err(error) => (Properties::default(), Some(error.to_string())),
        };
        let (mut tunables, notices) = config::load(&properties);
        // Properties may have been changed since the daemon read them.
        if let (false, Some((in_force, _))) = (others, subject.told()) {
            tunables = in_force.tunables.clone();
        }
        let asked = arguments.get_one("minfree").cloned();
        let published = properties.get("sys.lmk.minfree_levels");
        let levels = Levels::find(asked, subject, published);
        Self { tunables, options, notices, refused, levels }
    }

    /// The pressure file.
    pub fn pressure_file(&self) -> &Path {
        self.options.pressure_file()
    }

    /// Looks at all of it.
    pub fn examine(&self, machine: &Machine) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(error) = &self.refused {
            findings.push(Finding::broken(
                "values",
                error,
                "the daemon does not start, or keeps its old settings",
                "correct it; lmkd --help-tunables lists names and ranges",
            ));
        }
        findings.extend(self.notices.iter().map(|notice| match notice {
            Notice::NoEffect(_) => {
                let effect = "they change nothing";
                Finding::degraded("no_effect", notice, effect, "remove them")
            }
            Notice::Clamped { .. } | Notice::Refused { .. } => {
                let effect = "the daemon runs with another value than was set";
                Finding::degraded("range", notice, effect, "set what is to be used, or nothing")
            }
        }));
        let page = PageSize::of_this_kernel();
        findings.extend(contradictions::find(&self.tunables, machine, page));
        if findings.is_empty() {
            let count = self.options.set.len();
            let from = match (&self.options.props, count) {
                (None, 0) => "the defaults".to_owned(),
                (None, _) => format!("{count} set"),
                (Some(file), _) => format!("{} and {count} set", file.display()),
            };
            findings.push(Finding::ok("values", from));
        }
        findings.push(self.levels.examine(&self.tunables, machine.memory, page));
        findings
    }
}
