//! Configuration as a tree of values that know where they were written.
//!
//! A reader of YAML (or of anything else) makes a [`Config`]; what a [`Span`] means is its own affair. Everything that is
//! wrong with a configuration is a [`ConfigError`] that carries such a span back.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use squall::Value;

/// Where something was written: a number that means something to whoever made the [`Config`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub usize);

impl Span {
    /// Written nowhere: configuration that was made by a program.
    pub const NONE: Span = Span(usize::MAX);
}

impl Default for Span {
    fn default() -> Span {
        Span::NONE
    }
}

/// A value with the place where it was written.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Given<T> {
    /// Where it was written.
    pub at: Span,
    /// The value.
    pub value: T,
}

impl<T> Given<T> {
    /// A value that a program made.
    pub fn here(value: impl Into<T>) -> Given<T> {
        Given { at: Span::NONE, value: value.into() }
    }

    /// The same place, another value.
    pub fn with<U>(&self, value: U) -> Given<U> {
        Given { at: self.at, value }
    }
}

impl<T> std::ops::Deref for Given<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl From<&str> for Given<String> {
    fn from(value: &str) -> Given<String> {
        Given::here(value)
    }
}

impl From<String> for Given<String> {
    fn from(value: String) -> Given<String> {
        Given::here(value)
    }
}

/// One value of a configuration and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it was written.
    pub at: Span,
    /// What was written.
    pub node: Node,
}

/// What a value of a configuration is.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// Nothing: for an option, the same as leaving it out.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number that is no integer.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Config>),
    /// Values by key, in the order in which they were written. A key that is written twice is an error.
    Map(Vec<(Given<String>, Config)>),
}

impl Config {
    /// A value that a program made.
    pub fn here(node: Node) -> Config {
        Config { at: Span::NONE, node }
    }

    /// An empty map: every option at its default.
    pub fn empty() -> Config {
        Config::here(Node::Map(Vec::new()))
    }

    /// A number that two configurations share if, and only if (but for chance), they are the same, wherever they stand: what a
    /// plan has of a component's options, so that processes of one run agree on them.
    pub(crate) fn digest(&self, component: &str) -> u64 {
        // Equal in every process of this build: the hasher has no seed of its own.
        let mut hasher = DefaultHasher::new();
        component.hash(&mut hasher);
        self.hash_into(&mut hasher);
        hasher.finish()
    }

    fn hash_into(&self, hasher: &mut DefaultHasher) {
        std::mem::discriminant(&self.node).hash(hasher);
        match &self.node {
            Node::Null => {}
            Node::Bool(b) => b.hash(hasher),
            Node::Int(n) => n.hash(hasher),
            Node::Float(x) => x.to_bits().hash(hasher),
            Node::Text(s) => s.hash(hasher),
            Node::List(items) => {
                items.len().hash(hasher);
                items.iter().for_each(|item| item.hash_into(hasher));
            }
            Node::Map(pairs) => {
                pairs.len().hash(hasher);
                for (key, value) in pairs {
                    key.value.hash(hasher);
                    value.hash_into(hasher);
                }
            }
        }
    }

    /// The value as one of a tuple. Maps are sorted by key.
    pub fn to_value(&self) -> Value {
        match &self.node {
            Node::Null => Value::Null,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(n) => Value::I64(*n),
            Node::Float(x) => Value::F64(*x),
            Node::Text(s) => Value::Str(s.clone()),
            Node::List(items) => Value::List(items.iter().map(Config::to_value).collect()),
            Node::Map(pairs) => Value::map(pairs.iter().map(|(k, v)| (k.value.clone(), v.to_value()))),
        }
    }
}

impl Node {
    /// The kind of value, as messages name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Bool(_) => "a boolean",
            Node::Int(_) => "an integer",
            Node::Float(_) => "a number",
            Node::Text(_) => "a text",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }
}

/// JSON numbers beyond `i64` become floats.
impl From<&serde_json::Value> for Config {
    fn from(json: &serde_json::Value) -> Config {
        use serde_json::Value as Json;
        Config::here(match json {
            Json::Null => Node::Null,
            Json::Bool(b) => Node::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Node::Int(n),
                None => Node::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Node::Text(s.clone()),
            Json::Array(items) => Node::List(items.iter().map(Config::from).collect()),
            Json::Object(pairs) => {
                Node::Map(pairs.iter().map(|(k, v)| (Given::here(k.as_str()), Config::from(v))).collect())
            }
        })
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub at: Span,
    /// What is wrong, without a full stop: ``unknown option `colour` ``.
    pub what: String,
    /// What to do about it, without a full stop; may be empty.
    pub remedy: String,
}

impl ConfigError {
    /// An error at a place.
    pub fn new(at: Span, what: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        ConfigError { at, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

impl std::error::Error for ConfigError {}

/// The name among `known` that `word` was probably meant to be: equal but for case and separators, or at most a third of
/// its letters away. Of names of one or two letters any two are near, so such a word must have the letters of the name in
/// another order, or lack its last.
pub fn suggest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let fold = |s: &str| s.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let word = fold(word);
    let likely = |name: &str| {
        let name = fold(name);
        let swapped = name.len() == word.len() && word.chars().rev().eq(name.chars());
        word.len() > 2 || name == word || swapped || (!word.is_empty() && name[..name.len() - 1] == word)
    };
    let near = known.into_iter().filter(|name| !fold(name).is_empty() && likely(name));
    let (away, name) = near.map(|name| (distance(&word, &fold(name)), name)).min_by_key(|(away, _)| *away)?;
    (away <= word.len().max(3) / 3).then_some(name)
}

/// `did you mean x? ` or the list of what is known.
pub(crate) fn meant(word: &str, known: &[&str], noun: &str) -> String {
    match suggest(word, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => format!("there are no {noun} here"),
        None => format!("the {noun} are {}", known.join(", ")),
    }
}

/// Edits between two words: insertions, deletions, replacements, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut table = vec![0; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i * width + j] = match (i, j) {
                (0, n) | (n, 0) => n,
                _ => {
                    let at = |i: usize, j: usize| table[i * width + j];
                    let replaced = at(i - 1, j - 1) + usize::from(a[i - 1] != b[j - 1]);
                    let mut least = replaced.min(at(i - 1, j) + 1).min(at(i, j - 1) + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        least = least.min(at(i - 2, j - 2) + 1);
                    }
                    least
                }
            };
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let known = ["field", "fields", "on-error", "by"];
        for (word, meant) in [
            ("feild", Some("field")),
            ("Fields", Some("fields")),
            ("on_error", Some("on-error")),
            ("onEror", Some("on-error")),
            ("colour", None),
            ("yb", Some("by")),
            ("b", Some("by")),
            ("of", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(suggest(word, known), meant, "{word}");
        }
        assert_eq!(suggest("a", ["b", "of"]), None, "any two short names are near");
    }

    #[test]
    fn configurations_have_one_digest_if_they_say_the_same() {
        let digest = |json: serde_json::Value| Config::from(&json).digest("count");
        let one = digest(serde_json::json!({ "by": ["a", "b"], "max": 3 }));
        assert_eq!(one, digest(serde_json::json!({ "by": ["a", "b"], "max": 3 })));
        for other in [
            serde_json::json!({ "by": ["a", "b"], "max": 4 }),
            serde_json::json!({ "by": ["a", "c"], "max": 3 }),
            serde_json::json!({ "by": ["ab"], "max": 3 }),
            serde_json::json!({ "by": ["a", "b"], "max": "3" }),
            serde_json::json!({ "by": ["a", "b"] }),
        ] {
            assert_ne!(one, digest(other.clone()), "{other}");
        }
        assert_ne!(one, Config::from(&serde_json::json!({ "by": ["a", "b"], "max": 3 })).digest("sum"));
    }

    #[test]
    fn json_becomes_a_configuration_with_its_kinds_kept() {
        let json = serde_json::json!({ "a": [1, 1.5, "x", true, null] });
        let value = Config::from(&json).to_value();
        let items = vec![Value::I64(1), Value::F64(1.5), "x".into(), Value::Bool(true), Value::Null];
        assert_eq!(value, Value::map([("a", items)]));
    }
}
