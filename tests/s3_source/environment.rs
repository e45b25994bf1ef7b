//! Settings from the environment: endpoint, region, credentials. A process has one environment, so each of
//! these tests runs one of the `child_` tests below in a process of its own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firelink::triggers::aws::ClientSettings;
use firelink::triggers::watch::Existing;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::host::{Bench, S3Thread, Store};
use super::hostile::{Hostile, Reply, listing};
use super::s3::S3Server;
use super::tunnel::Tunnel;
use super::{BUCKET, watch_at};

/// Runs a child test with no AWS variable but these; answers what it reports.
fn report_of(child: &str, env: &[(&str, String)]) -> String {
    let exe = std::env::current_exe().expect("the path of this test");
    let mut command = Command::new(exe);
    command.args(["--exact", &format!("environment::{child}"), "--ignored", "--nocapture", "--test-threads=1"]);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.env("HOME", "/nonexistent").envs(env.iter().map(|(name, value)| (name, value)));
    let output = command.output().expect("a child process");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = text.lines().filter_map(|line| line.split_once("REPORT ")).map(|(_, report)| report.to_owned()).next();
    report.unwrap_or_else(|| panic!("no report: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
#[ignore = "run by other tests, in an environment of their making"]
fn child_polls_once() {
    let mut watch = watch_at(String::new(), Existing::Process);
    watch.client = ClientSettings::default();
    if std::env::var_os("TEST_PROFILE").is_some() {
        watch.client.profile = Some("box".into());
    }
    watch.client.path_style = std::env::var("TEST_PATH_STYLE").ok().map(|text| text == "true");
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    println!("REPORT {:?} {:?}", bench.warning(), bench.store().keys());
}

#[test]
fn the_usual_variables_are_enough() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"x");
    assert_eq!(report_of("child_polls_once", &server.env()), "None [\"a\"]");
}

#[test]
fn the_endpoint_for_s3_takes_precedence_and_needs_no_region() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"x");
    let mut env = server.env();
    env[0].0 = "AWS_ENDPOINT_URL_S3";
    env[3] = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1".to_owned());
    assert_eq!(report_of("child_polls_once", &env), "None [\"a\"]");
}

#[test]
fn endpoint_region_and_credentials_are_read_from_a_profile() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "a", b"x");
    let folder = tempfile::tempdir().expect("a folder");
    let (config, credentials) = (folder.path().join("config"), folder.path().join("credentials"));
    let text = format!("[profile box]\nregion = us-east-1\nendpoint_url = {}\n", server.endpoint());
    std::fs::write(&config, text).expect("a file");
    let (id, secret) = (super::s3::ACCESS_KEY, super::s3::SECRET_KEY);
    let text = format!("[box]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    std::fs::write(&credentials, text).expect("a file");
    let files = [
        ("AWS_CONFIG_FILE", config.to_string_lossy().into_owned()),
        ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_string_lossy().into_owned()),
    ];
    let by_variable = [files.to_vec(), vec![("AWS_PROFILE", "box".to_owned())]].concat();
    assert_eq!(report_of("child_polls_once", &by_variable), "None [\"a\"]");
    let by_source = [files.to_vec(), vec![("TEST_PROFILE", "yes".to_owned())]].concat();
    assert_eq!(report_of("child_polls_once", &by_source), "None [\"a\"]");
}

#[test]
fn missing_credentials_are_reported_within_ten_seconds_even_if_the_network_drops_packets() {
    let server = S3Server::start(BUCKET);
    let silent = Hostile::start([]);
    silent.otherwise(Reply::Silence);
    let mut envs = vec![vec![("AWS_EC2_METADATA_DISABLED", "true".to_owned())]];
    // A metadata service that takes the connection and says nothing, and an address that answers no packet (RFC 5737).
    for metadata in [silent.endpoint(), "http://192.0.2.1".to_owned()] {
        envs.push(vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)]);
    }
    for mut env in envs {
        env.push(("AWS_ENDPOINT_URL", server.endpoint()));
        let began = Instant::now();
        let report = report_of("child_polls_once", &env);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?} with {env:?}", began.elapsed());
        assert!(report.contains("no AWS credentials found: set AWS_ACCESS_KEY_ID"), "{report}");
        assert!(report.contains("anonymous: true"), "{report}");
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_missing_region_is_a_warning_that_names_how_to_set_one() {
    let env = [
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ("AWS_ACCESS_KEY_ID", "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
    ];
    let report = report_of("child_polls_once", &env);
    assert!(report.contains("no AWS region is set: set AWS_REGION, or `region` in the `source` map"), "{report}");
}

#[test]
fn an_invalid_endpoint_is_a_warning_with_its_origin() {
    let report = report_of("child_polls_once", &[("AWS_ENDPOINT_URL", "localhost:9000".to_owned())]);
    assert!(report.contains("`localhost:9000` does not start with `http://`"), "{report}");
    assert!(report.contains("AWS_ENDPOINT_URL"), "{report}");
}

#[test]
#[ignore = "run by other tests, in an environment of their making"]
fn child_polls_thrice() {
    let mut watch = watch_at(String::new(), Existing::Process);
    watch.client = ClientSettings::default();
    let thread = S3Thread::start();
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    let warnings: Vec<Option<String>> = (0..3).map(|_| bench.poll().warning().map(str::to_owned)).collect();
    println!("REPORT {warnings:?} {:?}", bench.store().keys());
}

/// Credentials as the services that lend them write them, good for so many seconds.
fn lent(id: &str, seconds: u64) -> Reply {
    use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
    let until = DateTime::from(std::time::SystemTime::now() + Duration::from_secs(seconds));
    let until = until.fmt(DateTimeFormat::DateTime).expect("a time");
    Reply::ok(format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"s","Token":"token-of-{id}","Expiration":"{until}"}}"#
    ))
}

/// Which access keys the requests to a server were signed with, each once in a row.
fn signers(server: &Hostile) -> Vec<String> {
    let of_head = |head: &String| {
        let (_, rest) = head.split_once("Credential=")?;
        rest.split_once('/').map(|(id, _)| id.to_owned())
    };
    let mut ids: Vec<String> = server.heads().iter().filter_map(of_head).collect();
    ids.dedup();
    ids
}

#[test]
fn credentials_that_the_server_rejects_as_expired_are_fetched_again() {
    let lender = Hostile::start([]);
    // Asked twice for the first client: once to explain what is wrong, once to sign.
    lender.at("/lend", [lent("FIRST", 3600), lent("FIRST", 3600), lent("SECOND", 3600)]);
    let page = |keys| Reply::ok(listing(keys, None));
    let server = Hostile::start([page(&[("a", "1")]), Reply::refusal(400, "ExpiredToken")]);
    server.otherwise(page(&[("a", "1"), ("b", "1")]));
    let env = [
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/lend", lender.endpoint())),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    let report = report_of("child_polls_thrice", &env);
    assert!(report.starts_with("[None, Some(\"s3://box/: ") && report.contains("session token"), "{report}");
    assert!(report.ends_with("None] [\"a\", \"b\"]"), "{report}");
    assert_eq!(signers(&server), ["FIRST", "SECOND"]);
}

#[test]
fn credentials_are_renewed_before_they_expire_and_a_failing_provider_is_a_warning() {
    let lender = Hostile::start([]);
    let refusal = Reply::Whole { status: 404, headers: Vec::new(), body: "{}".into() };
    lender.at("/lend", [lent("FIRST", 5), lent("FIRST", 5), refusal, lent("SECOND", 3600)]);
    let server = Hostile::start([]);
    server.otherwise(Reply::ok(listing(&[("a", "1")], None)));
    let env = [
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/lend", lender.endpoint())),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    let report = report_of("child_polls_thrice", &env);
    assert!(report.starts_with("[None, Some(\"s3://box/: ") && report.ends_with("None] [\"a\"]"), "{report}");
    assert!(report.contains("AWS credentials are not available"), "{report}");
    assert_eq!(signers(&server), ["FIRST", "SECOND"]);
}

#[test]
fn credentials_come_from_the_instance_metadata_service() {
    let metadata = Hostile::start([]);
    metadata.otherwise(Reply::Whole { status: 404, headers: Vec::new(), body: String::new() });
    let ttl = vec![("x-aws-ec2-metadata-token-ttl-seconds".to_owned(), "21600".to_owned())];
    metadata.at("/latest/api/token", [Reply::Whole { status: 200, headers: ttl, body: "token".into() }]);
    metadata.at("/latest/meta-data/iam/security-credentials/", [Reply::ok("role".into())]);
    metadata.at("/latest/meta-data/iam/security-credentials/role", [lent("INSTANCE", 3600)]);
    let server = Hostile::start([]);
    server.otherwise(Reply::ok(listing(&[("a", "1")], None)));
    let env = [("AWS_ENDPOINT_URL", server.endpoint()), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.endpoint())];
    assert_eq!(report_of("child_polls_once", &env), "None [\"a\"]");
    assert_eq!(signers(&server), ["INSTANCE"]);
}

#[test]
fn a_web_identity_is_exchanged_for_credentials() {
    let sts = Hostile::start([]);
    sts.otherwise(Reply::ok(
        "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleWithWebIdentityResult>\
         <Credentials><AccessKeyId>IDENTITY</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
            .into(),
    ));
    let server = Hostile::start([]);
    server.otherwise(Reply::ok(listing(&[("a", "1")], None)));
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "signed by somebody").expect("a file");
    let env = [
        ("AWS_ENDPOINT_URL_S3", server.endpoint()),
        ("AWS_ENDPOINT_URL_STS", sts.endpoint()),
        ("AWS_REGION", "eu-north-1".to_owned()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/box".to_owned()),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_string_lossy().into_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    assert_eq!(report_of("child_polls_once", &env), "None [\"a\"]");
    assert_eq!(signers(&server), ["IDENTITY"]);
}

/// A proxy sees where each request is meant to go, whether or not such a host exists.
#[test]
fn path_style_false_puts_the_bucket_into_the_host_and_a_proxy_is_used() {
    let proxy = Hostile::start([]);
    proxy.otherwise(Reply::ok(listing(&[("a", "1")], None)));
    let env = |path_style: &str| {
        [
            ("AWS_ENDPOINT_URL", "http://firelink.invalid".to_owned()),
            ("AWS_ACCESS_KEY_ID", "x".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
            ("http_proxy", proxy.endpoint()),
            ("TEST_PATH_STYLE", path_style.to_owned()),
        ]
    };
    assert_eq!(report_of("child_polls_once", &env("false")), "None [\"a\"]");
    assert_eq!(report_of("child_polls_once", &env("true")), "None [\"a\"]");
    let requests = proxy.requests();
    assert!(requests[0].starts_with("GET http://box.firelink.invalid/?"), "{requests:?}");
    assert!(requests[1].starts_with("GET http://firelink.invalid/box"), "{requests:?}");
}

/// A server for `localhost`, whose certificate only `tests/data/tls/ca.pem` vouches for.
fn tls_server() -> Hostile {
    tls_server_with("server")
}

fn tls_server_with(certificate: &str) -> Hostile {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let key = PrivateKeyDer::from_pem_file(data.join(format!("{certificate}.key"))).expect("its key");
    let certificate = CertificateDer::from_pem_file(data.join(format!("{certificate}.pem"))).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("TLS versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    let server = Hostile::start_tls([], Arc::new(config.expect("a server's configuration")));
    server.otherwise(Reply::ok(listing(&[("a", "1")], None)));
    server
}

#[test]
fn tls_connects_only_to_servers_that_the_system_trusts() {
    let server = tls_server();
    let trusted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/ca.pem");
    let mut env = vec![
        ("AWS_ENDPOINT_URL", server.endpoint().replace("http://127.0.0.1", "https://localhost")),
        ("AWS_ACCESS_KEY_ID", "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
    ];
    let report = report_of("child_polls_once", &env);
    assert!(report.contains("can't be reached") && report.contains("certificate"), "{report}");
    assert_eq!(server.requests().len(), 0);
    env.push(("SSL_CERT_FILE", trusted.to_string_lossy().into_owned()));
    assert_eq!(report_of("child_polls_once", &env), "None [\"a\"]");
}

/// `future.pem` is valid from 2200 on, `past.pem` was until 2010; each vouches for itself.
#[test]
fn a_certificate_outside_of_its_validity_hints_at_the_clock() {
    for (name, told) in [("future", "certificate not valid yet"), ("past", "certificate expired")] {
        let server = tls_server_with(name);
        let trusted = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/tls/{name}.pem"));
        let report = report_of(
            "child_polls_once",
            &[
                ("AWS_ENDPOINT_URL", server.endpoint().replace("http://127.0.0.1", "https://localhost")),
                ("AWS_ACCESS_KEY_ID", "x".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
                ("SSL_CERT_FILE", trusted.to_string_lossy().into_owned()),
            ],
        );
        assert!(report.contains(told) && report.contains("; is this machine's clock right?; next try"), "{report}");
    }
}

#[test]
fn tls_goes_through_a_proxy_unless_the_host_is_an_exception() {
    let server = tls_server();
    let proxy = Tunnel::start();
    let trusted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/ca.pem");
    let mut env = vec![
        ("AWS_ENDPOINT_URL", server.endpoint().replace("http://127.0.0.1", "https://localhost")),
        ("AWS_ACCESS_KEY_ID", "x".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "y".to_owned()),
        ("SSL_CERT_FILE", trusted.to_string_lossy().into_owned()),
        ("HTTPS_PROXY", proxy.endpoint()),
    ];
    assert_eq!(report_of("child_polls_once", &env), "None [\"a\"]");
    let target = server.host_and_port().replace("127.0.0.1", "localhost");
    assert_eq!(proxy.asked(), [format!("CONNECT {target} HTTP/1.1")]);
    env.push(("NO_PROXY", "localhost".to_owned()));
    assert_eq!(report_of("child_polls_once", &env), "None [\"a\"]");
    assert_eq!((proxy.asked().len(), server.requests().len()), (1, 2));
}

/// Resident and private dirty memory of this process in kB.
fn memory() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("smaps_rollup");
    let of = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).expect("a line of smaps_rollup");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number of kB")
    };
    (of("Rss:"), of("Private_Dirty:"))
}

/// A host that remembers nothing would not notice a lost object; this one counts and keeps no records.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn child_measures_memory() {
    let mut watch = watch_at(String::new(), Existing::Skip);
    watch.client = ClientSettings::default();
    watch.prefix = "few/".into();
    let thread = S3Thread::start();
    // The SDK and its client are there before the first measure.
    Bench::start(&watch, Store::default(), &thread).poll();
    watch.prefix = "many/".into();
    let mut bench = Bench::start(&watch, Store::default(), &thread).forgetful();
    let before = memory();
    let began = Instant::now();
    bench.poll();
    let (first, took) = (memory(), began.elapsed());
    let began = Instant::now();
    bench.poll();
    let (second, again) = (memory(), began.elapsed());
    println!(
        "REPORT objects {} rss {} {} {} dirty {} {} {} took {took:?} {again:?}",
        bench.batches.iter().map(|(_, size)| size.seen).sum::<usize>(),
        before.0,
        first.0,
        second.0,
        before.1,
        first.1,
        second.1
    );
}

#[test]
fn a_hundred_thousand_objects_cost_at_most_32_bytes_each_and_no_listing_is_kept() {
    let server = S3Server::start(BUCKET);
    server.put(BUCKET, "few/a", b"x");
    server.put_all(BUCKET, (0..100_000).map(|n| format!("many/some/where/deep/in/the/tree/object-{n:06}.tar.gz")));
    let report = report_of("child_measures_memory", &server.env());
    println!("{report}");
    let numbers: Vec<usize> = report.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [objects, _, _, _, before, _, after] = numbers[..] else { panic!("{report}") };
    assert_eq!(objects, 100_000);
    // 3.2 MB for the objects; the rest is what the allocator keeps of the pages that came and went.
    assert!(after.saturating_sub(before) < 3_125 + 4_096, "{report}");
}

#[test]
fn two_watches_of_one_server_share_a_client_and_are_independent() {
    let page = Reply::ok(listing(&[("a", "1")], None));
    let server = Hostile::start([]);
    server.otherwise(page);
    let thread = S3Thread::start();
    let watch = watch_at(server.endpoint(), Existing::Process);
    let mut one = Bench::start(&watch, Store::default(), &thread);
    let mut other = Bench::start(&watch, Store::default(), &thread);
    for _ in 0..3 {
        one.poll();
        other.poll();
    }
    assert_eq!((one.warning(), other.warning()), (None, None));
    assert_eq!((one.store().keys(), other.store().keys()), (vec!["a"], vec!["a"]));
}
