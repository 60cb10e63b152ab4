//! A YAML file as keys with dots: `supervisor: {slots: 4}` and `supervisor.slots: 4` are the same.

use std::path::Path;

use saphyr_parser::{Event, Parser, Span, StrInput};

use super::{ConfigError, Origin};

/// Levels of maps, at most; keys have two.
const DEPTH: usize = 8;

/// Keys, values and lines, in order. A key that comes twice is an error.
pub(super) fn flatten(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<(String, String, usize)> {
    let mut reader = Reader { events: Parser::new_from_str(text), found: Vec::new() };
    if let Err((line, what)) = reader.document() {
        errors.push(ConfigError { origin: Origin::File(path.to_owned(), line), what });
    }
    let found = reader.found;
    for (at, (name, _, line)) in found.iter().enumerate() {
        if let Some((_, _, first)) = found[..at].iter().find(|(other, ..)| other == name) {
            let what = format!("{name} was set in line {first} already");
            errors.push(ConfigError { origin: Origin::File(path.to_owned(), *line), what });
        }
    }
    found
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    found: Vec<(String, String, usize)>,
}

type Fault = (usize, String);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, usize), Fault> {
        let line = |span: &Span| span.start.line();
        match self.events.next_event() {
            Some(Ok((event, span))) => Ok((event, line(&span))),
            Some(Err(error)) => Err((error.marker().line(), format!("this is not YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, 1)),
        }
    }

    fn document(&mut self) -> Result<(), Fault> {
        let mut documents = 0;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentStart(_), line) => {
                    documents += 1;
                    if documents > 1 {
                        return Err((line, "a second document: a file has one".into()));
                    }
                }
                (Event::MappingStart(..), line) => self.map("", 0, line)?,
                // An empty file, or one with comments only.
                (Event::Scalar(text, ..), _) if text.is_empty() || text == "~" => {}
                (Event::Scalar(..) | Event::SequenceStart(..) | Event::Alias(_), line) => {
                    return Err((line, "a configuration is a map of keys".into()));
                }
                _ => {}
            }
        }
    }

    fn map(&mut self, prefix: &str, depth: usize, line: usize) -> Result<(), Fault> {
        if depth == DEPTH {
            return Err((line, format!("maps nest more than {DEPTH} levels deep")));
        }
        loop {
            let (name, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(()),
                (Event::Scalar(text, ..), line) => (format!("{prefix}{text}"), line),
                (_, line) => return Err((line, "a key is a word".into())),
            };
            match self.next()? {
                (Event::Scalar(text, ..), _) => {
                    let text = if text == "~" || text == "null" { String::new() } else { text.into_owned() };
                    self.found.push((name, text, line));
                }
                (Event::MappingStart(..), line) => self.map(&format!("{name}."), depth + 1, line)?,
                (Event::SequenceStart(..), _) => {
                    let items = self.list()?;
                    self.found.push((name, items.join(","), line));
                }
                (_, line) => {
                    return Err((
                        line,
                        format!("{name}: neither a value nor a map nor a list; aliases have no place here"),
                    ));
                }
            }
        }
    }

    fn list(&mut self) -> Result<Vec<String>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (Event::Scalar(text, ..), _) => items.push(text.into_owned()),
                (_, line) => return Err((line, "a list holds plain values".into())),
            }
        }
    }
}
