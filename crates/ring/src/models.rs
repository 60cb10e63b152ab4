//! Every interleaving of small programs, under loom: `make loom`. loom also reports each pair of accesses to the same
//! line of a ring that nothing orders, which is what a wrong `Ordering` comes to.

use crate::{PushError, SleepFlag, byte_ring, credit_board};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

#[test]
fn records_cross_whole_and_in_order_also_around_the_end() {
    loom::model(|| {
        // 256 bytes: four lines; two records of two lines fill it, the third needs the room of the first.
        let (mut producer, mut consumer) = byte_ring(256);
        let pushing = thread::spawn(move || {
            for tag in 0..3u32 {
                while producer.try_push(tag, &[tag as u8; 64]) == Err(PushError::Full) {
                    thread::yield_now();
                }
            }
        });
        for expected in 0..3u32 {
            while consumer.peek().unwrap().is_none() {
                thread::yield_now();
            }
            assert_eq!(consumer.peek().unwrap(), Some((expected, &[expected as u8; 64][..])));
            consumer.release();
        }
        pushing.join().unwrap();
        assert!(consumer.is_abandoned() && consumer.peek().unwrap().is_none());
    });
}

#[test]
fn a_skip_is_never_met_without_the_record_behind_it() {
    loom::model(|| {
        let (mut producer, mut consumer) = byte_ring(256);
        // Three lines in: a record of two lines must skip the last one.
        for _ in 0..3 {
            producer.try_push(0, b"").unwrap();
            consumer.peek().unwrap();
            consumer.release();
        }
        let pushing = thread::spawn(move || producer.try_push(7, &[7; 64]).unwrap());
        while consumer.peek().unwrap().is_none() {
            thread::yield_now();
        }
        assert_eq!(consumer.peek().unwrap(), Some((7, &[7; 64][..])));
        consumer.release();
        assert!(!consumer.pending());
        pushing.join().unwrap();
    });
}

#[test]
fn after_the_producer_is_gone_an_empty_ring_stays_empty() {
    loom::model(|| {
        let (mut producer, mut consumer) = byte_ring(256);
        let pushing = thread::spawn(move || producer.try_push(1, b"last words").unwrap());
        while !consumer.is_abandoned() {
            thread::yield_now();
        }
        assert_eq!(consumer.peek().unwrap(), Some((1, &b"last words"[..])));
        pushing.join().unwrap();
    });
}

#[test]
fn a_sleeper_is_rung_or_sees_the_record() {
    loom::model(|| {
        let (mut producer, consumer) = byte_ring(256);
        let flag = SleepFlag::new();
        let bell = Arc::new(AtomicBool::new(false));
        let publisher = thread::spawn({
            let (flag, bell) = (flag.clone(), Arc::clone(&bell));
            move || {
                producer.try_push(1, b"x").unwrap();
                if flag.is_sleeping_after_publish() {
                    bell.store(true, Ordering::Release);
                }
                producer
            }
        });
        flag.prepare();
        let sleeps = !consumer.pending();
        publisher.join().unwrap();
        assert!(!sleeps || bell.load(Ordering::Acquire), "it sleeps and nobody rings");
    });
}

#[test]
fn two_publishers_of_which_one_claims_the_wake_leave_nothing_unseen() {
    loom::model(|| {
        let flag = SleepFlag::new();
        let bell = Arc::new(AtomicBool::new(false));
        let rings: Vec<_> = (0..2).map(|_| byte_ring(256)).collect();
        let (mut consumers, mut publishers) = (Vec::new(), Vec::new());
        for (mut producer, consumer) in rings {
            let (flag, bell) = (flag.clone(), Arc::clone(&bell));
            consumers.push(consumer);
            publishers.push(thread::spawn(move || {
                producer.try_push(1, b"x").unwrap();
                if flag.claim_wake_after_publish() {
                    bell.store(true, Ordering::Release);
                }
                producer
            }));
        }
        flag.prepare();
        let sleeps = !consumers.iter().any(|consumer| consumer.pending());
        let _producers: Vec<_> = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
        assert!(!sleeps || bell.load(Ordering::Acquire), "it sleeps and nobody rings");
    });
}

#[test]
fn a_sleeper_with_a_flag_in_each_of_two_links_is_rung_or_sees_the_record() {
    loom::model(|| {
        let bell = Arc::new(AtomicBool::new(false));
        let (mut consumers, mut publishers, mut flags) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let (mut producer, consumer) = byte_ring(256);
            let flag = SleepFlag::new();
            let bell = Arc::clone(&bell);
            consumers.push(consumer);
            flags.push(flag.clone());
            publishers.push(thread::spawn(move || {
                producer.try_push(1, b"x").unwrap();
                if flag.claim_wake_after_publish() {
                    bell.store(true, Ordering::Release);
                }
                producer
            }));
        }
        flags[0].announce();
        flags[1].prepare();
        let sleeps = !consumers.iter().any(|consumer| consumer.pending());
        let _producers: Vec<_> = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
        assert!(!sleeps || bell.load(Ordering::Acquire), "it sleeps and nobody rings");
    });
}

#[test]
fn what_a_sender_that_sleeps_for_room_waits_for_is_seen_or_rung() {
    loom::model(|| {
        // The whole way: credit given, starving flag, sleep flag, bell.
        let (mut source, view) = credit_board(1);
        let flag = SleepFlag::new();
        let bell = Arc::new(AtomicBool::new(false));
        let receiver = thread::spawn({
            let (flag, bell) = (flag.clone(), Arc::clone(&bell));
            move || {
                source.add(0, 100);
                if source.take_starving() && flag.claim_wake_after_publish() {
                    bell.store(true, Ordering::Release);
                }
            }
        });
        flag.prepare();
        view.set_starving(true);
        let sleeps = view.consumed(0) != 100;
        receiver.join().unwrap();
        assert!(!sleeps || bell.load(Ordering::Acquire), "it sleeps without credit and nobody rings");
    });
}

#[test]
fn a_consumer_that_is_gone_has_released_all_it_will() {
    loom::model(|| {
        let (mut producer, mut consumer) = byte_ring(256);
        producer.try_push(1, b"x").unwrap();
        // Its drop tells what `release_later` did not.
        let taking = thread::spawn(move || {
            if consumer.peek().unwrap().is_some() {
                consumer.release_later();
            }
        });
        while !producer.is_abandoned() {
            thread::yield_now();
        }
        assert_eq!(producer.unread(), 0);
        taking.join().unwrap();
    });
}

#[test]
fn a_starving_sender_sees_the_credit_or_is_woken() {
    loom::model(|| {
        let (mut source, view) = credit_board(1);
        let receiver = thread::spawn(move || {
            source.add(0, 100);
            source.take_starving()
        });
        view.set_starving(true);
        let sees = view.consumed(0) == 100;
        let woken = receiver.join().unwrap();
        assert!(sees || woken, "the credit came and nobody told");
    });
}
