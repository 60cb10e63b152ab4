//! Components by name, with their configuration described: what YAML topologies, `squall components` and editors read.
//!
//! A [`Described`] component says what can be configured ([`OptionSpec`]) and declares itself from a [`Config`] at a [`Place`]
//! in a topology. Its tuples are rows ([`squall::Row`]); the fields of its streams follow from its configuration and from the
//! fields it reads, so a topology is declared from its spouts on.
//!
//! ```
//! # extern crate squall_api as squall;
//! use squall_components::registry::{Config, Place, Registry, Span};
//!
//! let registry = Registry::standard();
//! let generator = registry.get("generator").expect("a stock component");
//! let config = Config::from(&serde_json::json!({ "count": 10 }));
//! let topology = squall::Topology::new("show");
//! let declared = generator.declare(&config, Span::NONE, Place::new(&topology, "numbers")).unwrap();
//! assert_eq!(declared.stream("default").unwrap().fields, ["n", "key", "value"]);
//!
//! let wrong = Config::from(&serde_json::json!({ "cuont": 10, "rate": "fast" }));
//! let errors = generator.check(&wrong, Span::NONE).unwrap_err();
//! assert_eq!(errors[0].to_string(), "unknown option `cuont`; did you mean `count`?");
//! assert_eq!(errors.len(), 2);
//! ```

mod config;
mod options;
mod place;
mod units;

use std::fmt;

pub(crate) use config::meant;
pub use config::{Config, ConfigError, Given, Node, Span, suggest};
pub use options::{Default, OptionSpec, OptionType, Options, check};
pub use place::{Declared, Place, Rows};
pub use units::{parse_duration, parse_size, show_duration, show_size};

/// What a component is in a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A source: takes no input.
    Spout,
    /// Reads streams and emits.
    Bolt,
    /// A bolt that emits nothing, but for dead letters.
    Sink,
}

impl Kind {
    /// `spout`, `bolt` or `sink`.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Spout => "spout",
            Kind::Bolt => "bolt",
            Kind::Sink => "sink",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Declares a component from its checked options.
pub type Factory = Box<dyn Fn(&Options, Place<'_>) -> Result<Declared, Vec<ConfigError>> + Send + Sync>;

/// A component that can be declared by its name.
pub struct Described {
    /// Its name: lower-case words joined by `-`.
    pub name: &'static str,
    /// Class names of like components of Storm, under which it is found, too.
    pub aliases: &'static [&'static str],
    /// Spout, bolt or sink.
    pub kind: Kind,
    /// What it does, in one sentence.
    pub summary: &'static str,
    /// What can be configured.
    pub options: Vec<OptionSpec>,
    /// Its streams, and how their fields follow from the configuration.
    pub outputs: &'static str,
    /// An example: an entry of `spouts` or `bolts`, in YAML.
    pub example: &'static str,
    /// Fields of the input that the example expects; none for a spout.
    pub example_fields: &'static [&'static str],
    /// Declares it.
    pub factory: Factory,
}

impl Described {
    /// Checks a configuration. `at` is where the component stands.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn check(&self, config: &Config, at: Span) -> Result<Options, Vec<ConfigError>> {
        check(&self.options, config, at)
    }

    /// Checks a configuration and declares the component at a place.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration; with a configuration that is right in itself, everything that does not
    /// fit the place: fields that the input has not, expressions that do not compile, more tasks than there can be.
    pub fn declare(&self, config: &Config, at: Span, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let options = self.check(config, at)?;
        (self.factory)(&options, place.at(at).configured(config.digest(self.name)))
    }
}

impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Described({} {})", self.kind, self.name)
    }
}

/// Components by name.
#[derive(Debug)]
pub struct Registry {
    all: Vec<Described>,
}

/// A name or alias that two components have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the component `{name}` calls itself `{word}`, as `{other}` does already; rename one of them")]
pub struct NameTaken {
    /// The component that was to be added.
    pub name: &'static str,
    /// What it is called.
    pub word: &'static str,
    /// The component that has the name.
    pub other: &'static str,
}

impl Registry {
    /// A registry without components.
    pub fn empty() -> Registry {
        Registry { all: Vec::new() }
    }

    /// The stock components.
    pub fn standard() -> Registry {
        let mut registry = Registry::empty();
        for component in crate::stock::all() {
            registry.add(component).expect("stock components have names of their own");
        }
        registry
    }

    /// Adds a component.
    ///
    /// # Errors
    /// If a name or alias is taken.
    pub fn add(&mut self, component: Described) -> Result<(), NameTaken> {
        let words = [component.name].into_iter().chain(component.aliases.iter().copied());
        for word in words {
            if let Some(other) = self.get(word) {
                return Err(NameTaken { name: component.name, word, other: other.name });
            }
        }
        self.all.push(component);
        Ok(())
    }

    /// The component of this name or alias.
    pub fn get(&self, name: &str) -> Option<&Described> {
        self.all.iter().find(|c| c.name == name || c.aliases.contains(&name))
    }

    /// All components: spouts, bolts, sinks, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Described> {
        self.all.iter()
    }

    /// What to do about a name that is not registered because this build leaves its component out; `None` for any other.
    pub fn left_out(&self, name: &str) -> Option<String> {
        if self.get(name).is_some() { None } else { crate::stock::absent(name) }
    }

    /// The name that `word` was probably meant to be. A class name with its package is taken by its last part.
    pub fn suggest(&self, word: &str) -> Option<&'static str> {
        let short = word.rsplit('.').next().unwrap_or(word);
        let short =
            short.strip_suffix("Bolt").or(short.strip_suffix("Spout")).filter(|s| !s.is_empty()).unwrap_or(short);
        suggest(short, self.all.iter().map(|c| c.name)).map(|name| self.get(name).expect("one of these").name)
    }
}
