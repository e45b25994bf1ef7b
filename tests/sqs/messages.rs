//! Messages, from their receipt to their deletion.

use std::time::Duration;

use firelink::model::StateWord;
use firelink::triggers::Spread;
use firelink::triggers::aws::{ClientSettings, Keypair};
use firelink::triggers::sqs::{Ack, QueueUrl, SqsWatch};
use serde_json::{Value, json};

use super::host::{Bench, S3Thread, Store};
use super::server::SqsServer;

pub fn watch(queue: &str, ack: Ack) -> SqsWatch {
    let keypair = Keypair { id: "AKIAFIRELINKTEST".to_owned(), secret: "a secret".to_owned() };
    SqsWatch {
        queue: QueueUrl::parse(queue).expect("a queue's URL"),
        filter: None,
        ack,
        spread: Spread::default(),
        client: ClientSettings { keypair: Some(keypair), ..ClientSettings::default() },
    }
}

fn bench(server: &SqsServer, ack: Ack, store: Store) -> Bench {
    Bench::of(watch(&server.queue(), ack).source(), store, &S3Thread::start())
}

fn event(id: &str, body: &str) -> Value {
    json!({ "message_id": id, "body": body })
}

#[test]
fn each_message_makes_one_run_and_is_deleted_when_the_store_has_it() {
    let server = SqsServer::start();
    let ids: Vec<String> = (0..25).map(|n| server.send(&format!("message {n}"))).collect();
    let mut bench = bench(&server, Ack::Stored, Store::default());
    bench.hear_until("25 deletions", |_| server.deleted().len() == 25);
    let expected: Vec<Value> = ids.iter().enumerate().map(|(n, id)| event(id, &format!("message {n}"))).collect();
    assert_eq!((bench.store().events.clone(), bench.warning()), (expected, None));
    assert!(server.kept(&ids[0]).is_none());
}

#[test]
fn a_message_is_not_deleted_before_its_run_is_in_the_store() {
    let server = SqsServer::start();
    let id = server.send("one");
    let mut bench = bench(&server, Ack::Stored, Store::default());
    // The store takes it, but the disk does not.
    bench.disk_works(false);
    bench.hear_until("its run", |bench| bench.store().events.len() == 1);
    bench.advance(Duration::from_secs(60));
    assert_eq!(server.asked("DeleteMessageBatch"), 0, "nothing is deleted that is in memory alone");
    bench.disk_works(true);
    bench.advance(Duration::from_secs(60));
    bench.hear_until("its deletion", |_| server.deleted() == [id.clone()]);
    assert_eq!(bench.store().events.len(), 1);
}

#[test]
fn a_message_that_is_delivered_again_after_a_crash_makes_no_second_run_and_is_deleted() {
    let server = SqsServer::start();
    let id = server.send("one");
    let mut first = bench(&server, Ack::Stored, Store::default());
    first.disk_works(false);
    first.hear_until("its run", |bench| bench.store().events.len() == 1);
    let store = first.crash();
    assert_eq!(server.deleted(), Vec::<String>::new());

    // A request of the dead one may still be waiting; what it takes with it comes back soon.
    server.hide_for(Duration::from_secs(1));
    server.bring_back();
    let mut second = bench(&server, Ack::Stored, store);
    second.hear_until("its deletion", |_| server.deleted() == [id.clone()]);
    assert_eq!(second.store().events.len(), 1);
}

#[test]
fn a_failed_deletion_is_retried_and_makes_no_second_run() {
    let server = SqsServer::start();
    server.refuse("DeleteMessageBatch", 503, "ServiceUnavailable", "later");
    let id = server.send("one");
    let mut bench = bench(&server, Ack::Stored, Store::default());
    bench.hear_until("a warning", |bench| bench.warning().is_some_and(|warning| warning.contains("asks to slow down")));
    // Meanwhile the queue gives it again.
    server.bring_back();
    bench.hear_until("the second delivery", |_| server.kept(&id).is_some_and(|kept| kept.received == 2));
    // The source may hear of the second delivery before or after its next try, which only then has the right receipt.
    while server.deleted() != [id.clone()] {
        bench.advance(Duration::from_secs(10));
        bench.hear_one();
    }
    bench.hear_until("no warning", |bench| bench.warning().is_none());
    assert_eq!(bench.store().events.len(), 1);
}

#[test]
fn with_ack_after_success_a_message_stays_hidden_during_its_run() {
    let server = SqsServer::start();
    let id = server.send("one");
    let mut bench = bench(&server, Ack::AfterSuccess, Store::default());
    bench.hear_until("its run", |bench| bench.store().events.len() == 1);
    for round in 1..=3 {
        bench.advance(Duration::from_secs(60));
        server.wait("another while", |server| server.kept(&id).is_some_and(|kept| kept.hidden_for.len() > round));
    }
    assert_eq!(server.kept(&id).expect("the message").hidden_for, [180, 180, 180, 180]);
    assert_eq!(server.deleted(), Vec::<String>::new());
    bench.end_run(&event(&id, "one"), StateWord::Succeeded);
    bench.hear_until("its deletion", |_| server.deleted() == [id.clone()]);
    bench.advance(Duration::from_secs(600));
    assert_eq!(server.asked("ChangeMessageVisibilityBatch"), 3, "nothing is kept that is gone");
}

#[test]
fn a_message_whose_run_failed_makes_another_run_when_it_is_delivered_again() {
    let server = SqsServer::start();
    let id = server.send("one");
    let mut bench = bench(&server, Ack::AfterSuccess, Store::default());
    bench.hear_until("its run", |bench| bench.store().events.len() == 1);
    bench.end_run(&event(&id, "one"), StateWord::Failed);
    assert!(bench.store().objects.is_empty(), "it is forgotten");
    bench.advance(Duration::from_secs(600));
    assert_eq!((server.deleted().len(), server.asked("ChangeMessageVisibilityBatch")), (0, 0), "nothing is done about it");
    server.bring_back();
    bench.hear_until("another run", |bench| bench.store().events.len() == 2);
    bench.end_run(&event(&id, "one"), StateWord::Succeeded);
    bench.hear_until("its deletion", |_| server.deleted() == [id.clone()]);
}

#[test]
fn after_a_restart_the_history_decides_on_a_message_that_is_delivered_again() {
    let server = SqsServer::start();
    let ids: Vec<String> = ["open", "done", "failed", "pruned"].iter().map(|body| server.send(body)).collect();
    let mut first = bench(&server, Ack::AfterSuccess, Store::default());
    first.hear_until("four runs", |bench| bench.store().events.len() == 4);
    let store = first.crash();

    let thread = S3Thread::start();
    let watch = watch(&server.queue(), Ack::AfterSuccess);
    let mut second = Bench::of(watch.source(), store, &thread);
    second.history_says(&event(&ids[0], "open"), StateWord::Running);
    second.history_says(&event(&ids[1], "done"), StateWord::Succeeded);
    second.history_says(&event(&ids[2], "failed"), StateWord::Lost);
    // A request of the dead one may still be waiting; what it takes with it comes back soon.
    server.hide_for(Duration::from_secs(1));
    server.bring_back();
    second.hear_until("one more run", |bench| bench.store().events.len() == 5);
    assert_eq!(second.store().events.last(), Some(&event(&ids[2], "failed")));
    second.hear_until("two deletions", |_| server.deleted().len() == 2);
    let mut deleted = server.deleted();
    deleted.sort();
    assert_eq!(deleted, [ids[1].clone(), ids[3].clone()]);

    second.end_run(&event(&ids[0], "open"), StateWord::Succeeded);
    second.hear_until("the third", |_| server.deleted().len() == 3);
    assert_eq!(second.store().events.len(), 5);
}

#[test]
fn no_more_messages_are_received_than_can_be_in_flight() {
    let server = SqsServer::start();
    let ids: Vec<String> = (0..40).map(|_| server.send("x")).collect();
    let mut bench = bench(&server, Ack::Stored, Store::default());
    bench.hear_until("32 deletions", |_| server.deleted().len() == 32);
    let received = |id: &String| server.kept(id).is_none_or(|kept| kept.received > 0);
    assert_eq!(ids.iter().filter(|id| received(id)).count(), 32, "the rest is for others");
    bench.end_run(&event(&ids[0], "x"), StateWord::Failed);
    bench.hear_until("one more", |_| server.deleted().len() == 33);
    assert_eq!(bench.store().events.len(), 33);
}

#[test]
fn a_server_without_long_polling_is_not_polled_in_a_busy_loop() {
    let server = SqsServer::start();
    server.answer_at_once();
    let mut bench = bench(&server, Ack::Stored, Store::default());
    for round in 1..=3 {
        // The answer comes as a message, after which the source waits.
        let asked = |server: &SqsServer| server.asked("ReceiveMessage");
        server.wait("a request", |server| asked(server) == round);
        bench.hear_one();
        assert_eq!(asked(&server), round);
        bench.advance(Duration::from_secs(20));
    }
}

#[test]
fn errors_are_warnings_with_a_fix() {
    for (status, code, words, told) in [
        (400, "QueueDoesNotExist", "no", "no such queue at 127.0.0.1:"),
        (403, "AccessDeniedException", "no", "allow sqs:ReceiveMessage on it (no)"),
        (403, "InvalidClientTokenId", "no", "check AWS_ACCESS_KEY_ID or the profile"),
        (403, "SignatureDoesNotMatch", "no", "check AWS_SECRET_ACCESS_KEY or the profile, and the region"),
        (403, "SignatureDoesNotMatch", "Signature expired: 1 is now earlier", "this machine's clock is"),
        (403, "ExpiredToken", "no", "get new credentials"),
        (503, "ServiceUnavailable", "busy", "asks to slow down (busy)"),
        (500, "InternalError", "oh", "answered 500 InternalError (oh)"),
    ] {
        let server = SqsServer::start();
        server.refuse("ReceiveMessage", status, code, words);
        let mut bench = bench(&server, Ack::Stored, Store::default());
        bench.hear_until("a warning", |bench| bench.warning().is_some());
        let warning = bench.warning().expect("a warning").to_owned();
        assert!(warning.contains(told) && warning.ends_with("next try in 5s"), "{code}: {warning}");
        let id = server.send("after all");
        bench.advance(Duration::from_secs(6));
        bench.hear_until("its deletion", |_| server.deleted() == [id.clone()]);
        assert_eq!(bench.warning(), None);
    }
}

#[test]
fn an_unreachable_server_is_a_warning_and_retried_with_back_off() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let watch = watch(&format!("http://{gone}/1/inbox"), Ack::Stored);
    let mut bench = Bench::of(watch.source(), Store::default(), &S3Thread::start());
    for wait in ["5s", "10s", "20s", "40s"] {
        bench.hear_one();
        let warning = bench.warning().expect("a warning");
        assert!(warning.contains("can't be reached") && warning.ends_with(&format!("next try in {wait}")), "{warning}");
        bench.advance(Duration::from_secs(40));
    }
}

#[test]
fn shutdown_waits_for_deletions_up_to_a_timeout() {
    let server = SqsServer::start();
    let id = server.send("one");
    let mut one = bench(&server, Ack::Stored, Store::default());
    one.hear_until("its run", |bench| bench.store().events.len() == 1);
    one.close();
    assert!(one.is_busy());
    one.hear_until("its deletion is heard of", |bench| !bench.is_busy());
    assert_eq!(server.deleted(), [id]);

    server.send("two");
    let mut two = bench(&server, Ack::Stored, Store::default());
    two.disk_works(false);
    two.hear_until("its run", |bench| bench.store().events.len() == 1);
    two.close();
    assert!(two.is_busy());
    two.advance(Duration::from_secs(5));
    assert!(!two.is_busy());
}
