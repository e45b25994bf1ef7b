//! Objects make events, each exactly one.

use std::collections::BTreeSet;

use firelink::triggers::watch::{Existing, NameFilter};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::host::{Bench, Fate, S3Thread, Store};
use super::s3::S3Server;
use super::{BUCKET, watch_at};

#[test]
fn ten_thousand_objects_are_a_silent_baseline_and_a_hundred_new_ones_a_hundred_events() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..10_000).map(|n| format!("input/{n:05}")));
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Skip), Store::default(), &thread);
    bench.poll();
    assert_eq!(bench.warning(), None);
    assert_eq!(bench.store().events.len(), 0);
    assert_eq!(bench.store().objects.len(), 10_000);
    assert!(bench.store().baseline_done);
    assert_eq!(server.listings(), 10);

    server.put_all(BUCKET, (0..100).map(|n| format!("input/{:05}-new", n * 97)));
    bench.poll();
    let keys: BTreeSet<&str> = bench.store().keys().into_iter().collect();
    assert_eq!(bench.store().events.len(), 100);
    assert_eq!(keys.len(), 100);
    bench.poll();
    assert_eq!(bench.store().events.len(), 100, "an event is made once");
}

#[test]
fn existing_objects_make_events_in_the_order_of_keys_with_existing_process() {
    let server = S3Server::start(BUCKET);
    for key in ["b", "a", "c/d", "c", "Ü"] {
        server.put(BUCKET, key, b"x");
    }
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    assert_eq!(bench.store().keys(), ["a", "b", "c", "c/d", "Ü"]);
}

#[test]
fn the_payload_has_bucket_key_size_etag_and_time() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "input/a.csv", b"hello");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    let event = &bench.store().events[0];
    let fields: Vec<&String> = event.as_object().expect("an object").keys().collect();
    assert_eq!(fields, ["bucket", "etag", "key", "last_modified", "size"]);
    assert_eq!((&event["bucket"], &event["key"], &event["size"]), (&json!(BUCKET), &json!("input/a.csv"), &json!(5)));
    assert_eq!(event["etag"], json!(server.etag(BUCKET, "input/a.csv")));
    let modified = event["last_modified"].as_str().expect("a time");
    assert!(modified.starts_with("20") && modified.ends_with('Z'), "{modified}");
}

#[test]
fn a_changed_object_makes_an_event_again_and_the_same_content_put_again_does_not() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"one");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Skip), Store::default(), &thread);
    bench.poll();
    server.put(BUCKET, "a", b"one");
    bench.poll();
    assert_eq!(bench.store().events.len(), 0, "nothing has changed");
    server.put(BUCKET, "a", b"two");
    bench.poll().poll();
    assert_eq!(bench.store().keys(), ["a"]);
    server.put(BUCKET, "a", b"one");
    bench.poll();
    assert_eq!(bench.store().keys(), ["a", "a"], "back to the first content is a change too");
}

#[test]
fn a_deleted_object_is_new_when_it_is_created_again() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..2_500).map(|n| format!("{n:04}")));
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Skip), Store::default(), &thread);
    bench.poll();
    for n in 0..2_400 {
        assert!(server.delete(BUCKET, &format!("{n:04}")));
    }
    bench.poll();
    assert_eq!(bench.store().objects.len(), 100);
    let gone: Vec<usize> = bench.batches.iter().map(|(_, size)| size.gone).filter(|gone| *gone > 0).collect();
    assert_eq!(gone, [1_000, 1_000, 400], "they leave in bounded batches");
    server.put(BUCKET, "0007", b"x");
    bench.poll();
    assert_eq!(bench.store().keys(), ["0007"]);
}

#[test]
fn prefix_and_filter_apply_and_a_changed_filter_repeats_nothing() {
    let server = S3Server::start(BUCKET);
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.prefix = "input/".to_owned();
    watch.filter = Some(NameFilter::parse("*.csv").expect("a glob"));
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    for key in ["input/a.csv", "input/b.txt", "input/deep/c.csv", "other/d.csv", "input.csv"] {
        server.put(BUCKET, key, b"x");
    }
    bench.poll();
    assert_eq!(bench.store().keys(), ["input/a.csv", "input/deep/c.csv"]);
    let store = bench.crash();

    watch.filter = None;
    let mut bench = Bench::start(&watch, store, &thread);
    bench.poll();
    assert_eq!(bench.store().events.len(), 2, "b.txt was there before the filter changed");
    server.put(BUCKET, "input/e.txt", b"x");
    bench.poll();
    assert_eq!(bench.store().keys().last(), Some(&"input/e.txt"));
}

#[test]
fn folder_markers_are_ignored_but_not_files_whose_key_ends_with_a_slash() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "input/", b"");
    server.put(BUCKET, "input/strange/", b"content");
    server.put(BUCKET, "input/empty", b"");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    assert_eq!(bench.store().keys(), ["input/empty", "input/strange/"]);
}

#[test]
fn keys_arrive_unchanged() {
    let keys = ["a b", "a+b", "a%20b", "line\nbreak", "cr\r\nlf", "tab\t\u{1}", "<&\"'>", "ünï/☃", "..//x", "*?[", "100%"];
    let server = S3Server::start(BUCKET);
    for key in keys {
        server.put(BUCKET, key, b"x");
    }
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    let found: BTreeSet<&str> = bench.store().keys().into_iter().collect();
    assert_eq!(found, keys.into_iter().collect::<BTreeSet<&str>>());
}

#[test]
fn a_batch_is_one_event_for_all_objects_of_a_scan() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..3_000).map(|n| format!("{n:04}")));
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.batch = true;
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    for key in ["0000-a", "1500-b", "2999-c"] {
        server.put(BUCKET, key, b"x");
    }
    bench.poll().poll();
    assert_eq!(bench.store().events.len(), 1);
    let event = &bench.store().events[0];
    assert_eq!((&event["bucket"], &event["count"]), (&json!(BUCKET), &json!(3)));
    let keys: Vec<&str> = event["objects"].as_array().expect("a list").iter().filter_map(|o| o["key"].as_str()).collect();
    assert_eq!(keys, ["0000-a", "1500-b", "2999-c"]);
}

#[test]
fn a_batch_of_more_than_a_thousand_objects_comes_in_parts() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..2_300).map(|n| format!("{n:04}")));
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Process);
    watch.batch = true;
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll().poll();
    let counts: Vec<u64> = bench.store().events.iter().filter_map(|event| event["count"].as_u64()).collect();
    assert_eq!(counts, [1_000, 1_000, 300]);
}

#[test]
fn another_prefix_is_another_watch_with_its_own_baseline() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "one/a", b"x");
    server.put(BUCKET, "two/b", b"x");
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.prefix = "one/".to_owned();
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    watch.prefix = "two/".to_owned();
    let mut bench = Bench::start(&watch, bench.crash(), &thread);
    bench.poll();
    assert_eq!(bench.store().events.len(), 0);
    assert_eq!(bench.store().objects.len(), 1);
}

#[test]
fn objects_that_were_not_recorded_are_found_again() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..1_500).map(|n| format!("{n:04}")));
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    let mut batches = 0;
    bench.poll_with(|_| {
        batches += 1;
        if batches == 2 { Fate::Refuse } else { Fate::Commit }
    });
    assert_eq!(bench.store().events.len(), 1_000);
    assert!(!bench.store().baseline_done);
    assert!(bench.warning().expect("a warning").contains("could not be stored"));
    bench.poll();
    assert_eq!(bench.warning(), None);
    assert_eq!(bench.store().keys().into_iter().collect::<BTreeSet<_>>().len(), 1_500);
    assert_eq!(bench.store().events.len(), 1_500);
}

#[test]
fn a_key_stays_seen_until_its_removal_is_recorded() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..2_000).map(|n| format!("{n:04}")));
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Skip), Store::default(), &thread);
    bench.poll();
    for n in 0..1_800 {
        server.delete(BUCKET, &format!("{n:04}"));
    }
    let mut first = true;
    bench.poll_with(|batch| {
        assert!(!batch.gone.is_empty());
        if std::mem::take(&mut first) { Fate::Commit } else { Fate::Refuse }
    });
    assert_eq!(bench.store().objects.len(), 1_000);
    // The store of the test refuses to forget a key twice.
    bench.poll();
    assert_eq!(bench.store().objects.len(), 200);
    assert_eq!(bench.store().events.len(), 0);
}

/// The daemon dies at any batch, before or after its commit, again and again, while objects come, change and go.
#[test]
fn each_object_makes_exactly_one_event_wherever_the_daemon_dies() {
    let thread = S3Thread::start();
    let server = S3Server::start(BUCKET);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let fates = prop_oneof![
        6 => Just(Fate::Commit),
        1 => Just(Fate::Refuse),
        2 => Just(Fate::CrashBeforeCommit),
        2 => Just(Fate::CrashAfterCommit),
    ];
    let story = (prop::collection::vec(fates, 0..14), any::<bool>(), any::<bool>(), 0_usize..5);
    let round = std::cell::Cell::new(0);
    runner
        .run(&story, |(fates, batch, ordered, late)| {
            let mut watch = watch_at(server.endpoint(), Existing::Process);
            round.set(round.get() + 1);
            watch.prefix = format!("{}/", round.get());
            (watch.batch, watch.ordered) = (batch, ordered);
            let key = |n: usize| format!("{}{n:05}", watch.prefix);
            server.put_all(BUCKET, (0..2_200).map(key));
            let mut expected: Vec<String> = (0..2_200).map(key).collect();
            let mut store = Store::default();
            let mut fates = fates.into_iter();
            // Objects come while the daemon may be dead.
            for wave in 0..=late {
                let mut bench = Bench::start(&watch, store, &thread);
                while !bench.poll_with(|_| fates.next().unwrap_or(Fate::Commit)) {
                    bench = Bench::start(&watch, bench.crash(), &thread);
                }
                store = bench.crash();
                let new = 10_000 + wave;
                server.put(BUCKET, &key(new), b"x");
                expected.push(key(new));
            }
            let mut bench = Bench::start(&watch, store, &thread);
            bench.poll().poll().poll();
            let mut found: Vec<String> = Vec::new();
            for event in &bench.store().events {
                let objects = event["objects"].as_array().cloned().unwrap_or_else(|| vec![event.clone()]);
                found.extend(objects.iter().filter_map(|object| object["key"].as_str()).map(str::to_owned));
            }
            found.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(found.len(), expected.len());
            prop_assert_eq!(found, expected);
            Ok(())
        })
        .expect("exactly one event for each object");
}

/// Polls of an `ordered` watch from one full listing to the next.
const FULL_LISTING_EVERY: usize = 100;

#[test]
fn an_ordered_watch_lists_from_the_last_key_on() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..5_000).map(|n| format!("in/{n:06}")));
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    (watch.prefix, watch.ordered) = ("in/".into(), true);
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert_eq!((server.listings(), bench.store().objects.len()), (5, 5_000));

    bench.poll().poll();
    assert_eq!(server.listings(), 7, "a quiet poll costs one request, however many keys there are");
    server.put(BUCKET, "in/005000", b"x");
    server.put(BUCKET, "io/1", b"another prefix");
    bench.poll();
    assert_eq!((server.listings(), bench.store().keys()), (8, vec!["in/005000"]));
    server.put_all(BUCKET, (6_000..7_500).map(|n| format!("in/{n:06}")));
    bench.poll().poll();
    assert_eq!((server.listings(), bench.store().events.len()), (11, 1_501), "two pages, then none new");

    // What was seen is known after a restart; what came meanwhile is found, wherever it stands.
    server.put(BUCKET, "in/000000-late", b"x");
    let mut bench = Bench::start(&watch, bench.crash(), &thread);
    bench.poll();
    assert_eq!((server.listings(), bench.store().events.len()), (11 + 7, 1_502));
}

#[test]
fn an_ordered_watch_finds_late_changed_and_deleted_objects_at_its_next_full_listing() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..10).map(|n| n.to_string()));
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.ordered = true;
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    server.put(BUCKET, "00-late", b"x");
    server.put(BUCKET, "3", b"changed");
    assert!(server.delete(BUCKET, "9"), "the last key, too, may leave");
    for _ in 1..FULL_LISTING_EVERY {
        bench.poll();
    }
    assert_eq!((bench.store().events.len(), bench.store().objects.len()), (0, 10));
    bench.poll();
    assert_eq!((bench.store().keys(), bench.store().objects.len()), (vec!["00-late", "3"], 10));
    server.put(BUCKET, "9", b"back");
    bench.poll();
    assert_eq!(bench.store().keys(), ["00-late", "3", "9"], "the last key is now 8, and 9 stands after it");
}

#[test]
fn a_failed_poll_keeps_the_position_of_an_ordered_watch() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "0", b"x");
    let thread = S3Thread::start();
    for batch in [false, true] {
        let mut watch = watch_at(server.endpoint(), Existing::Skip);
        (watch.ordered, watch.batch, watch.prefix) = (true, batch, if batch { "b" } else { "a" }.into());
        server.put(BUCKET, &format!("{}-0", watch.prefix), b"x");
        let mut bench = Bench::start(&watch, Store::default(), &thread);
        bench.poll();
        server.put_all(BUCKET, (0..2_500).map(|n| format!("{}-1-{n:04}", watch.prefix)));
        let listings = server.listings();
        let mut batches = 0;
        bench.poll_with(|_| {
            batches += 1;
            if batches == 2 { Fate::Refuse } else { Fate::Commit }
        });
        assert!(bench.warning().is_some());
        bench.poll().poll();
        let count: u64 = bench.store().events.iter().map(|event| event["count"].as_u64().unwrap_or(1)).sum();
        assert_eq!((count, bench.store().objects.len()), (2_500, 2_501), "batch {batch}");
        // Two pages until the refusal, three for all, one for nothing new.
        assert_eq!(server.listings() - listings, 6, "batch {batch}");
    }
}

#[test]
fn an_interrupted_baseline_continues_after_a_restart() {
    let server = S3Server::start(BUCKET);
    server.put_all(BUCKET, (0..5_000).map(|n| format!("{n:04}")));
    let thread = S3Thread::start();
    let watch = watch_at(server.endpoint(), Existing::Skip);
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    let mut batches = 0;
    let alive = bench.poll_with(|_| {
        batches += 1;
        if batches == 3 { Fate::CrashAfterCommit } else { Fate::Commit }
    });
    assert!(!alive);
    let store = bench.crash();
    assert_eq!((store.objects.len(), store.baseline_done), (3_000, false));
    let mut bench = Bench::start(&watch, store, &thread);
    bench.poll();
    assert_eq!((bench.store().objects.len(), bench.store().baseline_done), (5_000, true));
    server.put(BUCKET, "new", b"x");
    bench.poll();
    assert_eq!(bench.store().keys(), ["new"]);
}

#[test]
fn an_empty_bucket_has_a_baseline_too() {
    let server = S3Server::start(BUCKET);
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Skip), Store::default(), &thread);
    bench.poll();
    assert!(bench.store().baseline_done);
    server.put(BUCKET, "first", b"x");
    bench.poll();
    assert_eq!(bench.store().keys(), ["first"]);
}

#[test]
fn an_idle_bucket_costs_one_request_per_poll_and_no_connection_in_between() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"x");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Skip), Store::default(), &thread);
    bench.poll();
    let (requests, batches) = (server.requests(), bench.batches.len());
    bench.poll().poll().poll();
    assert_eq!(server.requests(), requests + 3);
    assert_eq!(bench.batches.len(), batches);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while server.connections() > 0 {
        assert!(std::time::Instant::now() < deadline, "a connection stays open");
        std::thread::yield_now();
    }
}

#[test]
fn a_stopped_watch_aborts_its_poll() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"x");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    assert!(!bench.poll_with(|_| Fate::CrashBeforeCommit), "the poller waits for its batch");
    bench.stop();
    assert!(bench.is_silent());
}
