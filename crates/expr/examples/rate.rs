//! What an evaluation costs, lowered and in the library: `cargo run --release -p squall-expr --example rate`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use squall_api::__rt::rkyv;
use squall_api::{ArchivedRow, Row, Value};
use squall_components::expression::Expression;
use squall_expr::Language;

fn main() {
    let fields = ["sensor", "celsius", "n"].map(str::to_owned);
    let row = Row(vec!["out-7".into(), Value::F64(31.5), Value::I64(7)]);
    let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(&row).expect("archived");
    let row = rkyv::access::<ArchivedRow, rkyv::rancor::Error>(&bytes).expect("valid");
    for text in [
        "celsius > 30",
        "celsius > 30 && sensor == 'out-7'",
        "celsius * 1.8 + 32 > n",
        "sensor.matches('^out-[0-9]+$')",
        "size(sensor) > 3 && celsius > 30",
        "sensor.upperAscii() == 'OUT-7'",
    ] {
        let compiled = Language::new().compile(text, &fields).expect("an expression");
        let mut expression = compiled.instance();
        let mut rounds = 1000_u32;
        let took = loop {
            let start = Instant::now();
            for _ in 0..rounds {
                black_box(expression.test(black_box(row))).expect("a value");
            }
            let took = start.elapsed();
            if took > Duration::from_millis(200) {
                break took;
            }
            rounds *= 2;
        };
        let ns = took.as_nanos() as f64 / f64::from(rounds);
        println!("{ns:8.1} ns  {text}  ({})", compiled.way());
    }
}
