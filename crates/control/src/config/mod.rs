//! Configuration: `squall.yaml`, `conf.d/*.yaml`, environment, flags; each later one counts more.
//!
//! Every value is known by its origin to the line. What is not a key, or no value for its key, is an error that says where it stands and what was
//! probably meant; all errors are found in one go. Nothing below looks a key up: daemons turn a [`Config`] into the options of their parts once.
//!
//! Deliberately absent: reading again while running, and variables within values.

mod keys;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use keys::{KEYS, Key, Kind, closest, find, variable};

/// Variables with this prefix set keys; another one with it is an error.
pub const ENV_PREFIX: &str = "SQUALL_CONFIG_";

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// A line of a file, from 1.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "${name}"),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {what}")]
pub struct ConfigError {
    /// Where.
    pub origin: Origin,
    /// What, and what to do.
    pub what: String,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `squall.yaml`; it must exist.
    pub file: Option<PathBuf>,
    /// `conf.d`; its `*.yaml` are read in the order of their names. It may be missing.
    pub folder: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Flags: the key, the value, and the flag as it was written.
    pub flags: Vec<(String, String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    text: String,
    origin: Origin,
}

/// All keys with their values.
#[derive(Clone, Debug)]
pub struct Config {
    values: BTreeMap<&'static str, Value>,
}

impl Config {
    /// Reads everything.
    ///
    /// # Errors
    /// All that is wrong, in the order it was met.
    pub fn load(sources: &Sources) -> Result<Config, Vec<ConfigError>> {
        let default = |key: &Key| (key.name, Value { text: key.default.into(), origin: Origin::Default });
        let mut config = Config { values: KEYS.iter().map(default).collect() };
        let mut errors = Vec::new();
        for path in files(sources, &mut errors) {
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    for (name, text, line) in yaml::flatten(&path, &text, &mut errors) {
                        config.set(&name, text, Origin::File(path.clone(), line), &mut errors);
                    }
                }
                Err(error) => errors.push(ConfigError { origin: Origin::File(path, 1), what: error.to_string() }),
            }
        }
        for (name, text) in sources.environment.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)) {
            let origin = Origin::Environment(name.clone());
            match KEYS.iter().find(|key| variable(key.name) == *name) {
                Some(key) => config.set(key.name, text.clone(), origin, &mut errors),
                None => {
                    let known: Vec<String> = KEYS.iter().map(|key| variable(key.name)).collect();
                    let what = unknown("variable", name, known.iter().map(String::as_str));
                    errors.push(ConfigError { origin, what });
                }
            }
        }
        for (name, text, flag) in &sources.flags {
            config.set(name, text.clone(), Origin::Flag(flag.clone()), &mut errors);
        }
        if errors.is_empty() { Ok(config) } else { Err(errors) }
    }

    fn set(&mut self, name: &str, text: String, origin: Origin, errors: &mut Vec<ConfigError>) {
        let Some(key) = find(name) else {
            let what = unknown("key", name, KEYS.iter().map(|key| key.name));
            return errors.push(ConfigError { origin, what });
        };
        match check(key, &text) {
            Ok(()) => drop(self.values.insert(key.name, Value { text, origin })),
            Err(what) => {
                let shown = if key.secret { "its value".to_owned() } else { format!("{text:?}") };
                errors.push(ConfigError { origin, what: format!("{name}: {shown} {what}") });
            }
        }
    }

    fn value(&self, name: &str) -> &Value {
        self.values.get(name).unwrap_or_else(|| panic!("{name} is no key"))
    }

    /// A text, a choice. `None` where it is empty. Panics if there is no such key, as the others do: names are written in programs only.
    pub fn text(&self, name: &str) -> Option<&str> {
        Some(self.value(name).text.as_str()).filter(|text| !text.is_empty())
    }

    /// A flag.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name).text == "true"
    }

    /// A number.
    pub fn integer(&self, name: &str) -> u64 {
        self.value(name).text.parse().expect("it was checked")
    }

    /// A time.
    pub fn duration(&self, name: &str) -> Duration {
        parse_duration(&self.value(name).text).expect("it was checked")
    }

    /// A size.
    pub fn bytes(&self, name: &str) -> u64 {
        parse_bytes(&self.value(name).text).expect("it was checked")
    }

    /// Texts.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.value(name).text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
    }

    /// Where a value comes from.
    pub fn origin(&self, name: &str) -> &Origin {
        &self.value(name).origin
    }

    /// As `squall config show` prints it: `key: value`, with `--origin` also from where. Secrets are not shown.
    pub fn show(&self, origins: bool) -> String {
        let line = |key: &Key| {
            let value = self.value(key.name);
            let text = match (key.secret, value.text.is_empty()) {
                (_, true) => "",
                (true, false) => "(set)",
                (false, false) => &value.text,
            };
            let left = format!("{}: {text}", key.name);
            if origins { format!("{left:<48} # {}\n", value.origin) } else { format!("{}\n", left.trim_end()) }
        };
        KEYS.iter().map(line).collect()
    }
}

/// The files there are, in order.
fn files(sources: &Sources, errors: &mut Vec<ConfigError>) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = sources.file.iter().cloned().collect();
    if let Some(folder) = &sources.folder {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let yaml = |path: &PathBuf| path.extension().is_some_and(|e| e == "yaml" || e == "yml");
                let mut more: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).filter(yaml).collect();
                more.sort();
                files.extend(more);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => errors.push(ConfigError { origin: Origin::File(folder.clone(), 1), what: error.to_string() }),
        }
    }
    files
}

fn unknown<'k>(noun: &str, name: &str, known: impl Iterator<Item = &'k str>) -> String {
    match closest(name, known) {
        Some(meant) => format!("there is no {noun} {name}: did you mean {meant}?"),
        None => format!("there is no {noun} {name}; `squall config show` lists all"),
    }
}

fn check(key: &Key, text: &str) -> Result<(), String> {
    match key.kind {
        Kind::Text | Kind::List => Ok(()),
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => Err(match closest(text, words.iter().copied()) {
            Some(meant) => format!("is none of {}: did you mean {meant}?", words.join(", ")),
            None => format!("is none of {}", words.join(", ")),
        }),
        Kind::Flag if matches!(text, "true" | "false") => Ok(()),
        Kind::Flag => Err("is neither true nor false".into()),
        Kind::Integer(low, high) => match text.parse::<u64>() {
            Ok(number) if (low..=high).contains(&number) => Ok(()),
            _ => Err(format!("is no whole number from {low} to {high}")),
        },
        Kind::Duration => parse_duration(text).map(drop).ok_or_else(|| "is no time: write 500ms, 2s, 5m or 1h".into()),
        Kind::Bytes => {
            parse_bytes(text).map(drop).ok_or_else(|| "is no size: write 64KiB, 512MiB, 2GiB or bytes".into())
        }
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..at].parse().ok()?, text[at..].trim()))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1u64 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The usual places: `squall.yaml` and `conf.d` in a folder, the environment of this process.
pub fn usual_sources(folder: &Path) -> Sources {
    let file = Some(folder.join("squall.yaml")).filter(|path| path.exists());
    Sources { file, folder: Some(folder.join("conf.d")), environment: std::env::vars().collect(), flags: Vec::new() }
}

#[cfg(test)]
mod tests;
