//! Servers that refuse, send invalid answers or none: the warnings, and that no event is lost or duplicated.

use std::time::Duration;

use firelink::triggers::aws::Keypair;
use firelink::triggers::watch::Existing;

use super::host::{Bench, S3Thread, Store};
use super::hostile::{Hostile, Reply, listing};
use super::s3::S3Server;
use super::{BUCKET, watch_at};

const OBJECTS: &[(&str, &str)] = &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")];

/// How long a watch of these tests waits for an answer to begin; three times as long for its end.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A bucket with four known objects, one poll that fails in the given way, then a good one with one object more.
/// Answers the warning.
fn warning_of(trouble: impl IntoIterator<Item = Reply>) -> String {
    let server = Hostile::start([Reply::ok(listing(OBJECTS, None))]);
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.client.timeout = Some(SERVER_TIMEOUT);
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert_eq!((bench.warning(), bench.store().objects.len()), (None, 4));

    trouble.into_iter().for_each(|reply| server.then(reply));
    let more: Vec<(&str, &str)> = OBJECTS.iter().copied().chain([("e", "1")]).collect();
    server.otherwise(Reply::ok(listing(&more, None)));
    bench.poll();
    let warning = bench.warning().expect("a poll that fails").to_owned();
    let start = format!("s3://{BUCKET}/: ");
    assert!(warning.starts_with(&start) && warning.ends_with("; next try in 30s"), "{warning}");
    assert_eq!(bench.store().objects.len(), 4, "no key leaves after a failed listing");

    bench.poll().poll();
    assert_eq!(bench.warning(), None, "a good poll clears the warning");
    assert_eq!(bench.store().keys(), ["e"], "nothing lost, nothing doubled");
    let server = server.host_and_port();
    warning.trim_start_matches(&start).trim_end_matches("; next try in 30s").replace(&server, "SERVER")
}

#[test]
fn a_bucket_that_does_not_exist_is_named() {
    let warning = warning_of([Reply::refusal(404, "NoSuchBucket")]);
    assert_eq!(warning, "no bucket `box` at SERVER: create it, or correct `source`");
}

#[test]
fn an_access_error_names_the_missing_permission() {
    let warning = warning_of([Reply::refusal(403, "AccessDenied")]);
    assert_eq!(warning, "access to bucket `box` denied for these credentials: allow s3:ListBucket on it (as told)");
}

#[test]
fn wrong_clock_key_secret_and_token_have_different_warnings() {
    for (code, told) in [
        ("RequestTimeTooSkewed", "clock is too far off"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", "session token"),
    ] {
        let warning = warning_of([Reply::refusal(403, code)]);
        assert!(warning.contains(told), "{code}: {warning}");
    }
}

#[test]
fn a_wrong_clock_is_a_warning_with_the_difference() {
    use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    // Half a minute more: what this test takes must not change the minute.
    for (there, told) in [(now + 3_630, "1h behind"), (now - 5_430, "1h30m ahead")] {
        let there = DateTime::from_secs(i64::try_from(there).expect("a time"));
        let date = there.fmt(DateTimeFormat::HttpDate).expect("a date");
        let Reply::Whole { status, body, .. } = Reply::refusal(403, "RequestTimeTooSkewed") else { unreachable!() };
        let warning = warning_of([Reply::Whole { status, headers: vec![("date".into(), date)], body }]);
        assert_eq!(warning, format!("this machine's clock is {told}, too far off for SERVER: set it, for example by NTP"));
    }
}

#[test]
fn a_wrong_region_names_the_right_one() {
    let in_body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-north-1</Region></Error>";
    let header = vec![("x-amz-bucket-region".to_owned(), "eu-north-1".to_owned())];
    let redirect = "<Error><Code>PermanentRedirect</Code><Message>m</Message></Error>";
    for reply in [
        Reply::Whole { status: 400, headers: Vec::new(), body: in_body.into() },
        Reply::Whole { status: 301, headers: header, body: redirect.into() },
    ] {
        let warning = warning_of([reply]);
        assert_eq!(warning, "bucket `box` is in region eu-north-1, not us-east-1: set `region` or AWS_REGION to it");
    }
}

#[test]
fn server_errors_are_quoted() {
    assert_eq!(warning_of([Reply::refusal(500, "InternalError")]), "SERVER answered 500 InternalError (as told)");
    assert_eq!(warning_of([Reply::refusal(503, "SlowDown")]), "SERVER asks to slow down (as told)");
    let bare = Reply::Whole { status: 502, headers: Vec::new(), body: "<html>Bad Gateway</html>".into() };
    assert_eq!(warning_of([bare]), "SERVER answered 502, not as an S3 server does; is the endpoint right?");
}

#[test]
fn an_answer_that_is_not_a_listing_is_rejected() {
    for body in ["", "{}", "<html>log in</html>", "<ListBucketResult><Contents></ListBucketResult>", "<ListBucketResult/>"] {
        let warning = warning_of([Reply::ok(body.into())]);
        assert!(warning.starts_with("SERVER sent a listing that can't be used"), "{body}: {warning}");
    }
    let warning = warning_of([Reply::Raw(b"SSH-2.0-OpenSSH_9\r\n".to_vec())]);
    assert!(warning.starts_with("SERVER can't be reached"), "{warning}");
}

#[test]
fn a_truncated_answer_is_rejected() {
    let body = listing(OBJECTS, None);
    for sent in (0..body.len()).step_by(23) {
        let warning = warning_of([Reply::Cut { body: body.clone(), sent }]);
        assert!(warning.starts_with("SERVER "), "{sent}: {warning}");
        let warning = warning_of([Reply::UntilClose { body: body[..sent].to_owned() }]);
        assert!(warning.starts_with("SERVER sent a listing that can't be used"), "{sent}: {warning}");
    }
}

#[test]
fn a_failed_second_page_keeps_the_objects_of_the_first() {
    let warning = warning_of([Reply::ok(listing(&OBJECTS[..2], Some("more"))), Reply::refusal(500, "InternalError")]);
    assert_eq!(warning, "SERVER answered 500 InternalError (as told)");
}

#[test]
fn an_endless_listing_is_aborted() {
    let circle = "SERVER sent a listing that can't be used: it repeats itself; is the endpoint an S3 server?";
    let same = || Reply::ok(listing(OBJECTS, Some("again")));
    assert_eq!(warning_of([same(), same()]), circle);
    let turning = (0..200).map(|n| Reply::ok(listing(OBJECTS, Some(&format!("token-{n}")))));
    // The circle is noticed after a hundred pages: the rest of the answers must be used up before the good ones.
    let server = Hostile::start([]);
    turning.for_each(|reply| server.then(reply));
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    assert!(bench.warning().expect("a warning").contains("repeats itself"));
    assert!(server.requests().len() < 150, "{}", server.requests().len());
    assert_eq!(bench.store().keys(), ["a", "b", "c", "d"]);
}

#[test]
fn a_truncated_listing_without_a_token_is_rejected() {
    let body = listing(OBJECTS, Some("x")).replace("<NextContinuationToken>x</NextContinuationToken>", "");
    assert!(warning_of([Reply::ok(body)]).contains("truncated without a continuation token"));
    let body = listing(OBJECTS, None).replace("<IsTruncated>false</IsTruncated>", "");
    assert!(warning_of([Reply::ok(body)]).contains("has no `IsTruncated`"));
}

#[test]
fn a_server_that_closes_the_connection_is_a_warning() {
    let warning = warning_of([Reply::Hangup]);
    assert!(warning.starts_with("SERVER can't be reached"), "{warning}");
}

#[test]
fn a_silent_server_times_out() {
    assert_eq!(warning_of([Reply::Silence]), "SERVER does not answer in time");
}

#[test]
fn an_endless_answer_times_out() {
    assert_eq!(warning_of([Reply::Trickle { body: listing(OBJECTS, None) }]), "SERVER does not answer in time");
}

#[test]
fn a_connection_that_is_not_accepted_times_out() {
    let thread = S3Thread::start();
    let _runtime = thread.handle().enter();
    // A queue with room for one connection that nobody takes: what comes next gets no answer to its SYN (listen(2)).
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port on loopback");
    let full = socket.listen(0).expect("a listener");
    let address = full.local_addr().expect("its address");
    let _waiting = std::net::TcpStream::connect(address).expect("the one that fits");

    let mut watch = watch_at(format!("http://{address}"), Existing::Skip);
    watch.client.timeout = Some(Duration::from_secs(1));
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    let warning = bench.warning().expect("a warning");
    assert!(warning.contains(&format!("{address} does not answer in time")), "{warning}");
}

#[test]
fn a_slow_answer_is_accepted() {
    let server = Hostile::start([Reply::Dribble { body: listing(OBJECTS, None) }]);
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    assert_eq!((bench.warning(), bench.store().keys()), (None, vec!["a", "b", "c", "d"]));
}

#[test]
fn a_key_listed_twice_makes_one_event() {
    let twice = [("a", "1"), ("a", "1"), ("b", "1")];
    for batch in [false, true] {
        let server = Hostile::start([Reply::ok(listing(&twice, Some("on"))), Reply::ok(listing(&twice, None))]);
        let thread = S3Thread::start();
        let mut watch = watch_at(server.endpoint(), Existing::Process);
        watch.batch = batch;
        let mut bench = Bench::start(&watch, Store::default(), &thread);
        bench.poll();
        assert_eq!(bench.warning(), None);
        if batch {
            let counts: Vec<u64> = bench.store().events.iter().filter_map(|event| event["count"].as_u64()).collect();
            assert_eq!(counts, [2]);
        } else {
            assert_eq!(bench.store().keys(), ["a", "b"]);
        }
    }
}

#[test]
fn an_unreachable_server_is_retried_with_back_off_until_it_answers() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"x");
    let endpoint = server.endpoint();
    drop(server);
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(endpoint.clone(), Existing::Process), Store::default(), &thread);
    let mut waits = Vec::new();
    for _ in 0..7 {
        bench.poll();
        waits.push(bench.wait().as_secs());
        let warning = bench.warning().expect("a warning");
        let host = endpoint.trim_start_matches("http://");
        assert!(warning.starts_with(&format!("s3://{BUCKET}/: {host} can't be reached: Connection refused")), "{warning}");
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);

    let server = S3Server::start_at(endpoint.trim_start_matches("http://"), BUCKET);
    server.put(BUCKET, "a", b"x");
    bench.poll();
    assert_eq!((bench.warning(), bench.wait()), (None, Duration::from_secs(30)));
    assert_eq!(bench.store().keys(), ["a"]);
}

#[test]
fn a_bucket_that_is_created_later_is_watched_then() {
    let server = S3Server::start("other");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch_at(server.endpoint(), Existing::Process), Store::default(), &thread);
    bench.poll();
    assert!(bench.warning().expect("a warning").contains("no bucket `box`"));
    assert!(!bench.store().baseline_done);
    server.add_bucket(BUCKET);
    server.put(BUCKET, "a", b"x");
    bench.poll();
    assert_eq!((bench.warning(), bench.store().keys()), (None, vec!["a"]));
}

#[test]
fn a_wrong_secret_is_rejected_by_a_server_that_checks_signatures() {
    let server = S3Server::start(BUCKET);
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.client.keypair = Some(Keypair { id: super::s3::ACCESS_KEY.into(), secret: "wrong".into() });
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert!(bench.warning().expect("a warning").contains("check AWS_SECRET_ACCESS_KEY"));
    watch.client.keypair = Some(Keypair { id: "unknown".into(), secret: "wrong".into() });
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert!(bench.warning().expect("a warning").contains("denied") || bench.warning().unwrap().contains("access key"));
    watch.client.keypair = None;
    watch.client.anonymous = true;
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert!(bench.warning().expect("a warning").contains("denied for an anonymous request"));
}

#[test]
fn a_public_bucket_is_listed_without_a_signature() {
    let server = Hostile::start([Reply::ok(listing(OBJECTS, None))]);
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Process);
    watch.client.keypair = None;
    watch.client.anonymous = true;
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert_eq!((bench.warning(), bench.store().events.len()), (None, 4));
}

#[test]
fn servers_other_than_aws_get_the_bucket_in_the_path() {
    let server = Hostile::start([]);
    let thread = S3Thread::start();
    let mut watch = watch_at(server.endpoint(), Existing::Skip);
    watch.prefix = "in put/".into();
    Bench::start(&watch, Store::default(), &thread).poll();
    let requests = server.requests();
    assert!(requests[0].starts_with("GET /box/?") || requests[0].starts_with("GET /box?"), "{requests:?}");
    assert!(requests[0].contains("prefix=in%20put%2F") && requests[0].contains("max-keys=1000"), "{requests:?}");
}

#[test]
fn an_https_endpoint_that_speaks_plain_http_is_a_warning() {
    let server = Hostile::start([Reply::Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())]);
    let thread = S3Thread::start();
    let endpoint = server.endpoint().replace("http://", "https://");
    let mut bench = Bench::start(&watch_at(endpoint, Existing::Skip), Store::default(), &thread);
    bench.poll();
    let warning = bench.warning().expect("a warning");
    assert!(warning.contains("can't be reached"), "{warning}");
}
