//! init's configuration files: sections of words, read as far as this device needs, refused beyond.

use crate::action::Action;
use crate::service::Service;
use anyhow::bail;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// Where init starts, and where the files of packages are.
const FIRST: &str = "/system/etc/init/hw/init.rc";
const DIRECTORY: &str = "/system/etc/init";

/// All that the device's files say.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pub services: Vec<Service>,
    pub actions: Vec<Action>,
}

impl Configuration {
    /// Reads init's own file, then those of packages in the order of their names.
    pub fn read() -> Result<Self> {
        let mut files: Vec<PathBuf> = fs::read_dir(DIRECTORY)
            .context(DIRECTORY)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "rc"))
            .collect();
        files.sort();
        let mut all = Self::default();
        for path in std::iter::once(Path::new(FIRST)).chain(files.iter().map(PathBuf::as_path)) {
            let mode = fs::metadata(path).with_context(|| path.display().to_string())?.mode();
            if mode & 0o022 != 0 {
                println!("init: {}: skipped, others may write to it", path.display());
                continue;
            }
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            all.add(&path.display().to_string(), &text)?;
        }
        Ok(all)
    }

    /// Adds a file. Anything that is not understood is an error that names file and line.
    pub fn add(&mut self, file: &str, text: &str) -> Result<()> {
        let mut section = Section::None;
        for (number, line) in text.lines().enumerate() {
            let words = words(line);
            let Some(first) = words.first() else { continue };
            let place = || format!("{file}:{}", number + 1);
            match first.as_str() {
                "service" | "on" => {
                    self.end(section)?;
                    section = Section::begin(&words).with_context(place)?;
                }
                _ => match &mut section {
                    Section::Service(service) => service.option(&words).with_context(place)?,
                    Section::Action(action) => action.command(&words).with_context(place)?,
                    Section::None => bail!("{}: '{first}' is in no section", place()),
                },
            }
        }
        self.end(section)
    }

    fn end(&mut self, section: Section) -> Result<()> {
        match section {
            Section::None => {}
            Section::Action(action) => self.actions.push(action),
            Section::Service(service) => {
                service.check()?;
                match self.services.iter_mut().find(|other| other.name == service.name) {
                    None => self.services.push(service),
                    Some(other) if service.overrides => *other = service,
                    Some(_) => println!("init: ignored duplicate service '{}'", service.name),
                }
            }
        }
        Ok(())
    }
}

enum Section {
    None,
    Service(Service),
    Action(Action),
}

impl Section {
    fn begin(words: &[String]) -> Result<Self> {
        match words {
            [keyword, name, command @ ..] if keyword == "service" => {
                Ok(Self::Service(Service::new(name, command)?))
            }
            [keyword, triggers @ ..] if keyword == "on" => Ok(Self::Action(Action::new(triggers)?)),
            _ => bail!("a section without a name"),
        }
    }
}

fn words(line: &str) -> Vec<String> {
    let line = line.trim_start();
    if line.starts_with('#') {
        return Vec::new();
    }
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = include_str!("../../../init/lmkd_rs.rc");
    const DEVICES: &str = include_str!("../init.rc");

    fn read(text: &str) -> Result<Configuration> {
        let mut all = Configuration::default();
        all.add("x.rc", text)?;
        Ok(all)
    }

    #[test]
    fn every_file_of_the_device_is_understood() {
        let mut all = read(DEVICES).unwrap();
        all.add("lmkd_rs.rc", OURS).unwrap();
        assert!(all.services.iter().any(|service| service.name == "lmkd" && service.critical));
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        for (line, part) in [
            ("    frobnicate now", "x.rc:2: 'frobnicate now'"),
            ("    user nobody_knows", "x.rc:2: 'nobody_knows'"),
            ("    capabilities KILL FLY", "x.rc:2: 'FLY'"),
            ("    socket a tcp 0660", "x.rc:2: 'tcp'"),
            ("    critical\n    oneshot", "both critical and oneshot"),
        ] {
            let error = read(&format!("service a /b\n{line}\n")).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
        let error = read("on boot\n    frobnicate\n").unwrap_err();
        assert!(format!("{error:#}").contains("x.rc:2: 'frobnicate'"), "{error:#}");
    }

    #[test]
    fn a_later_service_wins_by_override_alone() {
        let program = |text| read(text).unwrap().services[0].command[0].clone();
        assert_eq!(program("service a /one\nuser root\nservice a /two\nuser root\n"), "/one");
        assert_eq!(
            program("service a /one\nuser root\nservice a /two\nuser root\noverride"),
            "/two"
        );
    }
}
