//! Options that only some kernels have: each works or is refused with an error that names it, and is never dropped silently.

mod support;

use squall_io::{IoChoice, IoError, IoOptions, open, probe};
use support::{Buf, End, Pool, Rng, Which, both_until};

fn asked_for() -> [(&'static str, IoOptions); 2] {
    [
        ("sqpoll", IoOptions { sqpoll: true, ..IoOptions::default() }),
        ("NAPI", IoOptions { napi_busy_poll_us: Some(20), ..IoOptions::default() }),
    ]
}

#[test]
fn what_the_kernel_permits_works_and_what_it_refuses_is_an_error_with_its_cause() {
    for (name, options) in asked_for() {
        match open::<Buf>(IoChoice::Auto, &options) {
            Ok((driver, warning)) => {
                assert_eq!((driver.notes(), warning), (&[][..], None));
                drop(driver);
                exchange(name, options);
            }
            Err(e @ IoError::Option { .. }) => {
                let text = e.to_string();
                assert!(text.contains(name) && text.contains("leave the option out"), "{text}");
                eprintln!("{name} is not to be had here: {text}");
            }
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn options_of_io_uring_are_refused_with_epoll() {
    for (name, options) in asked_for() {
        let Err(e) = open::<Buf>(IoChoice::Epoll, &options) else { panic!("{name} was dropped silently") };
        assert!(e.to_string().contains(name) && e.to_string().contains("epoll was asked for"), "{e}");
    }
}

#[test]
fn without_incremental_buffers_the_driver_says_nothing_if_that_was_asked_for() {
    if !probe().usable {
        eprintln!("skipped: io_uring cannot be used here");
        return;
    }
    let (driver, _) = open::<Buf>(IoChoice::IoUring, &Which::OneReceiveEach.options()).expect("io_uring");
    assert_eq!(driver.notes(), &[] as &[String]);
}

/// Data both ways, through a driver with the options.
fn exchange(name: &str, options: IoOptions) {
    let (a, b) = support::Socket::Tcp.pair();
    let (mut a_end, mut b_end) = (End::with(Which::IoUring, options), End::new(Which::IoUring));
    let (a_id, b_id) = (a_end.add(a), b_end.add(b));
    let (pool, mut rng) = (Pool::default(), Rng(30));
    for round in 1..=20 {
        let bytes = rng.bytes(20_000);
        a_end.driver.send(a_id, pool.buf(&bytes));
        b_end.driver.send(b_id, pool.buf(&bytes));
        both_until(&mut a_end, &mut b_end, name, |a, b| {
            [(a, a_id), (b, b_id)]
                .iter()
                .all(|(end, id)| end.seen.received(*id) == round * 20_000 && end.driver.queued(*id) == 0)
        });
    }
    assert!(a_end.seen.log(a_id).received == b_end.seen.log(b_id).received, "{name}");
    let End { driver, .. } = a_end;
    drop(driver);
    let End { driver, .. } = b_end;
    drop(driver);
    assert_eq!(pool.live(), 0);
}
