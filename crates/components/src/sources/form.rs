//! What a source makes of a piece of text: a row of the text itself, of a JSON object's keys, or of a CSV record's columns.

use std::sync::Arc;

use squall::{BoltError, Context, Emit, MessageId, Row, RowRef, RowStream, RowStreams, SpoutError, Value, ValueRef};

use crate::expression::Evaluated;
use crate::giving_up::{GiveUp, emit_letter};
use crate::registry::{ConfigError, OptionSpec, OptionType, Options, Place};
use crate::rows::{BadInput, Cells, OnError, emit_as, on_error, on_error_option, parse_object, stream};
use crate::transform::{Column, CsvFields};

/// What a source's text becomes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Form {
    /// One field, `text`.
    #[default]
    Text,
    /// A JSON object: these keys become fields, null where it lacks one.
    Json(Vec<String>),
    /// A CSV record with exactly these columns.
    Csv {
        /// Names and kinds of the columns.
        columns: Vec<(String, Column)>,
        /// What stands between fields: one ASCII character.
        delimiter: u8,
    },
}

impl Form {
    /// The streams of a source of such texts. Dead letters are texts, whatever they were to become.
    pub(crate) fn streams(&self, on_error: OnError, give_up: GiveUp) -> Vec<RowStream> {
        let fields: Vec<String> = match self {
            Form::Text => vec!["text".into()],
            Form::Json(fields) => fields.clone(),
            Form::Csv { columns, .. } => columns.iter().map(|(name, _)| name.clone()).collect(),
        };
        let text = ["text".to_owned()];
        give_up.streams(on_error.streams(vec![stream(fields)], &text), &text)
    }

    /// Refuses fields of one name.
    pub(crate) fn check(&self, place: &Place<'_>) -> Result<(), Vec<ConfigError>> {
        let streams = self.streams(OnError::Fail, GiveUp::default());
        crate::state::distinct_names(&streams[0].fields, place.span())
    }

    pub(crate) fn reader(self: &Arc<Self>, on_error: OnError) -> FormReader {
        let record = if let Form::Csv { delimiter, .. } = &**self { Some(CsvFields::new(*delimiter)) } else { None };
        FormReader { form: self.clone(), record, values: Vec::new(), bad: BadInput::new(on_error) }
    }
}

/// One task's reading of texts.
pub(crate) struct FormReader {
    form: Arc<Form>,
    record: Option<CsvFields>,
    values: Vec<Value>,
    bad: BadInput,
}

impl FormReader {
    pub(crate) fn prepare(&mut self, ctx: &Context) {
        self.bad.prepare(ctx);
    }

    /// Emits what the text becomes. An empty line is no JSON object and no record, and is passed over.
    #[inline]
    pub(crate) fn emit(&mut self, text: &str, out: &mut RowStreams) -> Result<(), SpoutError> {
        self.emit_as(None, text, out).map(drop)
    }

    /// As [`FormReader::emit`], with an id. `false`: nothing was emitted, so that nobody will end it.
    #[inline]
    pub(crate) fn emit_as(
        &mut self,
        id: Option<MessageId>,
        text: &str,
        out: &mut RowStreams,
    ) -> Result<bool, SpoutError> {
        let parsed = match &*self.form {
            Form::Text => {
                match id {
                    None => out[0].emit(RowRef(&[ValueRef::Str(text)])),
                    Some(id) => out[0].emit_with_id(id, RowRef(&[ValueRef::Str(text)])),
                }
                return Ok(true);
            }
            _ if text.trim_end().is_empty() => return Ok(false),
            Form::Json(fields) => parse_object(text.as_bytes(), fields, &mut self.values),
            Form::Csv { columns, .. } => {
                let record = self.record.as_mut().expect("made with the form");
                record.read_columns(text, columns, &mut self.values)
            }
        };
        match parsed {
            Ok(()) => {
                let cells: Cells<'_> = self.values.drain(..).map(Evaluated::Owned).collect();
                emit_as(&mut out[0], id, &cells);
                Ok(true)
            }
            Err(cause) => self.refuse_as(id, text.as_bytes(), &cause, out),
        }
    }

    /// As [`FormReader::emit`], of bytes that should be UTF-8: where they are not, texts are read lossily and counted as bad
    /// input nowhere; JSON and CSV are bad input.
    pub(crate) fn emit_bytes(&mut self, bytes: &[u8], out: &mut RowStreams) -> Result<(), SpoutError> {
        self.emit_bytes_as(None, bytes, out).map(drop)
    }

    /// The same with an id. `false`: nothing was emitted.
    pub(crate) fn emit_bytes_as(
        &mut self,
        id: Option<MessageId>,
        bytes: &[u8],
        out: &mut RowStreams,
    ) -> Result<bool, SpoutError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.emit_as(id, text, out),
            Err(_) if *self.form == Form::Text => self.emit_as(id, &String::from_utf8_lossy(bytes), out),
            Err(cause) => self.refuse_as(id, bytes, &format!("no UTF-8: {cause}"), out),
        }
    }

    /// Emits a text that was given up, and why.
    #[cold]
    pub(crate) fn letter(&self, id: MessageId, text: &[u8], error: &str, out: &mut RowStreams) {
        let text = String::from_utf8_lossy(text);
        emit_letter(out, id, std::iter::once(Evaluated::Scalar(ValueRef::Str(&text))), error);
    }

    /// Does with a text what the policy says.
    #[cold]
    pub(crate) fn refuse(&mut self, text: &[u8], cause: &str, out: &mut RowStreams) -> Result<(), SpoutError> {
        self.refuse_as(None, text, cause, out).map(drop)
    }

    /// The same with an id. `false`: nothing was emitted.
    #[cold]
    pub(crate) fn refuse_as(
        &mut self,
        id: Option<MessageId>,
        text: &[u8],
        cause: &str,
        out: &mut RowStreams,
    ) -> Result<bool, SpoutError> {
        match self.bad.refuse_text(text, cause) {
            Ok(Some(row)) => {
                emit_row(out, id, row);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(BoltError::Fail(cause) | BoltError::Fatal(cause)) => {
                let shown: String = String::from_utf8_lossy(text).chars().take(80).collect();
                let remedy = "correct the input, or set `on_error` to skip or dead_letters";
                Err(SpoutError::new(format!("bad input `{shown}`: {cause}; {remedy}")))
            }
        }
    }
}

fn emit_row(out: &mut RowStreams, id: Option<MessageId>, row: impl Emit<Row>) {
    let stream = out.last_mut().expect("dead letters have a stream");
    match id {
        None => stream.emit(row),
        Some(id) => stream.emit_with_id(id, row),
    }
}

/// The options of sources whose texts may be JSON objects.
pub(crate) fn form_options() -> [OptionSpec; 2] {
    [
        OptionSpec::optional(
            "fields",
            OptionType::list(OptionType::Text),
            "Reads JSON objects: the keys that become fields, null where an object lacks one. Left out: the text itself, as \
             the field `text`.",
        ),
        on_error_option(),
    ]
}

/// Reads them.
pub(crate) fn form(options: &Options) -> (Form, OnError) {
    let fields: Vec<String> = options.texts("fields").into_iter().map(|f| f.value).collect();
    (if fields.is_empty() { Form::Text } else { Form::Json(fields) }, on_error(options))
}

/// The outputs of sources with [`form_options`].
pub(crate) const FORM_OUTPUTS: &str =
    "`default`: `text`, or the keys of `fields`. `dead_letters`: `text` and `error`, with `on_error: dead_letters`.";
