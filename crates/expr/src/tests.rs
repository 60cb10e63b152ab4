//! Both ways give one meaning; values of each kind; faults at their places.

use proptest::prelude::*;
use squall_api::__rt::rkyv;
use squall_api::{ArchivedRow, Row, Value};
use squall_components::expression::Expression;

use super::*;

/// Calls `f` with the archive of a row.
fn archived<R>(row: &Row, f: impl FnOnce(&ArchivedRow) -> R) -> R {
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(row).expect("archived");
    f(rkyv::access::<ArchivedRow, rkyv::rancor::Error>(&bytes).expect("valid"))
}

const FIELDS: [&str; 6] = ["a", "b", "s", "t", "flag", "m"];

fn fields() -> Vec<String> {
    FIELDS.iter().map(ToString::to_string).collect()
}

fn row() -> Row {
    let user = Value::map([("name", Value::from("ann")), ("age", Value::I64(41))]);
    Row(vec![Value::I64(7), Value::F64(2.5), "out-7".into(), "x".into(), true.into(), Value::map([("user", user)])])
}

fn evaluate(text: &str) -> Result<Value, String> {
    let compiled = Language::new().compile(text, &fields()).map_err(|fault| fault.to_string())?;
    archived(&row(), |row| match compiled.instance().evaluate(row) {
        Ok(value) => Ok(value.into_value()),
        Err(error) => Err(error.to_string()),
    })
}

fn way(text: &str) -> Way {
    Language::new().compile(text, &fields()).expect("an expression").way().clone()
}

#[test]
fn values_are_computed_from_fields() {
    let cases: [(&str, Value); 25] = [
        ("math.greatest(a, 3)", Value::I64(7)),
        ("a", Value::I64(7)),
        ("a + 1 == 8", true.into()),
        ("a * 2 - 3", Value::I64(11)),
        ("a / 2", Value::I64(3)),
        ("a % 4", Value::I64(3)),
        ("a * b", Value::F64(17.5)),
        ("-b", Value::F64(-2.5)),
        ("double(a) / 2.0", Value::F64(3.5)),
        ("a > b && flag", true.into()),
        ("!flag || s == 'out-7'", true.into()),
        ("s.startsWith('out-') && !s.endsWith('8')", true.into()),
        ("s.matches('^out-[0-9]+$')", true.into()),
        ("s in ['in-7', 'out-7']", true.into()),
        ("flag ? s : t", "out-7".into()),
        ("m.user.name", "ann".into()),
        ("has(m.user.age) && !has(m.user.mail)", true.into()),
        ("m.user.age >= 41.0", true.into()),
        ("s + '/' + t", "out-7/x".into()),
        ("s.upperAscii().replace('OUT', 'IN')", "IN-7".into()),
        ("size(s)", Value::I64(5)),
        ("[a, 1].map(n, n * 2)", Value::List(vec![Value::I64(14), Value::I64(2)])),
        ("timestamp('2024-05-01T10:00:00Z') + duration('90s')", "2024-05-01T10:01:30+00:00".into()),
        ("timestamp('2024-05-01T10:20:00Z').getMinutes()", Value::I64(20)),
        ("now() > timestamp('2020-01-01T00:00:00Z')", true.into()),
    ];
    for (text, expected) in cases {
        assert_eq!(evaluate(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    let cases = [
        ("a / 0", "Division by zero"),
        ("s - 1", "'-' applied to '(string, int)'"),
        ("m.user.mail", "No such key: mail"),
        ("s > 1", "'_>_' applied to '(string, int)'"),
        ("9223372036854775807 + a", "Overflow"),
    ];
    for (text, part) in cases {
        let error = evaluate(text).expect_err(text);
        assert!(error.starts_with(&format!("`{text}` has no value: ")) && error.contains(part), "{error}");
    }
}

#[test]
fn hot_expressions_are_lowered_and_the_others_say_why_not() {
    for text in ["a > 3", "a + b * 2 > m.user.age", "s == t || s.contains('7')", "flag ? a : -a", "s in ['x', 'y']"] {
        assert_eq!(way(text), Way::Lowered, "{text}");
    }
    let why = |text: &str| way(text).to_string();
    assert_eq!(why("s.upperAscii() == 'X'"), "in the library, for the function `upperAscii`");
    assert_eq!(
        why("[1, 2].exists(n, n == a)"),
        "in the library, for a step over the items of a list (`all`, `exists`, `map`, `filter` …)"
    );
    assert_eq!(why("s.matches(t)"), "in the library, for a computed regular expression");
}

#[test]
fn a_name_that_is_none_is_a_fault_at_its_place() {
    let fault = |text: &str| Language::new().compile(text, &fields()).map(|_| ()).expect_err(text);
    let unknown = fault("a > 1 && flga");
    assert_eq!((unknown.at, unknown.what.as_str()), (9..13, "there is no field `flga`"));
    assert_eq!(unknown.remedy, "did you mean `flag`?");
    let function = fault("s.startWith('x')");
    assert_eq!((function.at, function.remedy.as_str()), (2..11, "did you mean `startsWith`?"));
    assert_eq!(fault("abs(a)").remedy, "did you mean `math.abs`?");
    assert_eq!(fault("a = 1").remedy, "equality is written `==`");
    assert_eq!(fault("a == 1 and flag").remedy, "and, or, not are written `&&`, `||`, `!`");
    assert_eq!(fault("s.toUpper()").remedy, "did you mean `upperAscii`?");
    assert_eq!((fault("a == 1 and flag").at, fault("a > 1 )").at), (7..8, 6..7));
    assert_eq!(fault("").what, "the expression is empty");
    let open = fault("(a + 1");
    assert_eq!((open.at.start, open.what.as_str()), (6, "this is no expression: missing ')' at the end"));
}

#[test]
fn every_listed_function_is_one_of_the_library() {
    let library = Library::default();
    for name in check::FUNCTIONS {
        // Called with nothing, a function complains about its arguments; what is no function, about its name.
        let text = if name.contains('.') { format!("{name}()") } else { format!("'x'.{name}()") };
        for text in [text, format!("{name}()")] {
            let Ok((expr, _)) = library.parse(&text) else { continue };
            let outcome = archived(&Row(Vec::new()), |row| library.evaluate(&expr, &[], row));
            let known = outcome.map_or_else(|error| !error.contains("Undeclared reference"), |_| true);
            if known {
                break;
            }
            assert!(text.starts_with('\''), "{name} is no function");
        }
    }
}

fn leaf() -> impl Strategy<Value = String> {
    let constants = ["0", "1", "-3", "2.5", "7.0", "9223372036854775807", "'x'", "'out-7'", "true", "false", "null"];
    prop_oneof![
        prop::sample::select(FIELDS.to_vec()).prop_map(str::to_owned),
        prop::sample::select(constants.to_vec()).prop_map(str::to_owned),
        Just("m.user.age".to_owned()),
        Just("m.user.mail".to_owned()),
        Just("has(m.user)".to_owned()),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    leaf().prop_recursive(4, 24, 3, |inner| {
        let operators = ["+", "-", "*", "/", "%", "<", "<=", ">", ">=", "==", "!=", "&&", "||"];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            inner.clone().prop_map(|a| format!("double({a})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            inner.clone().prop_map(|a| format!("({a} in [1, 2.5, 'x', null, true])")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}).startsWith({b})")),
            inner.prop_map(|a| format!("({a}).matches('^o')")),
        ]
    })
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        prop::sample::select(vec![0, 1, 7, -3, i64::MAX, i64::MIN]).prop_map(Value::I64),
        prop::sample::select(vec![0.0, 2.5, -1.0, f64::INFINITY, f64::NAN]).prop_map(Value::F64),
        prop::sample::select(vec!["", "x", "out-7"]).prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Where a lowered program decides, the library would have said the same.
    #[test]
    fn a_lowered_program_never_contradicts_the_library(text in expression(), values in prop::collection::vec(scalar(), 6)) {
        let language = Language::new();
        let Ok(compiled) = language.compile(&text, &fields()) else {
            return Err(TestCaseError::reject("nested too deep"));
        };
        let Some(program) = &compiled.program else { return Ok(()) };
        let mut row = Row(values);
        let user = Value::map([("age", row.0[5].clone())]);
        row.0[5] = Value::map([("user", user)]);
        archived(&row, |row| {
            let Some(lowered) = program.value(row) else { return Ok(()) };
            let lowered = lowered.into_value();
            let library = language.library.evaluate(&compiled.shared.expr, &fields(), row);
            let same = match (&lowered, &library) {
                (Value::F64(a), Ok(Value::F64(b))) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                (lowered, Ok(library)) => lowered == library,
                (_, Err(_)) => false,
            };
            prop_assert!(same, "`{}` is {:?} lowered and {:?} in the library, for {:?}", text, lowered, library, row);
            Ok(())
        })?;
    }
}
