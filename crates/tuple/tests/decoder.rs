//! The decoder under bytes that are almost right: mutations of valid batches, from a fixed seed. The same check as the fuzz
//! target (`fuzz/`), so that it runs everywhere and at once.

mod common;

#[allow(unreachable_pub, reason = "shared with another program")]
#[path = "../fuzz/check.rs"]
mod check;

use common::{Rng, opened, opening};
use squall_tuple::sample::{Pod, Word, WordRef};
use squall_tuple::{
    AckKind, AckRecord, AnchorEdge, BatchBuf, BatchKind, CreditRecord, Dest, MarkKind, MarkRecord, OpenBatch, Row,
    TupleHead, TupleType, Value,
};

const ROUNDS: usize = 100_000;

/// Valid batches, each after the byte that tells `check` its type.
fn seeds() -> Vec<Vec<u8>> {
    let anchors: Vec<AnchorEdge> = (0..130).map(|i| AnchorEdge { root: i, edge: i }).collect();
    let heads = [
        TupleHead::plain(1, 2, 100),
        TupleHead { anchors: &anchors[..1], ..TupleHead::plain(1, 2, 101) },
        TupleHead {
            dest: Dest::List(&[4, 5, 6]),
            anchors: &anchors[..2],
            event_time: Some(-5),
            key_group: Some(7),
            trace: Some(8),
            ..TupleHead::plain(1, 2, 99)
        },
        TupleHead { dest: Dest::Set(3), ..TupleHead::plain(1, 2, 99) },
    ];
    let mut pods = opened::<Pod>(4096);
    let mut words = opened::<Word>(4096);
    let rows_type = TupleType::row(["a", "b"]);
    let mut rows = BatchBuf::with_capacity(4096);
    rows.open(&OpenBatch { schema_id: rows_type.schema_id(), dynamic: true, ..opening::<Row>() });
    for (i, head) in heads.iter().enumerate() {
        pods.push::<Pod, _>(head, &Pod { a: i as u64, b: 1, c: 2, d: 3 }).unwrap();
        let word = &"a word that grows longer and longer"[..i * 8];
        words.push::<Word, _>(head, &WordRef { word, n: i as u64 }).unwrap();
        let list = Value::List(vec![Value::Null, true.into(), "inside a list".into()]);
        let map = Value::map([("key", list.clone()), ("a longer key", Value::F64(0.5))]);
        rows.push::<Row, _>(head, &Row(vec![(i as i64).into(), map, vec![1u8, 2, 3].into(), "text".into(), list]))
            .unwrap();
    }
    let mut long = opened::<Pod>(4096);
    long.push::<Pod, _>(&TupleHead { anchors: &anchors, ..TupleHead::plain(1, 2, 3) }, &Pod::default()).unwrap();
    let mut seeds = vec![(0, pods), (1, words), (2, rows), (0, long)];
    for kind in [BatchKind::Mark, BatchKind::Ack, BatchKind::Control] {
        let mut buf = BatchBuf::with_capacity(128);
        buf.open(&OpenBatch { kind, stream: 0, schema_id: 0, dynamic: false, source_reactor: 1, epoch: 1 });
        match kind {
            BatchKind::Mark => buf.push_mark(&MarkRecord { kind: MarkKind::Epoch, stream: 1, source: 2, value: 3 }),
            BatchKind::Ack => buf.push_ack(&AckRecord { root: 1, xor: 2, kind: AckKind::Fail, detail: 3 }),
            _ => buf.push_credit(&CreditRecord { inbox: 1, consumed: 2 }),
        }
        .unwrap();
        seeds.push((3, buf));
    }
    let sealed = seeds.into_iter().map(|(choice, mut buf)| {
        buf.seal(1, 2, false);
        let mut bytes = vec![choice];
        bytes.extend_from_slice(&buf);
        bytes
    });
    sealed.collect()
}

/// Changes a few bytes or words, preferring numbers at edges; sometimes cuts, lengthens or moves a piece.
fn mutate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let interesting =
        [0, 1, 2, 7, 8, 15, 16, 17, 24, 0x7F, 0x80, 0xFF, 0x100, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, u64::MAX];
    for _ in 0..1 + rng.below(4) {
        let at = 1 + rng.below(bytes.len() - 1);
        let near = if rng.below(2) == 0 { interesting[rng.below(interesting.len())] } else { rng.next() };
        match rng.below(8) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = near as u8,
            2 | 3 => {
                let at = 1 + ((at - 1) & !3);
                let word = (near as u32).to_le_bytes();
                bytes.iter_mut().skip(at).zip(word).for_each(|(byte, new)| *byte = new);
            }
            4 => {
                let at = 1 + ((at - 1) & !7);
                bytes.iter_mut().skip(at).zip(near.to_le_bytes()).for_each(|(byte, new)| *byte = new);
            }
            5 => bytes[at] = bytes[at].wrapping_add(rng.below(17) as u8).wrapping_sub(8),
            6 => bytes.truncate(at.max(2)),
            _ => {
                let from = 1 + rng.below(bytes.len() - 1);
                let piece: Vec<u8> = bytes[from..].iter().copied().take(8 * (1 + rng.below(6))).collect();
                bytes.splice(at..at, piece);
            }
        }
    }
    if rng.below(3) > 0 {
        bytes[0] |= 0x80;
    }
}

#[test]
fn valid_batches_are_accepted_and_pass_on_unchanged() {
    for seed in seeds() {
        assert!(check::check(&seed));
    }
}

/// The fuzz target starts from the same batches, as files. `SQUALL_WRITE_SEEDS=1` writes them anew.
#[test]
fn the_fuzz_targets_seed_files_are_these_batches() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/decode");
    for (i, seed) in seeds().iter().enumerate() {
        let file = folder.join(i.to_string());
        if std::env::var_os("SQUALL_WRITE_SEEDS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&file, seed).unwrap();
        }
        assert!(std::fs::read(&file).unwrap() == *seed, "{} is out of date: see above", file.display());
    }
}

#[test]
fn no_mutation_of_a_valid_batch_makes_the_decoder_panic_or_lets_a_bad_batch_in() {
    let seeds = seeds();
    let mut rng = Rng(0x5351);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let mut bytes = seeds[rng.below(seeds.len())].clone();
        mutate(&mut bytes, &mut rng);
        accepted += check::check(&bytes) as usize;
    }
    // A check that refuses all, or nothing, looks at nothing.
    assert!((ROUNDS / 50..ROUNDS / 2).contains(&accepted), "{accepted} of {ROUNDS} mutations were accepted");
}

#[test]
fn random_bytes_are_refused_without_panic() {
    let mut rng = Rng(7);
    for _ in 0..ROUNDS / 4 {
        let len = rng.below(300);
        let bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8 & if rng.below(2) == 0 { 0x1F } else { 0xFF }).collect();
        check::check(&bytes);
    }
}
