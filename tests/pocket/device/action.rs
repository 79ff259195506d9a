//! An action: when its commands run.

use crate::command::Command;
use crate::properties::Properties;
use anyhow::bail;
use anyhow::ensure;
use anyhow::Result;

/// An `on` section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    event: Option<String>,
    /// Property and wanted value.
    conditions: Vec<(String, String)>,
    pub commands: Vec<Command>,
}

impl Action {
    /// From the words after `on`.
    pub fn new(words: &[String]) -> Result<Self> {
        let mut action = Self::default();
        ensure!(words.len() % 2 == 1, "a trigger is missing");
        for (index, word) in words.iter().enumerate() {
            if index % 2 == 1 {
                ensure!(word == "&&", "'{word}' stands where && should");
            } else if let Some(condition) = word.strip_prefix("property:") {
                match condition.split_once('=') {
                    Some((name, value)) if !name.ends_with('!') => {
                        action.conditions.push((name.to_owned(), value.to_owned()));
                    }
                    _ => bail!("'{word}' is no condition known here"),
                }
            } else {
                ensure!(action.event.is_none(), "'{word}' is a second event");
                action.event = Some(word.clone());
            }
        }
        Ok(action)
    }

    /// Takes a line of the section.
    pub fn command(&mut self, words: &[String]) -> Result<()> {
        self.commands.push(Command::new(words)?);
        Ok(())
    }

    /// Whether it runs because of this event.
    pub fn runs_at(&self, event: &str, properties: &Properties) -> bool {
        self.event.as_deref() == Some(event) && self.all_hold(properties, None)
    }

    /// Whether it runs because this property was set, or, with None, because init begins to look
    /// at properties.
    pub fn runs_for(&self, changed: Option<(&str, &str)>, properties: &Properties) -> bool {
        let concerned = changed.is_none_or(|(name, value)| {
            self.conditions.iter().any(|(wanted, is)| wanted == name && (is == "*" || is == value))
        });
        self.event.is_none() && concerned && self.all_hold(properties, changed)
    }

    /// `*` holds for any value but none, and for the property that was just set even for that.
    fn all_hold(&self, properties: &Properties, changed: Option<(&str, &str)>) -> bool {
        self.conditions.iter().all(|(name, wanted)| {
            let value = properties.get(name).unwrap_or_default();
            match changed {
                Some((changed, _)) if changed == name && wanted == "*" => true,
                _ if wanted == "*" => !value.is_empty(),
                _ => value == wanted,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(text: &str) -> Result<Action> {
        Action::new(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn all_conditions_have_to_hold_and_one_has_to_be_what_changed() {
        let action = action("property:a=1 && property:b=*").unwrap();
        let mut properties = Properties::default();
        properties.insert("a", "1");
        assert!(!action.runs_for(Some(("a", "1")), &properties));
        properties.insert("b", "x");
        assert!(action.runs_for(Some(("a", "1")), &properties));
        assert!(action.runs_for(Some(("b", "x")), &properties));
        assert!(action.runs_for(None, &properties));
        assert!(!action.runs_for(Some(("c", "1")), &properties));
        assert!(!action.runs_at("boot", &properties));
    }

    #[test]
    fn any_value_is_no_value_too_when_it_was_just_set() {
        let action = action("property:a=*").unwrap();
        let properties = Properties::default();
        assert!(action.runs_for(Some(("a", "")), &properties));
        assert!(!action.runs_for(None, &properties));
    }

    #[test]
    fn an_event_may_have_conditions() {
        let action = action("boot && property:a=1").unwrap();
        let mut properties = Properties::default();
        assert!(!action.runs_at("boot", &properties));
        properties.insert("a", "1");
        assert!(action.runs_at("boot", &properties));
        assert!(!action.runs_for(Some(("a", "1")), &properties));
    }

    #[test]
    fn what_is_no_trigger_is_refused() {
        for text in ["", "a b", "property:a", "property:a!=1", "a && b", "a &&"] {
            assert!(action(text).is_err(), "{text}");
        }
    }
}
