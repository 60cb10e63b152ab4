//! A second generator on the same echo, written small and by another method, to hold tuplegen's percentiles against: one thread sends at fixed
//! times from a wait that gives way to others (two of its threads and the target share two cores here), another reads, every latency is kept and sorted (no histogram, no accounts, no verdict), as JLBH does it.
//!
//! usage: jlbh_like INGEST EGRESS RATE SECONDS     prints "p50 p90 p99" in nanoseconds, from the intended time, the first tenth left out

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use squall_load::{LinkOptions, Role, Schema, Tag, connect, record};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [ingest, egress, rate, seconds] = &args[..] else { panic!("usage: jlbh_like INGEST EGRESS RATE SECONDS") };
    let (rate, seconds): (f64, f64) = (rate.parse().expect("a rate"), seconds.parse().expect("seconds"));
    let total = (rate * seconds) as u64;
    let schema = Schema::default();
    let options = LinkOptions { patience: Duration::from_secs(10), ..LinkOptions::default() };
    let mut rx = connect(&egress.parse().expect("an address"), Role::Egress, &schema, &options)
        .expect("the egress")
        .rx
        .expect("its end");
    let mut tx = connect(&ingest.parse().expect("an address"), Role::Ingest, &schema, &options)
        .expect("the ingest")
        .tx
        .expect("its end");
    let (start, done) = (Instant::now(), AtomicBool::new(false));
    let mut latencies: Vec<u64> = Vec::with_capacity(total as usize);
    std::thread::scope(|s| {
        s.spawn(|| {
            let mut chunk = Vec::new();
            for n in 0..total {
                let due = (n as f64 * 1e9 / rate) as u64;
                while (start.elapsed().as_nanos() as u64) < due {
                    std::thread::yield_now();
                }
                chunk.clear();
                record::push(&mut chunk, n, due, due, |_| {});
                while !tx.try_send(Tag::Data, &chunk).expect("the target is there") {
                    std::thread::yield_now();
                }
            }
            // Relaxed: a flag that carries nothing.
            done.store(true, Ordering::Relaxed);
            let late = Instant::now() + Duration::from_secs(3);
            while !tx.flush().expect("the target is there") && Instant::now() < late {}
            std::thread::sleep(Duration::from_millis(500));
        });
        let mut ended = None;
        while (latencies.len() as u64) < total {
            let Ok(Some((_, chunk))) = rx.peek() else {
                if done.load(Ordering::Relaxed)
                    && ended.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(3)
                {
                    break;
                }
                std::thread::yield_now();
                continue;
            };
            let now = start.elapsed().as_nanos() as u64;
            let mut at = 0;
            while at < chunk.len() {
                let (r, len) = record::parse_return(&chunk[at..]).expect("a return");
                latencies.push(now - r.record.due_ns);
                at += len;
            }
            rx.release();
        }
    });
    let mut kept = latencies.split_off(latencies.len() / 10);
    kept.sort_unstable();
    let at = |q: f64| kept[((kept.len() - 1) as f64 * q) as usize];
    println!("{} {} {}", at(0.5), at(0.9), at(0.99));
}
