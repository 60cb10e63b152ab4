//! HTTP, between our own spout and sink and against servers that misbehave.
#![cfg(feature = "http")]

extern crate squall_api as squall;

#[macro_use]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::json;
use squall::Topology;
use squall_components::registry::Place;
use squall_components::{Form, HttpPost, HttpSink, OnError};
use support::{collect, collected, counter, run, shown, typed};

/// Answers each request by the next of these, again by the last; keeps the bodies.
fn server(answers: &'static [&'static str]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = bodies.clone();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let kept = kept.clone();
            thread::spawn(move || serve(connection.unwrap(), answers, &kept));
        }
    });
    (url, bodies)
}

fn serve(connection: TcpStream, answers: &[&str], kept: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut writer = connection;
    loop {
        let (mut length, mut line) = (0, String::new());
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut kept = kept.lock().unwrap();
        let answer = answers[kept.len().min(answers.len() - 1)];
        kept.push(String::from_utf8(body).unwrap());
        drop(kept);
        if answer.is_empty() {
            return;
        }
        write!(writer, "HTTP/1.1 {answer}\r\ncontent-length: 2\r\n\r\nok").unwrap();
    }
}

fn post(address: &str, method: &str, path: &str, body: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        connection,
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn posted_lines_become_rows_and_what_is_no_post_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = thread::spawn(move || {
        let to = |method: &str, path: &str, body: &str| post(&address, method, path, body)[9..12].to_owned();
        let first = [
            to("GET", "/events", ""),
            to("POST", "/other", "{}"),
            to("POST", "/events", &"x".repeat(2000)),
            to("POST", "/events", ""),
            to("POST", "/events", "{\"n\":1}\n{\"n\":2}\nno json\n"),
        ];
        // The last one: the source ends with its row.
        (first, to("POST", "/events", "{\"n\":3}"))
    });
    let topology = Topology::new("posted");
    let source = HttpPost::bound(listener).path("/events").body_bytes_max(1000).limit(4);
    let source = source.form(Form::Json(vec!["n".into()])).on_error(OnError::Skip);
    let declared = source.declare(Place::new(&topology, "spout")).unwrap();
    collect(&topology, &declared, "default");
    let outcome = run(topology).unwrap();
    let (first, last) = client.join().unwrap();
    assert_eq!(first, ["405", "404", "413", "202", "202"]);
    assert_eq!(last, "202");
    assert_eq!(collected(&outcome), ["[1]", "[2]", "[3]"]);
    assert_eq!(counter(&outcome, "spout", "bad_input"), 1);
}

#[test]
fn rows_are_acknowledged_when_their_post_was_answered() {
    let (url, bodies) = server(&["200 OK"]);
    let mut sink = typed(|p| HttpSink::to(&url).rows(10).declare(p), &["n"]);
    for n in 0..3i64 {
        sink.send(row![n]);
    }
    sink.finish();
    assert_eq!((sink.acked().len(), sink.counter("rows"), sink.counter("posts")), (3, 3, 3));
    assert!(sink.balanced() && sink.failed().is_empty());
    let mut bodies = bodies.lock().unwrap().clone();
    bodies.sort();
    assert_eq!(bodies, ["{\"n\":0}\n", "{\"n\":1}\n", "{\"n\":2}\n"]);
}

#[test]
fn a_row_is_pending_for_as_long_as_its_post_has_no_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (arrived, has_arrived) = std::sync::mpsc::channel();
    let (answer, may_answer) = std::sync::mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let mut connection = listener.accept().unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"{\"n\":7}\n") {
            let mut part = [0; 1024];
            let read = connection.read(&mut part).unwrap();
            assert_ne!(read, 0, "the post is whole");
            request.extend_from_slice(&part[..read]);
        }
        arrived.send(()).unwrap();
        may_answer.recv().unwrap();
        connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    });
    let mut sink = typed(|p| HttpSink::to(&url).declare(p), &["n"]);
    let root = sink.send(row![7i64]);
    has_arrived.recv().unwrap();
    // The batch has ended, and ticks look for answers.
    sink.advance(Duration::from_secs(1));
    assert!(sink.acked().is_empty() && sink.failed().is_empty(), "the server has it, and has not said so");
    answer.send(()).unwrap();
    sink.finish();
    assert_eq!(sink.acked(), [root]);
    server.join().unwrap();
}

#[test]
fn a_server_that_cannot_now_is_asked_again_and_one_that_will_not_is_not() {
    // A connection that is closed without an answer, too.
    let (url, bodies) = server(&["503 Busy", "", "429 Slow Down", "204 No Content"]);
    let sink = |url: &str| HttpSink::to(url).concurrency(1).attempts(4, Duration::from_millis(1));
    let mut patient = typed(|p| sink(&url).declare(p), &["n"]);
    patient.send(row![7i64]);
    patient.finish();
    assert_eq!((patient.acked().len(), patient.counter("retries")), (1, 3));
    assert_eq!(bodies.lock().unwrap().len(), 4);

    let (url, bodies) = server(&["400 Bad Request"]);
    let mut refused = typed(|p| sink(&url).on_error(OnError::DeadLetters).declare(p), &["n"]);
    refused.send(row![8i64]);
    refused.finish();
    assert_eq!(shown(refused.outputs("dead_letters")), [r#"[8, "the server answered 400"]"#]);
    assert_eq!((bodies.lock().unwrap().len(), refused.counter("bad_input")), (1, 1));
    assert!(refused.balanced() && refused.failed().is_empty());

    let (url, _) = server(&["500 Broken"]);
    let mut failing = typed(|p| sink(&url).attempts(2, Duration::from_millis(1)).declare(p), &["n"]);
    let root = failing.send(row![9i64]);
    failing.finish();
    assert_eq!(failing.failed(), [root]);
    assert_eq!(failing.counter("retries"), 1);
}

#[test]
fn a_run_that_ends_early_does_not_wait_for_a_server_that_is_away() {
    // Half a minute between attempts: nobody waits for the next one.
    let (url, bodies) = server(&["503 Busy"]);
    let mut sink = typed(|p| HttpSink::to(&url).attempts(3, Duration::from_secs(30)).declare(p), &["n"]);
    sink.send(row![1i64]);
    while bodies.lock().unwrap().is_empty() {
        thread::yield_now();
    }
    drop(sink);
    assert_eq!(bodies.lock().unwrap().len(), 1);
}

#[test]
fn no_more_posts_are_under_way_than_may_be_and_the_next_row_waits() {
    // A server that answers a post only when told: so what is under way is known.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (told, arrived) = (Arc::new(Mutex::new(Vec::<TcpStream>::new())), std::sync::mpsc::channel());
    let (open, tell) = (told.clone(), arrived.0);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            // To the body's end: a connection that is closed with something unread resets.
            let (mut request, mut part) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"}\n") {
                let read = connection.read(&mut part).unwrap();
                assert!(read > 0);
                request.extend_from_slice(&part[..read]);
            }
            open.lock().unwrap().push(connection);
            tell.send(()).unwrap();
        }
    });
    let sending = thread::spawn(move || {
        let mut sink = typed(|p| HttpSink::to(&url).concurrency(2).declare(p), &["n"]);
        for n in 0..5i64 {
            sink.send(row![n]);
        }
        sink.finish();
        (sink.acked().len(), sink.counter("posts"))
    });
    for _ in 0..5 {
        arrived.1.recv().unwrap();
        // Two at most have come and were not answered; the third waits in the sink until one was.
        let mut open = told.lock().unwrap();
        assert!(open.len() <= 2, "{} posts are under way", open.len());
        if open.len() == 2 {
            let mut first = open.remove(0);
            first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
    }
    for mut last in told.lock().unwrap().drain(..) {
        last.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    }
    assert_eq!(sending.join().unwrap(), (5, 5));
}

#[test]
fn what_one_topology_posts_another_takes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sender = thread::spawn(move || {
        let topology = Topology::new("sender");
        let numbers = squall_components::Generator::new(500).declare(Place::new(&topology, "numbers")).unwrap();
        let rows = numbers.stream("default").unwrap();
        let sink = HttpSink::to(&url).rows(50).concurrency(3);
        let mut sink = sink.declare(Place::new(&topology, "sink").reads(&rows.fields)).unwrap();
        sink.subscribe(rows.handle.shuffle());
        let outcome = run(topology).unwrap();
        counter(&outcome, "sink", "rows")
    });
    let topology = Topology::new("receiver");
    let source = HttpPost::bound(listener).form(Form::Json(vec!["n".into()])).limit(500);
    let declared = source.declare(Place::new(&topology, "spout")).unwrap();
    collect(&topology, &declared, "default");
    let mut rows = collected(&run(topology).unwrap());
    assert_eq!(sender.join().unwrap(), 500);
    rows.sort_by_key(|row| row.trim_matches(['[', ']']).parse::<i64>().unwrap());
    assert_eq!(rows, (0..500).map(|n| format!("[{n}]")).collect::<Vec<_>>());
    let json = json!({ "url": "https://x" });
    let errors = support::declare(&Topology::new("x"), "s", "http-sink", json, &["n"]).err().unwrap();
    assert!(errors[0].to_string().contains("begin it with http://"), "{errors:?}");
}
