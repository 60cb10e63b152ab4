//! From CEL's syntax tree to a [`Program`], or the reason why not.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use regex::Regex;

use crate::program::{Arithmetic, Literal, Order, Path, Program, Term, Test, TextTest};

/// What a program has no node for, in words that complete "for …".
type Why = String;

/// Lowers a whole expression.
pub(crate) fn program(expr: &IdedExpr, fields: &[String]) -> Result<Program, Why> {
    let lower = Lower { fields };
    Ok(match lower.term(expr)? {
        Term::Test(test) => Program::Test(*test),
        term => Program::Term(term),
    })
}

struct Lower<'a> {
    fields: &'a [String],
}

impl Lower<'_> {
    fn term(&self, expr: &IdedExpr) -> Result<Term, Why> {
        match &expr.expr {
            Expr::Literal(value) => literal(value).map(Term::Literal),
            Expr::Ident(name) => self.field(name).map(Term::Field).ok_or_else(|| format!("the name `{name}`")),
            Expr::Select(select) => {
                let path = self.path(select)?;
                Ok(if select.test { Term::Test(Box::new(Test::Has(path))) } else { Term::Path(path) })
            }
            Expr::Call(call) => self.call(call),
            Expr::List(_) => Err("a list".into()),
            Expr::Map(_) => Err("a map".into()),
            Expr::Struct(_) => Err("a message".into()),
            Expr::Comprehension(_) => {
                Err("a step over the items of a list (`all`, `exists`, `map`, `filter` …)".into())
            }
            Expr::Unspecified => Err("an empty part".into()),
        }
    }

    fn test(&self, expr: &IdedExpr) -> Result<Test, Why> {
        Ok(match self.term(expr)? {
            Term::Test(test) => *test,
            term => Test::Truth(term),
        })
    }

    fn field(&self, name: &str) -> Option<u16> {
        self.fields.iter().position(|field| field == name).map(|at| at as u16)
    }

    /// `a.b.c`: a field and keys of maps.
    fn path(&self, select: &SelectExpr) -> Result<Path, Why> {
        let mut keys = vec![select.field.as_str().into()];
        let mut operand = &*select.operand;
        loop {
            match &operand.expr {
                Expr::Select(inner) if !inner.test => {
                    keys.push(inner.field.as_str().into());
                    operand = &inner.operand;
                }
                Expr::Ident(name) => {
                    // A field that is named with a point could be meant instead.
                    let dotted = self.fields.iter().any(|field| field.contains('.'));
                    let field = self.field(name).filter(|_| !dotted);
                    keys.reverse();
                    return match field {
                        Some(field) => Ok(Path { field, keys: keys.into() }),
                        None => Err(format!("the name `{name}`")),
                    };
                }
                _ => return Err("a field of a computed value".into()),
            }
        }
    }

    fn call(&self, call: &CallExpr) -> Result<Term, Why> {
        if let Some(target) = &call.target {
            return self.member(call, target);
        }
        let args = &call.args[..];
        let arithmetic = |operator| {
            let sides = (self.term(&args[0])?, self.term(&args[1])?);
            Ok(Term::Arithmetic(operator, Box::new(sides)))
        };
        let truth = |test| Ok(Term::Test(Box::new(test)));
        match (call.func_name.as_str(), args.len()) {
            (operators::ADD, 2) => arithmetic(Arithmetic::Add),
            (operators::SUBSTRACT, 2) => arithmetic(Arithmetic::Subtract),
            (operators::MULTIPLY, 2) => arithmetic(Arithmetic::Multiply),
            (operators::DIVIDE, 2) => arithmetic(Arithmetic::Divide),
            (operators::MODULO, 2) => arithmetic(Arithmetic::Remainder),
            (operators::NEGATE, 1) => Ok(Term::Negate(Box::new(self.term(&args[0])?))),
            (operators::LESS, 2) => truth(self.compare(Order::Less, args)?),
            (operators::LESS_EQUALS, 2) => truth(self.compare(Order::LessEqual, args)?),
            (operators::GREATER, 2) => truth(self.compare(Order::Greater, args)?),
            (operators::GREATER_EQUALS, 2) => truth(self.compare(Order::GreaterEqual, args)?),
            (operators::EQUALS, 2) => truth(self.equal(true, args)?),
            (operators::NOT_EQUALS, 2) => truth(self.equal(false, args)?),
            (operators::LOGICAL_AND, 2) => truth(Test::And(Box::new((self.test(&args[0])?, self.test(&args[1])?)))),
            (operators::LOGICAL_OR, 2) => truth(Test::Or(Box::new((self.test(&args[0])?, self.test(&args[1])?)))),
            (operators::LOGICAL_NOT, 1) => truth(Test::Not(Box::new(self.test(&args[0])?))),
            (operators::CONDITIONAL, 3) => {
                let parts = (self.test(&args[0])?, self.term(&args[1])?, self.term(&args[2])?);
                Ok(Term::Choose(Box::new(parts)))
            }
            (operators::IN, 2) => truth(self.one_of(args)?),
            (operators::INDEX, 2) => Err("an index (`x[i]`)".into()),
            ("double", 1) => Ok(Term::ToFloat(Box::new(self.term(&args[0])?))),
            (name, _) => Err(format!("the function `{name}`")),
        }
    }

    fn member(&self, call: &CallExpr, target: &IdedExpr) -> Result<Term, Why> {
        let text = |test| {
            let sides = (self.term(target)?, self.term(&call.args[0])?);
            Ok(Term::Test(Box::new(Test::Text(test, Box::new(sides)))))
        };
        match (call.func_name.as_str(), &call.args[..]) {
            ("startsWith", [_]) => text(TextTest::StartsWith),
            ("endsWith", [_]) => text(TextTest::EndsWith),
            ("contains", [_]) => text(TextTest::Contains),
            ("matches", [pattern]) => {
                let Literal::Text(pattern) = self.constant(pattern).ok_or("a computed regular expression")? else {
                    return Err("a regular expression that is no text".into());
                };
                let regex = Regex::new(&pattern).map_err(|_| "a regular expression that is none")?;
                Ok(Term::Test(Box::new(Test::Matches(Box::new(self.term(target)?), regex))))
            }
            (name, _) => Err(format!("the function `{name}`")),
        }
    }

    fn constant(&self, expr: &IdedExpr) -> Option<Literal> {
        match &expr.expr {
            Expr::Literal(value) => literal(value).ok(),
            _ => None,
        }
    }

    fn compare(&self, order: Order, args: &[IdedExpr]) -> Result<Test, Why> {
        let (left, right) = (self.term(&args[0])?, self.term(&args[1])?);
        Ok(match (left, right) {
            (Term::Field(field), Term::Literal(Literal::Int(n))) => Test::FieldInt(order, field, n),
            (Term::Field(field), Term::Literal(Literal::Float(x))) => Test::FieldFloat(order, field, x),
            sides => Test::Compare(order, Box::new(sides)),
        })
    }

    fn equal(&self, wanted: bool, args: &[IdedExpr]) -> Result<Test, Why> {
        let (left, right) = (self.term(&args[0])?, self.term(&args[1])?);
        Ok(match (left, right) {
            (Term::Field(field), Term::Literal(Literal::Text(text))) => Test::FieldText(wanted, field, text),
            sides => Test::Equal(wanted, Box::new(sides)),
        })
    }

    fn one_of(&self, args: &[IdedExpr]) -> Result<Test, Why> {
        let Expr::List(list) = &args[1].expr else { return Err("`in` with a computed list".into()) };
        let literals: Option<Vec<Literal>> = list.elements.iter().map(|item| self.constant(item)).collect();
        let literals = literals.ok_or("`in` with a computed list")?;
        Ok(Test::OneOf(Box::new(self.term(&args[0])?), literals.into()))
    }
}

fn literal(value: &LiteralValue) -> Result<Literal, Why> {
    Ok(match value {
        LiteralValue::Null => Literal::Null,
        LiteralValue::Boolean(b) => Literal::Bool(*b.inner()),
        LiteralValue::Int(n) => Literal::Int(*n.inner()),
        LiteralValue::Double(x) => Literal::Float(*x.inner()),
        LiteralValue::String(s) => Literal::Text(s.inner().into()),
        LiteralValue::UInt(_) => return Err("an unsigned number".into()),
        LiteralValue::Bytes(_) => return Err("bytes".into()),
    })
}
