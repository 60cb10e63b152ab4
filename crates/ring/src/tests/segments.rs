//! Segments shared between processes: what is refused, what a hostile peer can do, what is left.

use crate::{Pages, PushError, RingCorrupt, ShmError, ShmLink, ShmSizes, Trust};
use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const SIZES: ShmSizes = ShmSizes { ring_bytes: 4096, creator_inboxes: 3, opener_inboxes: 5 };

fn copy(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().expect("there are descriptors")
}

fn refusal(result: Result<ShmLink, ShmError>) -> String {
    match result {
        Err(ShmError::Refused { what }) => what,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn both_sides_send_records_and_credit_and_see_each_other_sleep() {
    for trust in [Trust::Peer, Trust::Nothing] {
        let (mut a, mut b) = ShmLink::pair(SIZES, trust).expect("shared memory can be had");
        a.touch();
        b.touch();
        for round in 0..100u32 {
            for (from, to) in [(&mut a, 0), (&mut b, 1)].map(|(link, n)| (link, n)) {
                from.producer.try_push(round, &[to; 700]).expect("room");
            }
            assert_eq!(b.consumer.peek(), Ok(Some((round, &[0; 700][..]))));
            let mut copied = [9; 700];
            assert_eq!(a.consumer.header(), Ok(Some((round, 700))));
            a.consumer.copy_record(&mut copied);
            assert_eq!(copied, [1; 700]);
            a.consumer.release();
            b.consumer.release();
        }
        b.source.add(4, 17);
        a.source.add(2, 18);
        assert_eq!((a.credit.consumed(4), b.credit.consumed(2), a.credit.consumed(0)), (17, 18, 0));
        a.sleep.prepare();
        assert!(b.peer_sleep.is_sleeping_after_publish() && !a.peer_sleep.is_sleeping_after_publish());
        assert!(!a.consumer.is_abandoned());
        drop(b);
        assert!(a.consumer.is_abandoned() && a.producer.is_abandoned());
    }
}

#[test]
fn a_record_is_copied_out_whatever_its_length() {
    let (mut a, mut b) = ShmLink::pair(SIZES, Trust::Nothing).expect("shared memory can be had");
    for len in (0..=100).chain([1983, 1984]) {
        let record: Vec<u8> = (0..len).map(|at| at as u8).collect();
        a.producer.try_push(1, &record).expect("room");
        assert_eq!(b.consumer.header(), Ok(Some((1, len))));
        let mut copied = vec![255; len];
        b.consumer.copy_record(&mut copied);
        assert_eq!(copied, record);
        b.consumer.release();
    }
}

#[test]
fn the_size_is_the_sum_of_the_rings_and_a_few_pages() {
    let sizes = ShmSizes { ring_bytes: 512 << 10, creator_inboxes: 8, opener_inboxes: 8 };
    assert_eq!(sizes.segment_bytes(), (1 << 20) + 4096);
    let (a, _b) = ShmLink::pair(sizes, Trust::Peer).expect("shared memory can be had");
    assert!([Pages::Normal, Pages::Reserved].contains(&a.pages()), "{}: too small for transparent ones", a.pages());
    let (untrusting, _b) = ShmLink::pair(sizes, Trust::Nothing).expect("shared memory can be had");
    assert_eq!((untrusting.pages(), untrusting.trust()), (Pages::Normal, Trust::Nothing));
}

#[test]
fn a_side_is_taken_once() {
    let (_creator, fd) = ShmLink::create(SIZES, Trust::Peer).expect("shared memory can be had");
    let _opener = ShmLink::open(copy(&fd), SIZES, Trust::Peer).expect("the other side is free");
    assert_eq!(refusal(ShmLink::open(fd, SIZES, Trust::Peer)), "this side of it was taken before");
}

#[test]
fn what_is_no_segment_of_these_sizes_is_refused_with_the_reason() {
    let (_creator, fd) = ShmLink::create(SIZES, Trust::Peer).expect("shared memory can be had");
    let other = ShmSizes { opener_inboxes: 6, ..SIZES };
    assert!(refusal(ShmLink::open(copy(&fd), other, Trust::Peer)).contains("word 4 of its header is 0x5 where 0x6"));
    let larger = ShmSizes { ring_bytes: 8192, ..SIZES };
    assert!(refusal(ShmLink::open(copy(&fd), larger, Trust::Peer)).contains("bytes where"));
    File::from(copy(&fd)).write_all_at(&[0xAB; 8], 0).expect("a memfd is writable");
    assert!(refusal(ShmLink::open(fd, SIZES, Trust::Peer)).contains("word 0 of its header is 0xabab"));

    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let unsealed = rustix::fs::memfd_create(c"other", flags).expect("memory");
    rustix::fs::ftruncate(&unsealed, SIZES.segment_bytes() as u64).expect("memory");
    assert!(refusal(ShmLink::open(copy(&unsealed), SIZES, Trust::Peer)).contains("not sealed"));
    rustix::fs::fcntl_add_seals(&unsealed, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).expect("ours");
    assert!(refusal(ShmLink::open(unsealed, SIZES, Trust::Peer)).contains("word 0 of its header is 0x0"));
    let file = File::open("/proc/self/exe").expect("this program");
    assert!(refusal(ShmLink::open(file.into(), SIZES, Trust::Peer)).contains("no memfd"));
}

#[test]
fn nobody_can_take_the_memory_away() {
    let (_creator, fd) = ShmLink::create(SIZES, Trust::Peer).expect("shared memory can be had");
    assert!(rustix::fs::ftruncate(&fd, 0).is_err() && rustix::fs::ftruncate(&fd, 1 << 30).is_err());
    assert!(rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).is_err());
}

#[test]
fn the_memory_is_given_back_with_the_last_part() {
    let mapped = |what: &File| {
        let inode = what.as_fd();
        let ino = rustix::fs::fstat(inode).expect("open").st_ino.to_string();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
        maps.lines().filter(|line| line.contains("squall-link") && line.contains(&ino)).count()
    };
    let (creator, fd) = ShmLink::create(SIZES, Trust::Peer).expect("shared memory can be had");
    let file = File::from(fd);
    assert_eq!(mapped(&file), 1);
    let ShmLink { consumer, producer, credit, source, sleep, peer_sleep, .. } = creator;
    drop((producer, credit, source, sleep, peer_sleep));
    assert_eq!(mapped(&file), 1);
    drop(consumer);
    assert_eq!(mapped(&file), 0);
}

/// Where the words lie that a hostile peer would write: offsets in the segment of [`SIZES`].
const TAIL: u64 = 5 * 128;
const HEAD: u64 = TAIL + 128;
const RELEASED: u64 = HEAD + 8;
const LINES: u64 = 4096;

fn put(file: &File, at: u64, word: u64) {
    file.write_all_at(&word.to_ne_bytes(), at).expect("a memfd is writable");
}

#[test]
fn positions_and_lengths_that_make_no_sense_are_errors() {
    let what = |result: Result<Option<(u32, usize)>, RingCorrupt>| result.expect_err("corrupt").what;
    let fresh = || {
        let (creator, fd) = ShmLink::create(SIZES, Trust::Peer).expect("shared memory can be had");
        let opener = ShmLink::open(copy(&fd), SIZES, Trust::Peer).expect("the other side is free");
        (creator, opener, File::from(fd))
    };
    for tail in [1, 63, 4096 + 64, 1 << 40, u64::MAX - 63] {
        let (_a, mut b, file) = fresh();
        put(&file, TAIL, tail);
        assert_eq!(what(b.consumer.header()), "the producer's position lies outside of the ring", "{tail}");
    }
    // (published tail, header word)
    for (tail, word) in [(64, 1), (128, 65), (4096, 4096), (4096, u64::from(u32::MAX) - 1), (4096, 1985)] {
        let (_a, mut b, file) = fresh();
        put(&file, LINES, word);
        put(&file, TAIL, tail);
        let error = b.consumer.header().expect_err("corrupt");
        assert_eq!((error.what, error.word), ("a record that reaches beyond what was published", word), "{tail}");
        assert_eq!(b.consumer.header(), Err(error), "and stays so");
    }
    let (_a, mut b, file) = fresh();
    put(&file, LINES, u64::from(u32::MAX));
    put(&file, TAIL, 4096);
    assert_eq!(what(b.consumer.header()), "a skip without a record behind it");
    for head in [1, 64 * 100, u64::MAX - 63] {
        let (mut a, _b, file) = fresh();
        put(&file, HEAD, head);
        while a.producer.try_push(0, &[1; 1000]) == Ok(()) {}
        let error = a.producer.try_push(0, &[1; 1000]).expect_err("corrupt");
        let PushError::Corrupt(corrupt) = error else { panic!("{error:?}") };
        assert_eq!((corrupt.what, corrupt.word), ("the consumer's position lies outside of what was published", head));
    }
    let (mut a, _b, file) = fresh();
    a.producer.try_push(0, b"x").expect("room");
    put(&file, RELEASED, u64::MAX);
    assert_eq!(a.producer.unread(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Take,
    /// Any word of the segment gets any value: small ones, sums of lines, anything.
    Spoil(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![0u64..5000, (0u64..200).prop_map(|n| n * 64), any::<u64>(), Just(u64::from(u32::MAX))];
    let place =
        prop_oneof![Just(TAIL), Just(HEAD), (0u64..64).prop_map(|n| LINES + n * 64), (0u64..1536).prop_map(|n| n * 8)];
    let step = prop_oneof![
        4 => (0usize..=1984).prop_map(Step::Push),
        4 => Just(Step::Take),
        1 => (place, value).prop_map(|(place, value)| Step::Spoil(place, value)),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// Whatever is written into the segment: no panic, no access outside (the mapping ends behind it), and what comes out is bounded.
    #[test]
    fn a_spoilt_segment_gives_errors_and_nothing_worse(steps in steps()) {
        let (mut a, fd) = ShmLink::create(SIZES, Trust::Nothing).expect("shared memory can be had");
        let mut b = ShmLink::open(copy(&fd), SIZES, Trust::Nothing).expect("the other side is free");
        let file = File::from(fd);
        let mut to = vec![0; 1984];
        for step in steps {
            match step {
                Step::Push(len) => { let _ = a.producer.try_push(1, &to[..len]); }
                Step::Take => if let Ok(Some((_, len))) = b.consumer.header() {
                    prop_assert!(len <= 1984 && b.consumer.record().len() == len);
                    b.consumer.copy_record(&mut to[..len]);
                    b.consumer.release();
                },
                Step::Spoil(place, value) => put(&file, place, value),
            }
            let _ = (a.producer.unread(), b.consumer.pending(), a.credit.consumed(4));
        }
    }
}

#[test]
fn a_peer_that_writes_all_the_time_does_no_harm() {
    let (mut a, fd) = ShmLink::create(SIZES, Trust::Nothing).expect("shared memory can be had");
    let mut b = ShmLink::open(copy(&fd), SIZES, Trust::Nothing).expect("the other side is free");
    let file = File::from(fd);
    let done = AtomicBool::new(false);
    let mut outcomes = [0u32; 2];
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut word = 1u64;
            while !done.load(Ordering::Relaxed) {
                word = word.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                // Headers and bytes of records, with lengths near the limits.
                put(&file, LINES + (word >> 40) % 512 * 8, word >> 50);
            }
        });
        let mut to = vec![0; 1984];
        for n in 0..20_000u32 {
            let _ = a.producer.try_push(n, &to[..(n % 1984) as usize]);
            match b.consumer.header() {
                Ok(Some((_, len))) => {
                    b.consumer.copy_record(&mut to[..len]);
                    b.consumer.release();
                    outcomes[0] += 1;
                }
                Ok(None) => {}
                Err(_) => {
                    // The ring is of no use any more; a new one takes its place.
                    outcomes[1] += 1;
                    break;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(outcomes[0] > 0 || outcomes[1] > 0, "nothing came at all");
}
