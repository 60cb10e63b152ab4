//! Names in an expression: fields and functions that there are not are errors before anything runs.

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, SourceInfo};
use squall_components::registry::suggest;

use crate::Fault;

/// Types and namespaces that an expression may name.
const NAMES: [&str; 14] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
    "optional_type",
];

/// Functions of the language, by the names with which they are called.
pub(crate) const FUNCTIONS: [&str; 67] = [
    "bool",
    "bytes",
    "charAt",
    "contains",
    "distinct",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "flatten",
    "format",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "join",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "matches",
    "math.abs",
    "math.bitAnd",
    "math.bitNot",
    "math.bitOr",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.bitXor",
    "math.ceil",
    "math.floor",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "now",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "replace",
    "reverse",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "substring",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "value",
];

/// Macros, which are no calls by the time that names are checked, but can be meant.
const MACROS: [&str; 9] =
    ["all", "exists", "exists_one", "filter", "has", "map", "math.greatest", "math.least", "sortBy"];

/// What other languages call it.
const ELSEWHERE: [(&str, &str); 12] = [
    ("upper", "upperAscii"),
    ("toUpper", "upperAscii"),
    ("toUpperCase", "upperAscii"),
    ("lower", "lowerAscii"),
    ("toLower", "lowerAscii"),
    ("toLowerCase", "lowerAscii"),
    ("len", "size"),
    ("length", "size"),
    ("substr", "substring"),
    ("strip", "trim"),
    ("regex", "matches"),
    ("includes", "contains"),
];

/// Finds the first name that means nothing.
pub(crate) fn names(text: &str, expr: &IdedExpr, info: &SourceInfo, fields: &[String]) -> Result<(), Fault> {
    Names { text, info, fields, scope: Vec::new() }.check(expr)
}

struct Names<'a> {
    text: &'a str,
    info: &'a SourceInfo,
    fields: &'a [String],
    /// Names of the items of comprehensions around.
    scope: Vec<String>,
}

impl Names<'_> {
    fn check(&mut self, expr: &IdedExpr) -> Result<(), Fault> {
        match &expr.expr {
            Expr::Ident(name) => self.ident(expr.id, name),
            Expr::Call(call) => self.call(expr.id, call),
            Expr::Select(select) => self.check(&select.operand),
            Expr::List(list) => list.elements.iter().try_for_each(|item| self.check(item)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(message) => message.entries.iter().try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Comprehension(steps) => {
                self.check(&steps.iter_range)?;
                self.check(&steps.accu_init)?;
                let outer = self.scope.len();
                self.scope.extend([steps.iter_var.clone(), steps.accu_var.clone()]);
                self.scope.extend(steps.iter_var2.clone());
                self.check(&steps.loop_cond)?;
                self.check(&steps.loop_step)?;
                self.check(&steps.result)?;
                self.scope.truncate(outer);
                Ok(())
            }
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), Fault> {
        match entry {
            EntryExpr::StructField(field) => self.check(&field.value),
            EntryExpr::MapEntry(entry) => {
                self.check(&entry.key)?;
                self.check(&entry.value)
            }
        }
    }

    fn ident(&self, id: u64, name: &str) -> Result<(), Fault> {
        let known = self.fields.iter().chain(&self.scope).any(|field| field == name) || NAMES.contains(&name);
        // Macros name their own variables so that no one else can.
        if known || name.starts_with('@') || name.starts_with("__") {
            return Ok(());
        }
        let fields = || self.fields.iter().map(String::as_str);
        let remedy = match suggest(name, fields()) {
            Some(close) => format!("did you mean `{close}`?"),
            None if self.fields.is_empty() => "the input has no named fields".into(),
            None => format!("the fields are {}", fields().collect::<Vec<_>>().join(", ")),
        };
        Err(Fault { at: self.place(id, name), what: format!("there is no field `{name}`"), remedy })
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Result<(), Fault> {
        let name = call.func_name.as_str();
        // Operators are spelled with underscores or an at sign; they are known by having been parsed.
        let operator = name.contains('_') && !name.starts_with(char::is_alphabetic)
            || name.starts_with(['!', '-'])
            || name.contains('@');
        if !operator {
            let space = call.target.as_ref().and_then(|target| match &target.expr {
                Expr::Ident(space) => Some(format!("{space}.{name}")),
                _ => None,
            });
            if space.as_deref().is_some_and(is_function) {
                return call.args.iter().try_for_each(|arg| self.check(arg));
            }
            if !is_function(name) {
                let spaced = FUNCTIONS.iter().find(|f| f.rsplit('.').next() == Some(name)).copied();
                let elsewhere =
                    ELSEWHERE.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(name)).map(|(_, ours)| *ours);
                let remedy = match elsewhere.or(spaced).or_else(|| suggest(name, FUNCTIONS.into_iter().chain(MACROS))) {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => "functions are CEL's: size, contains, matches, replace, timestamp, math.abs …".into(),
                };
                return Err(Fault { at: self.place(id, name), what: format!("there is no function `{name}`"), remedy });
            }
        }
        if let Some(target) = &call.target {
            self.check(target)?;
        }
        call.args.iter().try_for_each(|arg| self.check(arg))
    }

    /// Where a name is. The parser marks a call by its bracket, so the name is looked for from the mark back.
    fn place(&self, id: u64, name: &str) -> std::ops::Range<usize> {
        let mark = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let mark = self.text.floor_char_boundary(mark.min(self.text.len()));
        let end = self.text.floor_char_boundary((mark + name.len()).min(self.text.len()));
        let start = self.text[..end].rfind(name).or_else(|| self.text.find(name)).unwrap_or(mark);
        start..(start + name.len()).min(self.text.len())
    }
}

fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name) || MACROS.contains(&name)
}
