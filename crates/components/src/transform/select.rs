//! `map`, `filter`, `route` and `flat-map`: bolts of expressions.

use squall::{ArchivedValue, Bolt, BoltError, Context, Input, Row, RowStream, RowStreams, Value};

use crate::expression::{Evaluated, EvaluationError, Expression, ExpressionFactory};
use crate::registry::{ConfigError, Declared, Described, Given, Kind, OptionSpec, OptionType, Place};
use crate::rows::{BadInput, Cells, OnError, at, emit, kind_of_field, on_error, on_error_option, stream};

/// An expression: text in the language of the place's compiler, or code.
#[derive(Clone)]
pub enum Code {
    /// Text.
    Text(Given<String>),
    /// Compiled, or a closure: [`crate::expression::value`], [`crate::expression::test`].
    Made(ExpressionFactory),
}

impl Code {
    fn compile(self, place: &Place<'_>) -> Result<ExpressionFactory, ConfigError> {
        match self {
            Code::Text(text) => place.expression(&text),
            Code::Made(factory) => Ok(factory),
        }
    }
}

impl From<&str> for Code {
    fn from(text: &str) -> Code {
        Code::Text(text.into())
    }
}

impl From<Given<String>> for Code {
    fn from(text: Given<String>) -> Code {
        Code::Text(text)
    }
}

impl From<ExpressionFactory> for Code {
    fn from(made: ExpressionFactory) -> Code {
        Code::Made(made)
    }
}

/// Emits a row of kept and computed fields for each row.
#[derive(Clone, Default)]
pub struct Map {
    keep: Option<Vec<Given<String>>>,
    set: Vec<(Given<String>, Code)>,
    on_error: OnError,
}

impl Map {
    /// All fields as they are.
    pub fn new() -> Map {
        Map::default()
    }

    /// Keeps these fields only, in this order. Default: all.
    pub fn keep<S: Into<Given<String>>>(self, fields: impl IntoIterator<Item = S>) -> Map {
        Map { keep: Some(fields.into_iter().map(Into::into).collect()), ..self }
    }

    /// Sets a field: in the place of a kept one of this name, else behind the others. Expressions see the row as it came.
    pub fn set(mut self, field: impl Into<Given<String>>, code: impl Into<Code>) -> Map {
        self.set.push((field.into(), code.into()));
        self
    }

    /// What becomes of rows for which an expression has no value. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Map {
        Map { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Fields that the input has not, expressions that do not compile.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let keep = self.keep.unwrap_or_else(|| place.fields().iter().map(|f| f.as_str().into()).collect());
        let mut fields: Vec<String> = Vec::new();
        let mut plan: Vec<Slot<ExpressionFactory>> = Vec::new();
        for name in keep {
            match place.field(&name) {
                Ok(_) if fields.contains(&name.value) => {
                    let what = format!("field `{}` is kept twice", name.value);
                    errors.push(ConfigError::new(name.at, what, "keep it once"));
                }
                Ok(at) => {
                    fields.push(name.value);
                    plan.push(Slot::Keep(at));
                }
                Err(e) => errors.push(e),
            }
        }
        for (name, code) in self.set {
            match (code.compile(&place), fields.iter().position(|f| *f == name.value)) {
                (Ok(code), Some(at)) => plan[at] = Slot::Code(code),
                (Ok(code), None) => {
                    fields.push(name.value);
                    plan.push(Slot::Code(code));
                }
                (Err(e), _) => errors.push(e),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let on_error = self.on_error;
        let streams = on_error.streams(vec![stream(fields)], place.fields());
        Ok(place.bolt(streams, None, move || Mapping {
            slots: plan.iter().map(Slot::make).collect(),
            bad: BadInput::new(on_error),
        }))
    }
}

enum Slot<C> {
    Keep(u16),
    Code(C),
}

impl Slot<ExpressionFactory> {
    fn make(&self) -> Slot<Box<dyn Expression>> {
        match self {
            Slot::Keep(at) => Slot::Keep(*at),
            Slot::Code(factory) => Slot::Code(factory()),
        }
    }
}

struct Mapping {
    slots: Vec<Slot<Box<dyn Expression>>>,
    bad: BadInput,
}

impl Bolt for Mapping {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let cells: Result<Cells<'_>, EvaluationError> = self
            .slots
            .iter_mut()
            .map(|slot| match slot {
                Slot::Keep(field) => Ok(Evaluated::Field(at(row, *field))),
                Slot::Code(code) => code.evaluate(row),
            })
            .collect();
        match cells {
            Ok(cells) => emit(&mut out[0], &cells),
            Err(cause) => self.bad.refuse(&input, out, &cause)?,
        }
        Ok(())
    }
}

/// Passes on, unchanged, the rows for which a condition is true.
#[derive(Clone)]
pub struct Filter {
    condition: Code,
    on_error: OnError,
}

impl Filter {
    /// By this condition.
    pub fn new(condition: impl Into<Code>) -> Filter {
        Filter { condition: condition.into(), on_error: OnError::Fail }
    }

    /// What becomes of rows for which the condition has no value. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Filter {
        Filter { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// A condition that does not compile.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let condition = self.condition.compile(&place).map_err(|e| vec![e])?;
        let on_error = self.on_error;
        let streams = on_error.streams(vec![stream(place.fields())], place.fields());
        Ok(place.bolt(streams, None, move || Filtering { condition: condition(), bad: BadInput::new(on_error) }))
    }
}

struct Filtering {
    condition: Box<dyn Expression>,
    bad: BadInput,
}

impl Bolt for Filtering {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    #[inline]
    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        match self.condition.test(input.get()) {
            Ok(true) => out[0].emit(input.view()),
            Ok(false) => {}
            Err(cause) => self.bad.refuse(&input, out, &cause)?,
        }
        Ok(())
    }
}

/// Sends each row, unchanged, to the stream of the first condition that is true, or of each; those of none go to `default`.
#[derive(Clone, Default)]
pub struct Route {
    routes: Vec<(Given<String>, Code)>,
    all: bool,
    on_error: OnError,
}

impl Route {
    /// No routes yet: all rows go to `default`.
    pub fn new() -> Route {
        Route::default()
    }

    /// Rows for which the condition is true go to this stream.
    pub fn to(mut self, stream: impl Into<Given<String>>, condition: impl Into<Code>) -> Route {
        self.routes.push((stream.into(), condition.into()));
        self
    }

    /// To the stream of each condition that is true, not only of the first.
    pub fn all(self) -> Route {
        Route { all: true, ..self }
    }

    /// What becomes of rows for which a condition has no value. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> Route {
        Route { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// Conditions that do not compile; two routes to one stream, or one to `default` or `dead_letters`.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut streams = vec![stream(place.fields())];
        let mut conditions = Vec::new();
        for (name, code) in self.routes {
            if streams.iter().any(|s| s.name == name.value) || name.value == "dead_letters" {
                let what = format!("a route cannot be named `{}`: there is a stream of this name", name.value);
                errors.push(ConfigError::new(name.at, what, "give each route a name of its own"));
            }
            streams.push(RowStream::new(&name, place.fields()));
            match code.compile(&place) {
                Ok(code) => conditions.push(code),
                Err(e) => errors.push(e),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let (all, on_error) = (self.all, self.on_error);
        let streams = on_error.streams(streams, place.fields());
        Ok(place.bolt(streams, None, move || Routing {
            conditions: conditions.iter().map(|c| c()).collect(),
            all,
            bad: BadInput::new(on_error),
        }))
    }
}

struct Routing {
    conditions: Vec<Box<dyn Expression>>,
    all: bool,
    bad: BadInput,
}

impl Bolt for Routing {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        // All conditions first: a row that is refused must not have gone to some of its streams.
        let mut targets: smallvec::SmallVec<[usize; 8]> = smallvec::SmallVec::new();
        for (i, condition) in self.conditions.iter_mut().enumerate() {
            match condition.test(row) {
                Ok(true) => targets.push(i + 1),
                Ok(false) => continue,
                Err(cause) => return self.bad.refuse(&input, out, &cause),
            }
            if !self.all {
                break;
            }
        }
        if targets.is_empty() {
            targets.push(0);
        }
        targets.into_iter().for_each(|to| out[to].emit(input.view()));
        Ok(())
    }
}

/// Emits a row for each item of a list: the fields of the input, and the item.
#[derive(Clone)]
pub struct FlatMap {
    each: Code,
    name: Given<String>,
    on_error: OnError,
}

impl FlatMap {
    /// For each item of what the expression gives; null is an empty list.
    pub fn new(each: impl Into<Code>) -> FlatMap {
        FlatMap { each: each.into(), name: "item".into(), on_error: OnError::Fail }
    }

    /// The item's field: in the place of one of this name, else behind the others. Default `item`.
    pub fn name(self, name: impl Into<Given<String>>) -> FlatMap {
        FlatMap { name: name.into(), ..self }
    }

    /// What becomes of rows whose expression gives no list. Default: they fail.
    pub fn on_error(self, on_error: OnError) -> FlatMap {
        FlatMap { on_error, ..self }
    }

    /// Declares it at a place.
    ///
    /// # Errors
    /// An expression that does not compile.
    pub fn declare(self, place: Place<'_>) -> Result<Declared, Vec<ConfigError>> {
        let each = self.each.compile(&place).map_err(|e| vec![e])?;
        let mut fields = place.fields().to_vec();
        let item = fields.iter().position(|f| *f == self.name.value).unwrap_or_else(|| {
            fields.push(self.name.value);
            fields.len() - 1
        });
        let on_error = self.on_error;
        let streams = on_error.streams(vec![stream(fields)], place.fields());
        Ok(place.bolt(streams, None, move || FlatMapping { each: each(), item, bad: BadInput::new(on_error) }))
    }
}

struct FlatMapping {
    each: Box<dyn Expression>,
    item: usize,
    bad: BadInput,
}

impl Bolt for FlatMapping {
    type In = Row;
    type Out = RowStreams;

    fn prepare(&mut self, ctx: &Context) -> Result<(), BoltError> {
        self.bad.prepare(ctx);
        Ok(())
    }

    fn execute(&mut self, input: Input<'_, Row>, out: &mut RowStreams) -> Result<(), BoltError> {
        let row = input.get();
        let each = match self.each.evaluate(row) {
            Ok(each) => each,
            Err(cause) => return self.bad.refuse(&input, out, &cause),
        };
        let kind = match &each {
            Evaluated::Field(ArchivedValue::List(items)) => {
                items.iter().for_each(|item| emit_item(row, self.item, Evaluated::Field(item), out));
                return Ok(());
            }
            Evaluated::Owned(Value::List(items)) => {
                items.iter().for_each(|item| emit_item(row, self.item, Evaluated::Owned(item.clone()), out));
                return Ok(());
            }
            Evaluated::Field(ArchivedValue::Null) | Evaluated::Owned(Value::Null) => return Ok(()),
            Evaluated::Scalar(squall::ValueRef::Null) => return Ok(()),
            Evaluated::Field(other) => kind_of_field(other),
            _ => "a single value",
        };
        self.bad.refuse(&input, out, &format!("the expression gives {kind}, not a list"))
    }
}

fn emit_item(row: &squall::ArchivedRow, place: usize, item: Evaluated<'_>, out: &mut RowStreams) {
    let mut cells: Cells<'_> = row.iter().map(Evaluated::Field).collect();
    match cells.get_mut(place) {
        Some(cell) => *cell = item,
        None => cells.push(item),
    }
    emit(&mut out[0], &cells);
}

pub(super) fn described() -> Vec<Described> {
    let map = Described {
        name: "map",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Emits a row of kept and computed fields for each row.",
        options: vec![
            OptionSpec::optional(
                "set",
                OptionType::map(OptionType::Expression),
                "Fields and their expressions, which see the row as it came.",
            ),
            OptionSpec::optional(
                "keep",
                OptionType::list(OptionType::Field),
                "Fields that stay, in this order. Left out: all.",
            ),
            OptionSpec::with_default("keep_none", OptionType::Bool, "false", "Keeps none: only the fields of `set`."),
            on_error_option(),
        ],
        outputs: "`default`: the kept fields, then those of `set`; one that is kept and set stays in its place. `dead_letters`: \
                  the input's fields and `error`, with `on_error: dead_letters`.",
        example: "id: shorter\nclassName: map\nconfig:\n  keep: [word]\n  set:\n    amount: n\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let mut map = Map::new().on_error(on_error(options));
            let keep = options.texts("keep");
            let none = options.flag("keep_none");
            if none.value && !keep.is_empty() {
                let what = "`keep_none` and `keep` contradict each other";
                return Err(vec![ConfigError::new(none.at, what, "leave one of them out")]);
            }
            if none.value || !keep.is_empty() {
                map = map.keep(keep);
            }
            let set = options.text_map("set").into_iter();
            set.fold(map, |map, (name, text)| map.set(name, text)).declare(place)
        }),
    };
    let filter = Described {
        name: "filter",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Passes on, unchanged, the rows for which a condition is true.",
        options: vec![OptionSpec::required("where", OptionType::Expression, "The condition."), on_error_option()],
        outputs: "`default`: the input's fields. `dead_letters`: the input's fields and `error`, with `on_error: dead_letters`.",
        example: "id: valid\nclassName: filter\nconfig:\n  where: word\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            Filter::new(options.text("where")).on_error(on_error(options)).declare(place)
        }),
    };
    let route = Described {
        name: "route",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Sends each row, unchanged, to the stream whose condition is true.",
        options: vec![
            OptionSpec::required(
                "routes",
                OptionType::map(OptionType::Expression),
                "Streams and their conditions, tried in this order.",
            ),
            OptionSpec::with_default(
                "match",
                OptionType::Word(&["first", "all"]),
                "first",
                "To the stream of the first condition that is true, or of each.",
            ),
            on_error_option(),
        ],
        outputs: "One stream for each route, and `default` for rows of no route: the input's fields. `dead_letters`: the input's \
                  fields and `error`, with `on_error: dead_letters`.",
        example: "id: levels\nclassName: route\nconfig:\n  routes:\n    alerts: word\n    notes: n\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let route = Route { all: options.word("match").value == "all", ..Route::new() }.on_error(on_error(options));
            let routes = options.text_map("routes").into_iter();
            routes.fold(route, |route, (name, text)| route.to(name, text)).declare(place)
        }),
    };
    let flat_map = Described {
        name: "flat-map",
        aliases: &[],
        kind: Kind::Bolt,
        summary: "Emits a row for each item of a list.",
        options: vec![
            OptionSpec::required("each", OptionType::Expression, "What gives the list; null is an empty one."),
            OptionSpec::with_default("as", OptionType::Text, "item", "The item's field; one of this name is replaced."),
            on_error_option(),
        ],
        outputs: "`default`: the input's fields and the item. `dead_letters`: the input's fields and `error`, with `on_error: \
                  dead_letters`.",
        example: "id: items\nclassName: flat-map\nconfig:\n  each: n\n  as: item\n",
        example_fields: &["word", "n"],
        factory: Box::new(|options, place| {
            let flat_map = FlatMap::new(options.text("each")).name(options.text("as"));
            flat_map.on_error(on_error(options)).declare(place)
        }),
    };
    vec![map, filter, route, flat_map]
}
