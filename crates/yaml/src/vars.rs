//! Variables of a file: `${NAME}` from property files and definitions, `${ENV-NAME}` from the environment, either with a
//! default: `${NAME:-8}`. `$${` stands for `${` itself. `${DIR}` is the folder of the topology's file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::diag::{Diagnostic, Diagnostics};
use crate::names;
use crate::source::Span;

/// Values for the variables of a file.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    properties: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
}

/// A line of a property file, or a definition, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadProperty(String);

impl std::fmt::Display for BadProperty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadProperty {}

impl Variables {
    /// No properties, and the environment of this process. What is not UTF-8 there cannot be named and is left out.
    pub fn from_env() -> Variables {
        let environment = std::env::vars_os();
        let text = environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Variables { environment: text.collect(), ..Variables::default() }
    }

    /// Defines a property. A later definition wins.
    pub fn define(&mut self, name: &str, value: &str) {
        self.properties.insert(name.to_owned(), value.to_owned());
    }

    /// Defines `DIR` unless it is defined.
    pub(crate) fn default_folder(&mut self, folder: &Path) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        self.properties.entry("DIR".into()).or_insert_with(|| folder.display().to_string());
    }

    /// Defines a property from `NAME=VALUE`.
    ///
    /// # Errors
    /// If there is no `=`, or no name before it.
    pub fn define_text(&mut self, text: &str) -> Result<(), BadProperty> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                self.define(name.trim(), value);
                Ok(())
            }
            _ => Err(BadProperty(format!("`{text}` defines nothing: write NAME=VALUE"))),
        }
    }

    /// Reads a property file: a `name=value` (or `name: value`) a line, `#` or `!` before a comment.
    ///
    /// # Errors
    /// If the file cannot be read, or a line is something else.
    pub fn read_properties(&mut self, path: &Path) -> Result<(), BadProperty> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| BadProperty(format!("the property file {shown} cannot be read: {e}; name another")))?;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            match line.split_once(['=', ':']) {
                Some((name, value)) if !name.trim().is_empty() => self.define(name.trim(), value.trim()),
                _ => {
                    let line_number = at + 1;
                    return Err(BadProperty(format!(
                        "{shown}:{line_number}: `{line}` is no property: write name=value"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The text with its variables replaced; `None` if there is nothing to replace. A variable without a value is an error
    /// and stays as it is.
    pub(crate) fn expand(&self, text: &str, span: Span, diagnostics: &mut Diagnostics) -> Option<String> {
        text.contains("${").then(|| {
            let mut expanded = String::with_capacity(text.len());
            let mut rest = text;
            while let Some(at) = rest.find("${") {
                let (before, from) = rest.split_at(at);
                if let Some(before) = before.strip_suffix('$') {
                    expanded.push_str(before);
                    expanded.push_str("${");
                    rest = &from[2..];
                    continue;
                }
                expanded.push_str(before);
                let Some(end) = closing(from) else {
                    let error = Diagnostic::error(span, "a `${` is not closed");
                    diagnostics
                        .push_unknown(error.help("close it with `}`, or write `$${` for the characters themselves"));
                    rest = from;
                    break;
                };
                self.put(&from[2..end], span, diagnostics, &mut expanded);
                rest = &from[end + 1..];
            }
            expanded.push_str(rest);
            expanded
        })
    }

    /// Puts in what stands between the braces of a variable: its value, or else its default, which may have variables, too.
    fn put(&self, inside: &str, span: Span, diagnostics: &mut Diagnostics, expanded: &mut String) {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        match (self.value(name), default) {
            (Some(value), _) => expanded.push_str(value),
            (None, Some(default)) => match self.expand(default, span, diagnostics) {
                Some(value) => expanded.push_str(&value),
                None => expanded.push_str(default),
            },
            (None, None) => {
                diagnostics.push_unknown(self.undefined(name, span));
                expanded.push_str(&format!("${{{inside}}}"));
            }
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        match name.strip_prefix("ENV-") {
            Some(name) => self.environment.get(name),
            None => self.properties.get(name),
        }
        .map(String::as_str)
    }

    fn undefined(&self, name: &str, span: Span) -> Diagnostic {
        let error = Diagnostic::error(span, format!("the variable `${{{name}}}` has no value"));
        match name.strip_prefix("ENV-") {
            Some(env) => error.help(format!("set {env} in the environment, or write a default: `${{{name}:-value}}`")),
            None => match names::closest(name, self.properties.keys().map(String::as_str)) {
                Some(close) => error.help(format!("did you mean `${{{close}}}`?")),
                None => error.help(format!(
                    "define it with `-D {name}=value` or `--properties FILE`, or write a default: `${{{name}:-value}}`"
                )),
            },
        }
    }
}

/// Where the brace of a variable that begins a text closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Sources;

    fn expand(vars: &Variables, text: &str) -> (Option<String>, usize) {
        let mut sources = Sources::default();
        let file = sources.add("f.yaml".into(), text.into());
        let mut diagnostics = Diagnostics::default();
        let span = Span { file, start: 0, end: text.len() as u32 };
        (vars.expand(text, span, &mut diagnostics), diagnostics.iter().count())
    }

    #[test]
    fn variables_come_from_properties_and_the_environment_and_have_defaults() {
        let mut vars = Variables::default();
        vars.define("n", "4");
        vars.environment.insert("HOME".into(), "/root".into());
        assert_eq!(expand(&vars, "plain $ text"), (None, 0));
        assert_eq!(expand(&vars, "${n}"), (Some("4".into()), 0));
        assert_eq!(expand(&vars, "${ENV-HOME}/x-${n}.${m:-8}"), (Some("/root/x-4.8".into()), 0));
        assert_eq!(expand(&vars, "${n:-9}${m:-}"), (Some("4".into()), 0));
        assert_eq!(expand(&vars, "${m:-${n}/${o:-x}}."), (Some("4/x.".into()), 0));
        assert_eq!(expand(&vars, "$${n} is ${n}"), (Some("${n} is 4".into()), 0));
    }

    #[test]
    fn a_variable_without_a_value_or_an_end_is_an_error() {
        let vars = Variables::default();
        assert_eq!(expand(&vars, "${n} ${ENV-N}"), (Some("${n} ${ENV-N}".into()), 2));
        assert_eq!(expand(&vars, "a${n"), (Some("a${n".into()), 1));
        assert_eq!(expand(&vars, "${m:-${n}}"), (Some("${n}".into()), 1));
    }

    #[test]
    fn property_files_have_comments_and_two_separators() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("p.properties");
        std::fs::write(&path, "# comment\n! too\n\nkafka.host = a:9092\ncount: 3\n").expect("written");
        let mut vars = Variables::default();
        vars.read_properties(&path).expect("read");
        assert_eq!(vars.value("kafka.host"), Some("a:9092"));
        assert_eq!(vars.value("count"), Some("3"));
        std::fs::write(&path, "ok=1\nnonsense\n").expect("written");
        let error = vars.read_properties(&path).expect_err("refused").to_string();
        assert!(error.ends_with("p.properties:2: `nonsense` is no property: write name=value"), "{error}");
    }
}
