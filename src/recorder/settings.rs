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
    /// Pairs of a name and a number (yes is 1), up to an empty name.
    fn put(&self, out: &mut Writer<'_>) {
        let mut tunables = self.tunables.clone();
        for tunable in TABLE {
            let value = match tunable.kind {
                Kind::Bool(field) => i64::from(*field(&mut tunables)),
                Kind::Int { field, .. } => *field(&mut tunables),
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
                Some(Kind::NoEffect) | None => {}
            }
        }
    }
}
