//! A complete pass against moto, an independent server.

use std::sync::Arc;

use aws_sdk_s3::primitives::ByteStream;
use firelink::triggers::watch::{Existing, NameFilter};

use super::host::{Bench, S3Thread, Store};
use super::moto_server::Moto;
use super::s3::{ACCESS_KEY, SECRET_KEY};
use super::watch_at;

/// moto refuses names under three letters, as it should.
const BUCKET: &str = "moto-box";

/// The SDK as a user of the bucket.
struct User<'a> {
    client: aws_sdk_s3::Client,
    thread: &'a Arc<S3Thread>,
}

impl User<'_> {
    fn new<'a>(endpoint: &str, thread: &'a Arc<S3Thread>) -> User<'a> {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .http_client(http)
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_s3::config::Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "test"))
            .endpoint_url(endpoint)
            .force_path_style(true)
            .build();
        User { client: aws_sdk_s3::Client::from_conf(config), thread }
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.thread.handle().spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver.recv().expect("an answer of moto's")
    }

    fn put(&self, key: &str, body: &'static [u8]) {
        let request = self.client.put_object().bucket(BUCKET).key(key).body(ByteStream::from_static(body));
        self.run(request.send()).expect("an object put");
    }
}

#[test]
fn a_full_pass_against_moto() {
    let Some(moto) = Moto::start() else { return };
    let thread = S3Thread::start();
    let user = User::new(&moto.endpoint, &thread);
    let mut watch = watch_at(moto.endpoint.clone(), Existing::Skip);
    watch.bucket = BUCKET.to_owned();
    watch.prefix = "input/".to_owned();
    watch.filter = Some(NameFilter::parse("*.csv").expect("a glob"));
    let mut bench = Bench::start(&watch, Store::default(), &thread);
    bench.poll();
    assert!(bench.warning().expect("a warning").contains("no bucket `moto-box`"), "{:?}", bench.warning());

    user.run(user.client.create_bucket().bucket(BUCKET).send()).expect("a bucket made");
    for n in 0..1_100 {
        user.put(&format!("input/old-{n:04}.csv"), b"old");
    }
    bench.poll();
    assert_eq!((bench.warning(), bench.store().objects.len()), (None, 1_100), "two pages are a silent baseline");

    let odd = ["input/a b+c.csv", "input/100%.csv", "input/ünï.csv", "input/old-0007.csv"];
    odd.iter().for_each(|key| user.put(key, b"new"));
    user.put("input/ignored.txt", b"new");
    user.put("input/old-0008.csv", b"old");
    bench.poll().poll();
    let mut found = bench.store().keys();
    found.sort_unstable();
    let mut expected = odd.to_vec();
    expected.sort_unstable();
    assert_eq!((bench.warning(), found), (None, expected));

    user.run(user.client.delete_object().bucket(BUCKET).key("input/ünï.csv").send()).expect("an object deleted");
    bench.poll();
    user.put("input/ünï.csv", b"new");
    bench.poll();
    assert_eq!(bench.store().keys().last(), Some(&"input/ünï.csv"), "back after it was gone");
    assert_eq!(bench.store().events.len(), odd.len() + 1);
}
