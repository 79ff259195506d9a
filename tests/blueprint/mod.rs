//! Reads Android.bp: the part of the Blueprint language that a file without variables needs.

pub mod properties;
pub mod sources;

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// A property's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`
    Bool(bool),
    /// A text, unescaped.
    Text(String),
    /// `[a, b]`
    List(Vec<Value>),
    /// `{ name: value }`
    Map(Map),
}

/// Properties by name.
pub type Map = BTreeMap<String, Value>;

/// One module: its type and its properties.
#[derive(Clone, Debug)]
pub struct Module {
    /// `rust_binary` and so on.
    pub kind: String,
    /// What stands between its braces.
    pub properties: Map,
}

impl Module {
    /// What stands at a property, through maps by dots.
    pub fn value(&self, path: &str) -> Option<&Value> {
        let (maps, last) =
            path.rsplit_once('.').map_or((None, path), |(maps, last)| (Some(maps), last));
        let mut map = &self.properties;
        for name in maps.into_iter().flat_map(|maps| maps.split('.')) {
            let Some(Value::Map(inner)) = map.get(name) else { return None };
            map = inner;
        }
        map.get(last)
    }

    /// Whether a property is set to true.
    pub fn is(&self, path: &str) -> bool {
        self.value(path) == Some(&Value::Bool(true))
    }

    /// The text at a property, or an empty one.
    pub fn text(&self, path: &str) -> &str {
        match self.value(path) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The texts listed at a property; none if there is no such property.
    pub fn texts(&self, path: &str) -> Vec<String> {
        let Some(Value::List(list)) = self.value(path) else { return Vec::new() };
        let texts = list.iter().map(|item| match item {
            Value::Text(text) => text.clone(),
            other => panic!("{path}: {other:?} in a list of texts"),
        });
        texts.collect()
    }
}

/// All modules of a file, defaults folded in.
pub fn modules(text: &str) -> Vec<Module> {
    let mut reader = Reader { rest: text.chars().peekable() };
    let mut modules = Vec::new();
    while let Some(kind) = reader.name() {
        let Value::Map(properties) = reader.value() else { panic!("{kind}: no braces") };
        modules.push(Module { kind, properties });
    }
    let plain = modules.clone();
    for module in &mut modules {
        fold_defaults(module, &plain);
    }
    modules
}

fn fold_defaults(module: &mut Module, all: &[Module]) {
    for name in module.texts("defaults") {
        let mut defaults = all
            .iter()
            .find(|other| other.text("name") == name)
            .unwrap_or_else(|| panic!("{}: no defaults {name}", module.text("name")))
            .clone();
        fold_defaults(&mut defaults, all);
        for (property, value) in defaults.properties {
            match (module.properties.get_mut(&property), value) {
                (Some(Value::List(own)), Value::List(more)) => own.extend(more),
                (Some(_), _) => {}
                (None, value) => drop(module.properties.insert(property, value)),
            }
        }
    }
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Reader<'_> {
    /// Skips blanks, `//` comments and separators.
    fn skip(&mut self) {
        while let Some(&next) = self.rest.peek() {
            match next {
                '/' => drop(self.rest.by_ref().find(|&c| c == '\n')),
                ',' | ':' => drop(self.rest.next()),
                c if c.is_whitespace() => drop(self.rest.next()),
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Option<String> {
        self.skip();
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        (!name.is_empty()).then_some(name)
    }

    fn value(&mut self) -> Value {
        self.skip();
        match self.rest.peek() {
            Some('"') => {
                self.rest.next();
                Value::Text(self.rest.by_ref().take_while(|&c| c != '"').collect())
            }
            Some('[') => {
                self.rest.next();
                let mut list = Vec::new();
                while !self.ends_with(']') {
                    list.push(self.value());
                }
                Value::List(list)
            }
            Some('{') => {
                self.rest.next();
                let mut map = Map::new();
                while !self.ends_with('}') {
                    let name = self.name().expect("a property's name");
                    let value = self.value();
                    assert!(map.insert(name.clone(), value).is_none(), "{name} stands twice");
                }
                Value::Map(map)
            }
            _ => match self.name().as_deref() {
                Some("true") => Value::Bool(true),
                Some("false") => Value::Bool(false),
                other => panic!("not a value: {other:?}"),
            },
        }
    }

    fn ends_with(&mut self, end: char) -> bool {
        self.skip();
        assert!(self.rest.peek().is_some(), "the file ends before {end}");
        self.rest.next_if_eq(&end).is_some()
    }
}
