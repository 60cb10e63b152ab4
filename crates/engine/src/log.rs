//! Which log lines of components are wanted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How important a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is off but the work goes on.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
}

/// Names of levels as filters spell them; `off` lets nothing through.
const LEVELS: [(&str, Option<Level>); 5] = [
    ("off", None),
    ("error", Some(Level::Error)),
    ("warn", Some(Level::Warn)),
    ("info", Some(Level::Info)),
    ("debug", Some(Level::Debug)),
];

/// What components may log: a level for all of them, and others for some. Written as `info`, `warn,split=debug` or
/// `off,count=info`: parts divided by commas, each a level, or a component's name and its level. The default is `info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    all: Option<Level>,
    /// In the order in which they were written.
    components: Vec<(String, Option<Level>)>,
}

/// A filter that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; write a level (off, error, warn, info, debug), COMPONENT=LEVEL, or several of them: warn,split=debug")]
pub struct BadLogFilter {
    what: String,
}

impl LogFilter {
    /// Lets everything through.
    pub fn all() -> LogFilter {
        LogFilter { all: Some(Level::Debug), components: Vec::new() }
    }

    /// The least important level that is wanted of a component; `None`: nothing is.
    pub fn most(&self, component: &str) -> Option<Level> {
        let own = self.components.iter().find(|(name, _)| name == component);
        own.map_or(self.all, |(_, level)| *level)
    }

    /// The components that have a level of their own.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.components.iter().map(|(name, _)| name.as_str())
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        LogFilter { all: Some(Level::Info), components: Vec::new() }
    }
}

fn level(text: &str) -> Option<Option<Level>> {
    LEVELS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, level)| *level)
}

impl FromStr for LogFilter {
    type Err = BadLogFilter;

    fn from_str(text: &str) -> Result<LogFilter, BadLogFilter> {
        let refuse = |what: String| Err(BadLogFilter { what });
        let mut filter = LogFilter::default();
        let mut all_given = false;
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                None => match level(part) {
                    _ if part.is_empty() => return refuse("a part of the filter is empty".into()),
                    Some(_) if all_given => return refuse(format!("`{part}` is a second level for all components")),
                    Some(level) => (filter.all, all_given) = (level, true),
                    None => return refuse(format!("`{part}` is no level")),
                },
                Some((name, word)) => {
                    let (name, word) = (name.trim(), word.trim());
                    let Some(level) = level(word) else {
                        return refuse(format!("`{word}` is no level for `{name}`"));
                    };
                    if name.is_empty() {
                        return refuse(format!("`{part}` names no component"));
                    }
                    if filter.components().any(|known| known == name) {
                        return refuse(format!("`{name}` has two levels"));
                    }
                    filter.components.push((name.to_owned(), level));
                }
            }
        }
        Ok(filter)
    }
}

/// As it is written.
impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |level| LEVELS.iter().find(|(_, known)| *known == level).map_or("", |(name, _)| name);
        f.write_str(word(self.all))?;
        self.components.iter().try_for_each(|(name, level)| write!(f, ",{name}={}", word(*level)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_its_own_level_or_that_of_all() {
        let filter: LogFilter = "warn, split=debug,count=off".parse().unwrap();
        assert_eq!(filter.most("lines"), Some(Level::Warn));
        assert_eq!(filter.most("split"), Some(Level::Debug));
        assert_eq!(filter.most("count"), None);
        assert_eq!(filter.to_string(), "warn,split=debug,count=off");
        let filter: LogFilter = "count=error".parse().unwrap();
        assert_eq!((filter.most("lines"), filter.most("count")), (Some(Level::Info), Some(Level::Error)));
        assert_eq!("OFF".parse::<LogFilter>().unwrap().most("lines"), None);
    }

    #[test]
    fn a_bad_filter_is_refused_with_what_to_write() {
        for (text, what) in [
            ("", "a part of the filter is empty;"),
            ("info,", "a part of the filter is empty;"),
            ("loud", "`loud` is no level;"),
            ("split=loud", "`loud` is no level for `split`;"),
            ("=info", "`=info` names no component;"),
            ("info,warn", "`warn` is a second level for all components;"),
            ("a=info,a=warn", "`a` has two levels;"),
        ] {
            let refused = text.parse::<LogFilter>().unwrap_err().to_string();
            assert!(refused.starts_with(what), "{text}: {refused}");
            assert!(refused.ends_with("warn,split=debug"), "{refused}");
        }
    }
}
