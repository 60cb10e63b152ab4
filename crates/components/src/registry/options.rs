//! What can be configured: the description of an option, and the check of a whole configuration against descriptions.
//!
//! The check finds everything that is wrong at once. A factory reads from [`Options`] what passed it, by the types that it
//! declared; asking for an option that was not declared, or as another type, is a mistake in the component and panics.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use squall::Value;

use super::config::{Config, ConfigError, Given, Node, Span, meant, suggest};
use super::units::{parse_duration, parse_size, show_duration, show_size};

/// What may be written for an option.
#[derive(Debug, Clone, PartialEq)]
pub enum OptionType {
    /// Any text.
    Text,
    /// The name of a field of the input.
    Field,
    /// An expression over the fields of the input.
    Expression,
    /// A file or folder; relative ones start at the working directory.
    Path,
    /// An integer from `min` to `max`, both included.
    Integer {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// A number from `min` to `max`, both included.
    Float {
        /// Least.
        min: f64,
        /// Greatest.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// A time such as `10ms`.
    Duration {
        /// Least.
        min: Duration,
        /// Greatest.
        max: Duration,
    },
    /// A size such as `64 MiB`, or a number of bytes.
    Size {
        /// Least, bytes.
        min: u64,
        /// Greatest, bytes.
        max: u64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Values in order; a single one may be written without the list.
    List(Box<OptionType>),
    /// Values by name, in the order in which they are written.
    Map(Box<OptionType>),
    /// Anything: becomes a value of a tuple.
    Any,
}

/// What an option is when it is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Default {
    /// It must be given.
    Required,
    /// It has no value; the help says what that means. Lists and maps are empty.
    None,
    /// This, as it would be written.
    Is(&'static str),
}

/// One option of a component.
#[derive(Debug, Clone, PartialEq)]
pub struct OptionSpec {
    /// Its key.
    pub name: &'static str,
    /// What may be written for it.
    pub ty: OptionType,
    /// What it is when left out.
    pub default: Default,
    /// What it does, in a sentence or two.
    pub help: &'static str,
}

impl OptionSpec {
    /// An option that must be given.
    pub fn required(name: &'static str, ty: OptionType, help: &'static str) -> OptionSpec {
        OptionSpec { name, ty, default: Default::Required, help }
    }

    /// An option that may be left out, which the help explains.
    pub fn optional(name: &'static str, ty: OptionType, help: &'static str) -> OptionSpec {
        OptionSpec { name, ty, default: Default::None, help }
    }

    /// An option with a default, written as a user would.
    pub fn with_default(name: &'static str, ty: OptionType, default: &'static str, help: &'static str) -> OptionSpec {
        OptionSpec { name, ty, default: Default::Is(default), help }
    }
}

impl OptionType {
    /// A list of these.
    pub fn list(of: OptionType) -> OptionType {
        OptionType::List(Box::new(of))
    }

    /// A map to these.
    pub fn map(of: OptionType) -> OptionType {
        OptionType::Map(Box::new(of))
    }

    /// An integer of at least `min`.
    pub fn at_least(min: i64) -> OptionType {
        OptionType::Integer { min, max: i64::MAX }
    }

    /// An integer between these, both included.
    pub fn integer(min: i64, max: i64) -> OptionType {
        OptionType::Integer { min, max }
    }

    /// A time of at least a millisecond and at most ten years.
    pub fn duration() -> OptionType {
        OptionType::Duration { min: Duration::from_millis(1), max: Duration::from_secs(315_360_000) }
    }

    /// A size between these, both included.
    pub fn size(min: u64, max: u64) -> OptionType {
        OptionType::Size { min, max }
    }

    /// The kind in one word, for tables and JSON: `string`, `integer`, `duration`, `list of field` …
    pub fn word(&self) -> String {
        match self {
            OptionType::Text => "string".into(),
            OptionType::Field => "field".into(),
            OptionType::Expression => "expression".into(),
            OptionType::Path => "path".into(),
            OptionType::Integer { .. } => "integer".into(),
            OptionType::Float { .. } => "float".into(),
            OptionType::Bool => "bool".into(),
            OptionType::Duration { .. } => "duration".into(),
            OptionType::Size { .. } => "size".into(),
            OptionType::Word(_) => "word".into(),
            OptionType::List(of) => format!("list of {}", of.word()),
            OptionType::Map(of) => format!("map of {}", of.word()),
            OptionType::Any => "any".into(),
        }
    }
}

/// The kind with its range: `integer, 1 to 64`, `one of fail, skip`.
impl fmt::Display for OptionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionType::Integer { min: i64::MIN, max: i64::MAX } => f.write_str("integer"),
            OptionType::Integer { min, max: i64::MAX } => write!(f, "integer, at least {min}"),
            OptionType::Integer { min, max } => write!(f, "integer, {min} to {max}"),
            OptionType::Float { min, max } if min.is_finite() && max.is_finite() => write!(f, "float, {min} to {max}"),
            OptionType::Float { min, .. } if min.is_finite() => write!(f, "float, at least {min}"),
            OptionType::Duration { min, .. } => {
                write!(f, "duration such as 10ms, at least {}", show_duration(*min))
            }
            OptionType::Size { min, max } => {
                write!(f, "size such as 64 MiB, {} to {}", show_size(*min), show_size(*max))
            }
            OptionType::Word(words) => write!(f, "one of {}", words.join(", ")),
            OptionType::List(of) => write!(f, "list of ({of})"),
            OptionType::Map(of) => write!(f, "map from names to ({of})"),
            other => f.write_str(&other.word()),
        }
    }
}

/// A configuration that passed the check, by option.
#[derive(Debug, Clone)]
pub struct Options {
    at: Span,
    values: Vec<(&'static str, Option<Checked>)>,
}

#[derive(Debug, Clone)]
struct Checked {
    at: Span,
    value: CheckedValue,
}

#[derive(Debug, Clone)]
enum CheckedValue {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Duration(Duration),
    Size(u64),
    Word(&'static str),
    List(Vec<Checked>),
    Map(Vec<(Given<String>, Checked)>),
    Any(Value),
}

/// Checks a configuration, a map from options to values, against their descriptions. `at` is where the component stands:
/// what is missing is missing there.
///
/// # Errors
/// Everything that is wrong with it, in the order in which it was written.
pub fn check(specs: &[OptionSpec], config: &Config, at: Span) -> Result<Options, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let no_pairs = Vec::new();
    let pairs = match &config.node {
        Node::Map(pairs) => pairs,
        Node::Null => &no_pairs,
        other => {
            let what = format!("the configuration is {}", other.kind());
            return Err(vec![ConfigError::new(config.at, what, "write a map from options to values")]);
        }
    };
    let mut values: Vec<(&'static str, Option<Checked>)> = specs.iter().map(|s| (s.name, None)).collect();
    let mut seen = vec![false; specs.len()];
    let mut misspelt: Vec<&str> = Vec::new();
    let known: Vec<&str> = specs.iter().map(|s| s.name).collect();
    for (key, value) in pairs {
        let Some(ix) = specs.iter().position(|s| s.name == key.value) else {
            let what = format!("unknown option `{}`", key.value);
            errors.push(ConfigError::new(key.at, what, meant(key, &known, "options")));
            // The option that was probably meant is misspelt, not missing: one error is enough.
            misspelt.extend(suggest(key, known.iter().copied()));
            continue;
        };
        if std::mem::replace(&mut seen[ix], true) {
            let what = format!("option `{}` is given twice", key.value);
            errors.push(ConfigError::new(key.at, what, "keep one of them"));
            continue;
        }
        if value.node != Node::Null {
            values[ix].1 = checked(&specs[ix].ty, specs[ix].name, value, &mut errors);
        } else {
            seen[ix] = false;
        }
    }
    for ((spec, value), seen) in specs.iter().zip(&mut values).zip(seen) {
        if seen {
            continue;
        }
        match spec.default {
            Default::Required if misspelt.contains(&spec.name) => {}
            Default::Required => {
                let what = format!("option `{}` is missing", spec.name);
                let article = if "aeiou".contains(&spec.ty.word()[..1]) { "an" } else { "a" };
                let remedy = format!("give it {article} {}: {}", spec.ty, lower_first(spec.help));
                errors.push(ConfigError::new(at, what, remedy));
            }
            Default::None => {}
            Default::Is(text) => {
                let config = Config { at, node: default_node(&spec.ty, text) };
                value.1 = checked(&spec.ty, spec.name, &config, &mut errors);
            }
        }
    }
    if errors.is_empty() { Ok(Options { at, values }) } else { Err(errors) }
}

fn lower_first(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_lowercase().collect::<String>() + chars.as_str())
}

fn default_node(ty: &OptionType, text: &str) -> Node {
    match ty {
        OptionType::Integer { .. } => text.parse().map_or_else(|_| Node::Text(text.into()), Node::Int),
        OptionType::Float { .. } => text.parse().map_or_else(|_| Node::Text(text.into()), Node::Float),
        OptionType::Bool => text.parse().map_or_else(|_| Node::Text(text.into()), Node::Bool),
        _ => Node::Text(text.into()),
    }
}

fn checked(ty: &OptionType, name: &str, config: &Config, errors: &mut Vec<ConfigError>) -> Option<Checked> {
    let at = config.at;
    let mut refuse = |what: String, remedy: String| {
        errors.push(ConfigError::new(at, what, remedy));
        None
    };
    let value = match (ty, &config.node) {
        (OptionType::Any, _) => Some(CheckedValue::Any(config.to_value())),
        (OptionType::List(of), Node::List(items)) => {
            let before = errors.len();
            let items: Vec<_> = items.iter().filter_map(|item| checked(of, name, item, errors)).collect();
            (errors.len() == before).then_some(CheckedValue::List(items))
        }
        (OptionType::List(of), Node::Map(_)) if !matches!(**of, OptionType::Map(_) | OptionType::Any) => {
            refuse(format!("`{name}` is a map"), format!("write a {ty}"))
        }
        (OptionType::List(of), _) => checked(of, name, config, errors).map(|one| CheckedValue::List(vec![one])),
        (OptionType::Map(of), Node::Map(pairs)) => {
            let before = errors.len();
            let mut entries: Vec<(Given<String>, Checked)> = Vec::new();
            for (key, value) in pairs {
                if entries.iter().any(|(k, _)| k.value == key.value) {
                    let what = format!("`{}` is given twice in `{name}`", key.value);
                    errors.push(ConfigError::new(key.at, what, "keep one of them"));
                } else if let Some(value) = checked(of, name, value, errors) {
                    entries.push((key.clone(), value));
                }
            }
            (errors.len() == before).then_some(CheckedValue::Map(entries))
        }
        (OptionType::Text | OptionType::Field | OptionType::Path | OptionType::Expression, Node::Text(s)) => {
            if s.is_empty() && *ty != OptionType::Text {
                refuse(format!("`{name}` is empty"), format!("write a {ty}"))
            } else {
                Some(CheckedValue::Text(s.clone()))
            }
        }
        // `when: true` is a fine expression.
        (OptionType::Expression, Node::Bool(_) | Node::Int(_) | Node::Float(_)) => {
            Some(CheckedValue::Text(literal(&config.node)))
        }
        (OptionType::Text | OptionType::Field | OptionType::Path, Node::Bool(_) | Node::Int(_) | Node::Float(_)) => {
            let text = literal(&config.node);
            refuse(format!("`{name}` is {}, not a text", config.node.kind()), format!("write it in quotes: \"{text}\""))
        }
        (OptionType::Integer { min, max }, Node::Int(n)) => {
            if n < min || n > max {
                refuse(format!("`{name}` is {n}, out of its range"), format!("write an {ty}"))
            } else {
                Some(CheckedValue::Int(*n))
            }
        }
        (OptionType::Float { min, max }, Node::Int(_) | Node::Float(_)) => {
            let x = if let Node::Int(n) = config.node { n as f64 } else { float_of(&config.node) };
            if x >= *min && x <= *max {
                Some(CheckedValue::Float(x))
            } else {
                refuse(format!("`{name}` is {x}, out of its range"), format!("write a {ty}"))
            }
        }
        (OptionType::Bool, Node::Bool(b)) => Some(CheckedValue::Bool(*b)),
        (OptionType::Duration { min, max }, Node::Text(s)) => match parse_duration(s) {
            Some(d) if d >= *min && d <= *max => Some(CheckedValue::Duration(d)),
            Some(_) => refuse(format!("`{name}` is {s}, out of its range"), format!("write a {ty}")),
            None => {
                let remedy = "write a number with ns, us, ms, s, m or h, such as 10ms";
                refuse(format!("`{name}` is `{s}`, which is no duration"), remedy.into())
            }
        },
        (OptionType::Duration { .. }, Node::Int(_) | Node::Float(_)) => {
            let n = literal(&config.node);
            refuse(format!("`{name}` is {n} without a unit"), format!("add the unit, for example {n}ms or {n}s"))
        }
        (OptionType::Size { min, max }, Node::Text(_) | Node::Int(_)) => {
            let text = literal(&config.node);
            match parse_size(&text) {
                Some(bytes) if bytes >= *min && bytes <= *max => Some(CheckedValue::Size(bytes)),
                Some(_) => refuse(format!("`{name}` is {text}, out of its range"), format!("write a {ty}")),
                None => {
                    let remedy = "write bytes, or a number with KiB, MiB, GiB, kB, MB or GB, such as 64 MiB";
                    refuse(format!("`{name}` is `{text}`, which is no size"), remedy.into())
                }
            }
        }
        (OptionType::Word(words), Node::Text(s)) => match words.iter().find(|w| *w == s) {
            Some(word) => Some(CheckedValue::Word(word)),
            None => refuse(format!("`{name}` cannot be `{s}`"), meant(s, words, "words for it")),
        },
        // YAML 1.1 readers and people who write `on:` unquoted.
        (OptionType::Word(words), Node::Bool(_)) => {
            refuse(format!("`{name}` is a boolean"), format!("write one of {}", words.join(", ")))
        }
        (_, node) => refuse(format!("`{name}` is {}", node.kind()), format!("write {}", with_article(ty))),
    };
    value.map(|value| Checked { at, value })
}

fn with_article(ty: &OptionType) -> String {
    let text = ty.to_string();
    let article = if text.starts_with("one of") {
        ""
    } else if text.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an "
    } else {
        "a "
    };
    format!("{article}{text}")
}

fn float_of(node: &Node) -> f64 {
    if let Node::Float(x) = node { *x } else { f64::NAN }
}

fn literal(node: &Node) -> String {
    match node {
        Node::Bool(b) => b.to_string(),
        Node::Int(n) => n.to_string(),
        Node::Float(x) => x.to_string(),
        Node::Text(s) => s.clone(),
        _ => String::new(),
    }
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident / $optional:ident / $list:ident: $ty:ty = $pattern:pat => $value:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Panics
        /// If the option was not declared so, or is optional and left out.
        pub fn $name(&self, name: &str) -> Given<$ty> {
            self.$optional(name).unwrap_or_else(|| panic!("option `{name}` has neither a value nor a default"))
        }

        $(#[$doc])*
        ///
        /// `None` if it was left out.
        ///
        /// # Panics
        /// If the option was not declared so.
        pub fn $optional(&self, name: &str) -> Option<Given<$ty>> {
            self.find(name).map(|checked| match &checked.value {
                $pattern => Given { at: checked.at, value: $value },
                other => panic!("option `{name}` is declared otherwise: {other:?}"),
            })
        }

        $(#[$doc])*
        ///
        /// A list of them; empty if it was left out.
        ///
        /// # Panics
        /// If the option was not declared so.
        pub fn $list(&self, name: &str) -> Vec<Given<$ty>> {
            let one = |checked: &Checked| match &checked.value {
                $pattern => Given { at: checked.at, value: $value },
                other => panic!("option `{name}` is declared otherwise: {other:?}"),
            };
            self.list(name).iter().map(one).collect()
        }
    )*};
}

impl Options {
    /// Where the component stands.
    pub fn at(&self) -> Span {
        self.at
    }

    fn find(&self, name: &str) -> Option<&Checked> {
        let found = self.values.iter().find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("option `{name}` was not declared")).1.as_ref()
    }

    fn list(&self, name: &str) -> &[Checked] {
        match self.find(name).map(|c| &c.value) {
            None => &[],
            Some(CheckedValue::List(items)) => items,
            Some(other) => panic!("option `{name}` is declared otherwise: {other:?}"),
        }
    }

    getters! {
        /// A text, field name, path or expression.
        text / maybe_text / texts: String = CheckedValue::Text(s) => s.clone();
        /// A path.
        path / maybe_path / paths: PathBuf = CheckedValue::Text(s) => PathBuf::from(s);
        /// An integer.
        integer / maybe_integer / integers: i64 = CheckedValue::Int(n) => *n;
        /// A number.
        float / maybe_float / floats: f64 = CheckedValue::Float(x) => *x;
        /// A boolean.
        flag / maybe_flag / flags: bool = CheckedValue::Bool(b) => *b;
        /// A time.
        duration / maybe_duration / durations: Duration = CheckedValue::Duration(d) => *d;
        /// A size, bytes.
        size / maybe_size / sizes: u64 = CheckedValue::Size(n) => *n;
        /// One of the declared words.
        word / maybe_word / words: &'static str = CheckedValue::Word(w) => *w;
        /// Any value.
        any / maybe_any / anys: Value = CheckedValue::Any(v) => v.clone();
    }

    /// A non-negative integer as a `usize`.
    ///
    /// # Panics
    /// As [`Options::integer`], and if it is negative.
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.integer(name).value).unwrap_or_else(|_| panic!("option `{name}` may be negative"))
    }

    /// A map of texts (expressions, fields …), in the order in which it was written; empty if it was left out.
    ///
    /// # Panics
    /// If the option was not declared so.
    pub fn text_map(&self, name: &str) -> Vec<(Given<String>, Given<String>)> {
        self.map(name, |value| match value {
            CheckedValue::Text(s) => s.clone(),
            other => panic!("option `{name}` is declared otherwise: {other:?}"),
        })
    }

    /// A map of declared words, in the order in which it was written; empty if it was left out.
    ///
    /// # Panics
    /// If the option was not declared so.
    pub fn word_map(&self, name: &str) -> Vec<(Given<String>, Given<&'static str>)> {
        self.map(name, |value| match value {
            CheckedValue::Word(w) => *w,
            other => panic!("option `{name}` is declared otherwise: {other:?}"),
        })
    }

    /// A map of any values, in the order in which it was written; empty if it was left out.
    ///
    /// # Panics
    /// If the option was not declared so.
    pub fn any_map(&self, name: &str) -> Vec<(Given<String>, Given<Value>)> {
        self.map(name, |value| match value {
            CheckedValue::Any(v) => v.clone(),
            other => panic!("option `{name}` is declared otherwise: {other:?}"),
        })
    }

    fn map<T>(&self, name: &str, one: impl Fn(&CheckedValue) -> T) -> Vec<(Given<String>, Given<T>)> {
        match self.find(name).map(|c| &c.value) {
            None => Vec::new(),
            Some(CheckedValue::Map(entries)) => {
                let entry =
                    |(key, c): &(Given<String>, Checked)| (key.clone(), Given { at: c.at, value: one(&c.value) });
                entries.iter().map(entry).collect()
            }
            Some(other) => panic!("option `{name}` is declared otherwise: {other:?}"),
        }
    }
}
