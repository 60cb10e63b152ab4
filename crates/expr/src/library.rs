//! The `cel` crate as this language uses it: its functions and ours, values in and out.

use std::collections::HashMap;
use std::sync::Arc;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, SourceInfo, operators};
use cel::common::types::{
    CelBool, CelBytes, CelDouble, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString, CelTimestamp, DYN_TYPE,
};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::{Context, Env, ExecutionError, Value as CelValue, extensions};
use squall_api::{ArchivedRow, ArchivedValue, Value};

use crate::{DEPTH_MAX, Fault};

/// Arithmetic that mixes integers and floats, by names that no expression can spell.
const MIXED: [(&str, &str); 4] = [
    (operators::ADD, "@add"),
    (operators::SUBSTRACT, "@subtract"),
    (operators::MULTIPLY, "@multiply"),
    (operators::DIVIDE, "@divide"),
];

/// The functions of the language.
pub(crate) struct Library {
    env: Arc<Env>,
}

impl Default for Library {
    fn default() -> Library {
        let mut env = Env::stdlib();
        let ours = |env: &mut Env| {
            env.add_extension(extensions::strings)?;
            env.add_extension(extensions::math)?;
            env.add_extension(extensions::lists)?;
            env.add_overload("@add", "mixed_add", vec![DYN_TYPE, DYN_TYPE], add)?;
            env.add_overload("@subtract", "mixed_subtract", vec![DYN_TYPE, DYN_TYPE], subtract)?;
            env.add_overload("@multiply", "mixed_multiply", vec![DYN_TYPE, DYN_TYPE], multiply)?;
            env.add_overload("@divide", "mixed_divide", vec![DYN_TYPE, DYN_TYPE], divide)?;
            env.add_overload("now", "now", Vec::new(), now)
        };
        ours(&mut env).expect("no two functions have one name and signature");
        Library { env: Arc::new(env) }
    }
}

impl Library {
    pub(crate) fn parse(&self, text: &str) -> Result<(IdedExpr, SourceInfo), Fault> {
        let parser = self.env.parser().max_recursion_depth(DEPTH_MAX);
        parser.parse_with_source_info(text).map_err(|errors| {
            let first = errors.errors.first();
            let at = first.map_or(0, |error| offset(text, error.pos));
            let what = match first {
                _ if text.trim().is_empty() => "the expression is empty".to_owned(),
                Some(error) => format!("this is no expression: {}", plain(&error.msg)),
                None => "this is no expression".to_owned(),
            };
            Fault {
                at: at..text.len().min(at + 1),
                what,
                remedy: hint(text, first.map_or("", |error| &error.msg)).to_owned(),
            }
        })
    }

    /// Puts our arithmetic in the place of CEL's.
    pub(crate) fn prepare(&self, mut expr: IdedExpr) -> IdedExpr {
        rename(&mut expr);
        expr
    }

    /// The value of a prepared expression for a row.
    pub(crate) fn evaluate(&self, expr: &IdedExpr, fields: &[String], row: &ArchivedRow) -> Result<Value, String> {
        let row = Row { fields, row };
        let mut context = Context::with_env(self.env.clone());
        context.set_variable_resolver(&row);
        let value = CelValue::resolve(expr, &context).map_err(|error| error.to_string())?;
        from_cel(&value)
    }
}

/// A row as CEL's variables.
struct Row<'a> {
    fields: &'a [String],
    row: &'a ArchivedRow,
}

impl VariableResolver for Row<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let at = self.fields.iter().position(|field| field == variable)?;
        self.row.get(at).map(|value| CowVal::Owned(to_cel(value)))
    }
}

fn to_cel(value: &ArchivedValue) -> Box<dyn Val + '_> {
    match value {
        ArchivedValue::Null => Box::new(CelNull),
        ArchivedValue::Bool(b) => Box::new(CelBool::from(*b)),
        ArchivedValue::I64(n) => Box::new(CelInt::from(n.to_native())),
        ArchivedValue::F64(x) => Box::new(CelDouble::from(x.to_native())),
        ArchivedValue::Str(s) => Box::new(CelString::from(s.as_str())),
        ArchivedValue::Bytes(b) => Box::new(CelBytes::from(b.as_slice())),
        ArchivedValue::List(items) => {
            let items: Vec<Box<dyn Val + '_>> = items.iter().map(to_cel).collect();
            Box::new(CelList::from(items))
        }
        ArchivedValue::Map(pairs) => {
            let pairs: HashMap<CelMapKey<'_>, Box<dyn Val + '_>> =
                pairs.iter().map(|pair| (CelMapKey::from(pair.0.as_str()), to_cel(&pair.1))).collect();
            Box::new(CelMap::from(pairs))
        }
    }
}

fn from_cel(value: &CelValue) -> Result<Value, String> {
    Ok(match value {
        CelValue::Null => Value::Null,
        CelValue::Bool(b) => Value::Bool(*b),
        CelValue::Int(n) => Value::I64(*n),
        CelValue::UInt(n) => Value::I64(i64::try_from(*n).map_err(|_| format!("{n} is too large for a field"))?),
        CelValue::Float(x) => Value::F64(*x),
        CelValue::String(s) => Value::Str(s.to_string()),
        CelValue::Bytes(b) => Value::Bytes(b.to_vec()),
        CelValue::List(items) => Value::List(items.iter().map(from_cel).collect::<Result<_, _>>()?),
        CelValue::Map(map) => {
            let pairs: Result<Vec<(String, Value)>, String> =
                map.map.iter().map(|(key, value)| Ok((key.to_string(), from_cel(value)?))).collect();
            Value::map(pairs?)
        }
        CelValue::Timestamp(time) => Value::Str(time.to_rfc3339()),
        CelValue::Duration(time) => Value::F64(time.num_microseconds().map_or(0.0, |us| us as f64 / 1e6)),
        other => return Err(format!("a {} is nothing that a field can hold", other.type_of())),
    })
}

type Args<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Both sides as floats, if one is an integer and the other a float.
fn mixed(args: &[CowVal<'_, '_>]) -> Option<(f64, f64)> {
    let [a, b] = args else { return None };
    let int = |value: &CowVal<'_, '_>| value.downcast_ref::<CelInt>().map(|n| *n.inner() as f64);
    let float = |value: &CowVal<'_, '_>| value.downcast_ref::<CelDouble>().map(|x| *x.inner());
    match (int(a), float(b), float(a), int(b)) {
        (Some(a), Some(b), ..) | (.., Some(a), Some(b)) => Some((a, b)),
        _ => None,
    }
}

macro_rules! arithmetic {
    ($($name:ident: $operator:tt, $word:literal, $via:ident.$method:ident;)*) => {$(
        fn $name<'b, 'v>(args: Args<'b, 'v>) -> Outcome<'b, 'v> {
            if let Some((a, b)) = mixed(&args) {
                return Ok(CowVal::owned(CelDouble::from(a $operator b)));
            }
            let (a, b) = (&args[0], &args[1]);
            let types = || vec![a.get_type().name().to_owned(), b.get_type().name().to_owned()];
            let refuse = || ExecutionError::no_such_overload($word, types());
            let value = a.$via().ok_or_else(refuse)?.$method(b.as_ref());
            let value = value.map_err(|error| match error {
                ExecutionError::UnsupportedBinaryOperator(..) => refuse(),
                other => other,
            })?;
            Ok(CowVal::Owned(value.into_owned()))
        }
    )*};
}

arithmetic! {
    add: +, "+", as_adder.add;
    subtract: -, "-", as_subtractor.sub;
    multiply: *, "*", as_multiplier.mul;
    divide: /, "/", as_divider.div;
}

fn now<'b, 'v>(_: Args<'b, 'v>) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(CelTimestamp::from(chrono::Utc::now().fixed_offset())))
}

fn rename(expr: &mut IdedExpr) {
    match &mut expr.expr {
        Expr::Call(CallExpr { func_name, target, args }) => {
            if let Some((_, ours)) = MIXED.iter().find(|(theirs, _)| theirs == func_name) {
                (*ours).clone_into(func_name);
            }
            target.iter_mut().for_each(|target| rename(target));
            args.iter_mut().for_each(rename);
        }
        Expr::Select(select) => rename(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(rename),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| rename_entry(&mut entry.expr)),
        Expr::Struct(message) => message.entries.iter_mut().for_each(|entry| rename_entry(&mut entry.expr)),
        Expr::Comprehension(steps) => {
            let parts = [
                &mut steps.iter_range,
                &mut steps.accu_init,
                &mut steps.loop_cond,
                &mut steps.loop_step,
                &mut steps.result,
            ];
            parts.into_iter().for_each(rename);
        }
        Expr::Literal(_) | Expr::Ident(_) | Expr::Unspecified => {}
    }
}

fn rename_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => rename(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            rename(&mut entry.key);
            rename(&mut entry.value);
        }
    }
}

/// The byte of a line and column, both from 1.
fn offset(text: &str, (line, column): (isize, isize)) -> usize {
    let line_start: usize = text.split_inclusive('\n').take((line.max(1) - 1) as usize).map(str::len).sum();
    let rest = &text[line_start.min(text.len())..];
    let within: usize = rest.chars().take(column.max(1) as usize - 1).map(char::len_utf8).sum();
    (line_start + within).min(text.len())
}

/// The parser's words without its jargon: what it would have accepted is a list of all tokens there are.
fn plain(message: &str) -> String {
    let message = message.trim_start_matches("Syntax error: ");
    let message = message.split(" expecting ").next().unwrap_or(message);
    message
        .replace("'<EOF>'", "the end")
        .replace("<EOF>", "the end")
        .replace("no viable alternative at input", "it makes no sense from")
}

/// What people write who come from other languages.
fn hint(text: &str, message: &str) -> &'static str {
    let word = |word: &str| message.to_ascii_lowercase().contains(&format!("'{word}'"));
    let single_equals = text.as_bytes().iter().enumerate().any(|(at, byte)| {
        *byte == b'='
            && text.as_bytes().get(at + 1) != Some(&b'=')
            && (at == 0 || !matches!(text.as_bytes()[at - 1], b'=' | b'!' | b'<' | b'>'))
    });
    if word("and") || word("or") || word("not") {
        "and, or, not are written `&&`, `||`, `!`"
    } else if single_equals {
        "equality is written `==`"
    } else if text.contains("<>") {
        "inequality is written `!=`"
    } else {
        "expressions are CEL: `celsius > 30 && sensor != 'test'`"
    }
}
