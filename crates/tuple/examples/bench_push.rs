//! How long pushes and reads take: `cargo run --release -p squall-tuple --example bench_push`.
//!
//! Each line is the minimum and the median over 60 runs of some hundred thousand tuples, in ns a tuple, batches of 16 KiB
//! that stay in cache. A quick look for those who change the batch module, not a benchmark to quote.

use std::hint::black_box;
use std::time::Instant;

use squall_tuple::sample::{Pod, Word, WordRef};
use squall_tuple::{
    AnchorEdge, Batch, BatchBuf, BatchKind, Dest, OpenBatch, Row, RowRef, Tuple, TupleHead, TupleType, ValueRef,
    hash_key, hash_keys,
};

const RUNS: usize = 60;
const BATCHES: usize = 400;

fn main() {
    let mut buf = BatchBuf::with_capacity(16 * 1024);

    let open = opening::<Pod>();
    report("push_steady 4×u64", || {
        fill(&mut buf, &open, |buf, i| buf.push_steady::<Pod, _>(1, 2, 7, &pod(i)).is_ok())
    });
    report("push_plain 4×u64, origin changes every tuple", || {
        fill(&mut buf, &open, |buf, i| buf.push_plain::<Pod, _>(1, 2, i, &pod(i)).is_ok())
    });
    let anchors = [AnchorEdge { root: 5, edge: 6 }];
    report("push 4×u64, one anchor", || {
        fill(&mut buf, &open, |buf, i| {
            let head = TupleHead { anchors: &anchors, ..TupleHead::plain(1, 2, 7) };
            buf.push::<Pod, _>(&head, &pod(i)).is_ok()
        })
    });
    let tasks = [3, 4, 5];
    report("push 4×u64, three destinations", || {
        fill(&mut buf, &open, |buf, i| {
            let head = TupleHead { dest: Dest::List(&tasks), ..TupleHead::plain(1, 2, 7) };
            buf.push::<Pod, _>(&head, &pod(i)).is_ok()
        })
    });

    fill(&mut buf, &open, |buf, i| buf.push_plain::<Pod, _>(1, 2, 7, &pod(i)).is_ok());
    buf.seal(1, 2, false);
    report("iterate and read 4×u64", || read(&buf, sum_pods));
    let mut copy = BatchBuf::with_capacity(16 * 1024);
    report("pass on 4×u64 unchanged (read and push)", || {
        let mut tuples = 0;
        for _ in 0..BATCHES {
            copy.open(&open);
            let (batch, mut cursor) = (buf.view(), buf.view().cursor());
            while let Some(frame) = batch.next(&mut cursor) {
                let _ = black_box(copy.push_plain::<Pod, _>(1, 2, frame.origin_ns(), &frame.tuple::<Pod>()));
                tuples += 1;
            }
        }
        tuples
    });
    let pods = TupleType::of::<Pod>();
    report("validate 4×u64", || read_checked(&buf, &pods));
    report("seal with CRC, a batch of 16 KiB", || {
        for i in 0..BATCHES {
            buf.seal(i as u64, 2, true);
        }
        BATCHES
    });

    let open = opening::<Word>();
    for (name, word) in [("8 bytes, inline", "universe"), ("16 bytes, out of line", "characteristical")] {
        report(&format!("push_plain word of {name}"), || {
            fill(&mut buf, &open, |buf, i| buf.push_plain::<Word, _>(1, 2, 7, &WordRef { word, n: i }).is_ok())
        });
        fill(&mut buf, &open, |buf, i| buf.push_plain::<Word, _>(1, 2, 7, &WordRef { word, n: i }).is_ok());
        buf.seal(1, 2, false);
        report(&format!("iterate and read word of {name}"), || {
            read(&buf, |batch| {
                let (mut cursor, mut sum) = (batch.cursor(), 0);
                while let Some(frame) = batch.next(&mut cursor) {
                    let word = frame.tuple::<Word>();
                    sum += word.n.to_native() + word.word.len() as u64;
                }
                sum
            })
        });
        let words = TupleType::of::<Word>();
        report(&format!("validate word of {name}"), || read_checked(&buf, &words));
        report(&format!("hash key of word of {name}"), || {
            read(&buf, |batch| {
                batch.iter().map(|frame| hash_key(frame.tuple::<Word>().key(0))).fold(0, u64::wrapping_add)
            })
        });
        report(&format!("hash both fields of word of {name}"), || {
            read(&buf, |batch| {
                let words = batch.iter().map(|frame| frame.tuple::<Word>());
                words.map(|word| hash_keys([word.key(0), word.key(1)])).fold(0, u64::wrapping_add)
            })
        });
    }

    let row = TupleType::row(["a", "b", "c", "d", "e"]);
    let open = OpenBatch { schema_id: row.schema_id(), dynamic: true, ..opening::<Row>() };
    let push_row = |buf: &mut BatchBuf, i: u64| {
        let values = [
            ValueRef::I64(i as i64),
            ValueRef::F64(0.5),
            ValueRef::Bool(true),
            ValueRef::Str("characteristical"),
            ValueRef::I64(1),
        ];
        buf.push_plain::<Row, _>(1, 2, 7, &RowRef(&values)).is_ok()
    };
    report("push_plain row of 5", || fill(&mut buf, &open, push_row));
    fill(&mut buf, &open, push_row);
    buf.seal(1, 2, false);
    report("iterate and read row of 5", || {
        read(&buf, |batch| batch.iter().filter_map(|f| f.tuple::<Row>().get()[4].as_i64()).sum::<i64>() as u64)
    });
    report("validate row of 5", || read_checked(&buf, &row));
}

fn opening<T: Tuple>() -> OpenBatch {
    OpenBatch { kind: BatchKind::Data, stream: 0, schema_id: T::ID, dynamic: T::DYNAMIC, source_reactor: 0, epoch: 1 }
}

fn pod(i: u64) -> Pod {
    Pod { a: i, b: i + 1, c: i + 2, d: i + 3 }
}

fn sum_pods(batch: &Batch<'_>) -> u64 {
    let (mut cursor, mut sum) = (batch.cursor(), 0u64);
    while let Some(frame) = batch.next(&mut cursor) {
        let pod = frame.tuple::<Pod>();
        sum = sum.wrapping_add(pod.a.to_native() ^ pod.b.to_native() ^ pod.c.to_native() ^ pod.d.to_native());
    }
    sum
}

/// Fills the buffer as often as it takes; gives the number of tuples pushed.
fn fill(buf: &mut BatchBuf, open: &OpenBatch, mut push: impl FnMut(&mut BatchBuf, u64) -> bool) -> usize {
    let mut tuples = 0;
    for _ in 0..BATCHES {
        buf.open(open);
        let mut i = 0;
        while push(buf, black_box(i)) {
            i += 1;
        }
        tuples += i as usize;
        black_box(&*buf);
    }
    tuples
}

fn read(buf: &BatchBuf, sum: impl Fn(&Batch<'_>) -> u64) -> usize {
    let mut tuples = 0;
    for _ in 0..BATCHES {
        let batch = black_box(buf).view();
        black_box(sum(&batch));
        tuples += batch.header().count as usize;
    }
    tuples
}

fn read_checked(buf: &BatchBuf, ty: &TupleType) -> usize {
    let mut tuples = 0;
    for _ in 0..BATCHES {
        tuples += Batch::validate(black_box(buf), Some(ty), 1 << 20).map_or(0, |batch| batch.header().count as usize);
    }
    tuples
}

fn report(name: &str, mut run: impl FnMut() -> usize) {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            let tuples = run();
            start.elapsed().as_nanos() as f64 / tuples.max(1) as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{name:<50} {:6.2} / {:6.2} ns", times[0], times[RUNS / 2]);
}
