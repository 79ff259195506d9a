//! The settings in force, by name: a recording is read by tools that know other tunables.

use super::few::Text;
use crate::codec::CodecError;
use crate::codec::Coded;
use crate::codec::Reader;
use crate::codec::Writer;
use crate::config::Kind;
use crate::config::Tunables;
use crate::config::TABLE;

/// The tunables after clamping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// As the daemon uses them.
    pub tunables: Tunables,
}

impl Coded for Settings {
    /// Pairs of a name and a number (yes is 1), up to an empty name. A choice that nobody made is
    /// left out.
    fn put(&self, out: &mut Writer<'_>) {
        let mut tunables = self.tunables.clone();
        for tunable in TABLE {
            let value = match tunable.kind {
                Kind::Bool(field) => i64::from(*field(&mut tunables)),
                Kind::Int { field, .. } => *field(&mut tunables),
                Kind::Choice(field) => match field(&mut tunables) {
                    Some(chosen) => i64::from(*chosen),
                    None => continue,
                },
                Kind::NoEffect => continue,
            };
            Text::<40>::new(tunable.name.as_bytes()).put(out);
            value.put(out);
        }
        Text::<40>::default().put(out);
    }

    /// Tunables that are not known are left out, and those that are missing have their default.
    fn take(from: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut tunables = Tunables::default();
        loop {
            let name = Text::<40>::take(from)?;
            if name.as_bytes().is_empty() {
                return Ok(Self { tunables });
            }
            let value = i64::take(from)?;
            let known = TABLE.iter().find(|tunable| tunable.name.as_bytes() == name.as_bytes());
            match known.map(|tunable| tunable.kind) {
                Some(Kind::Bool(field)) => *field(&mut tunables) = value != 0,
                Some(Kind::Int { field, .. }) => *field(&mut tunables) = value,
                Some(Kind::Choice(field)) => *field(&mut tunables) = Some(value != 0),
                Some(Kind::NoEffect) | None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes, and what is read from them.
    fn there_and_back(tunables: &Tunables) -> (Vec<u8>, Tunables) {
        let mut buffer = [0; 2048];
        let mut out = Writer::new(&mut buffer);
        Settings { tunables: tunables.clone() }.put(&mut out);
        let len = out.finish().unwrap();
        let read = Settings::take(&mut Reader::new(&buffer[..len])).unwrap().tunables;
        (buffer[..len].to_vec(), read)
    }

    /// Daemons that did not know `use_new_strategy` let the levels decide but on low-RAM devices.
    #[test]
    fn a_recording_without_the_choice_of_a_strategy_is_decided_as_before() {
        for (low_ram, by_levels) in [(false, true), (true, false)] {
            let tunables = Tunables { use_minfree_levels: true, low_ram, ..Tunables::default() };
            let (bytes, read) = there_and_back(&tunables);
            let name = b"use_new_strategy";
            assert!(!bytes.windows(name.len()).any(|window| window == name));
            assert_eq!((read.levels_decide(), read), (by_levels, tunables));
        }
    }

    #[test]
    fn each_choice_comes_back() {
        for use_new_strategy in [None, Some(false), Some(true)] {
            let tunables = Tunables { use_new_strategy, ..Tunables::default() };
            assert_eq!(there_and_back(&tunables).1, tunables);
        }
    }
}
