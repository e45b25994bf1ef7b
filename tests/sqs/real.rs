//! The notifications of a bucket in a queue, with moto.

use std::sync::Arc;

use firelink::model::StateWord;
use firelink::triggers::sqs::{Ack, SqsWatch};

use super::host::{Bench, S3Thread, Store};
use super::messages::watch;
use super::moto_server::Moto;

/// A client of the bucket and the queue.
struct User {
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    thread: Arc<S3Thread>,
}

impl User {
    fn new(endpoint: &str, thread: &Arc<S3Thread>) -> User {
        let loaded = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .region(aws_config::Region::new("us-east-1"))
            .credentials_provider(aws_credential_types::provider::SharedCredentialsProvider::new(
                aws_credential_types::Credentials::new("AKIAFIRELINKTEST", "a secret", None, None, "test"),
            ))
            .endpoint_url(endpoint)
            .build();
        let s3 = aws_sdk_s3::config::Builder::from(&loaded).force_path_style(true).build();
        User { s3: aws_sdk_s3::Client::from_conf(s3), sqs: aws_sdk_sqs::Client::new(&loaded), thread: thread.clone() }
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = std::sync::mpsc::channel();
        self.thread.handle().spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver.recv().expect("an answer of moto's")
    }

    /// A queue, and a bucket that sends its notifications there.
    fn make(&self, endpoint: &str) -> String {
        use aws_sdk_s3::types::{Event, NotificationConfiguration, QueueConfiguration};
        let queue = self.run(self.sqs.create_queue().queue_name("inbox").send()).expect("a queue made");
        let url = queue.queue_url().expect("its URL").to_owned();
        // It names the host that moto believes to have.
        let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).expect("a path").1;
        self.run(self.s3.create_bucket().bucket("moto-box").send()).expect("a bucket made");
        let tells = QueueConfiguration::builder()
            .queue_arn("arn:aws:sqs:us-east-1:123456789012:inbox")
            .events(Event::from("s3:ObjectCreated:*"))
            .build()
            .expect("a rule");
        let rules = NotificationConfiguration::builder().queue_configurations(tells).build();
        let request = self.s3.put_bucket_notification_configuration().bucket("moto-box").notification_configuration(rules);
        self.run(request.send()).expect("rules put");
        format!("{endpoint}/{path}")
    }

    fn put(&self, key: &str) {
        let body = aws_sdk_s3::primitives::ByteStream::from_static(b"hello");
        self.run(self.s3.put_object().bucket("moto-box").key(key).body(body).send()).expect("an object put");
    }

    /// Messages that are hidden or not.
    fn left(&self, queue: &str) -> usize {
        use aws_sdk_sqs::types::QueueAttributeName::{ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible};
        let names = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
        let request = self.sqs.get_queue_attributes().queue_url(queue).set_attribute_names(Some(names.to_vec()));
        let answer = self.run(request.send()).expect("attributes");
        let number = |text: &String| text.parse::<usize>().expect("a number");
        answer.attributes().map(|all| all.values().map(number).sum()).unwrap_or_default()
    }
}

#[test]
fn each_object_notification_of_moto_makes_one_run_and_leaves_no_message() {
    let Some(moto) = Moto::start() else { return };
    let thread = S3Thread::start();
    let user = User::new(&moto.endpoint, &thread);
    let queue = user.make(&moto.endpoint);
    let keys = ["in/a b+c.csv", "in/100%.csv", "in/ünï.csv"];
    let watch: SqsWatch = watch(&queue, Ack::AfterSuccess);
    let mut bench = Bench::of(watch.source(), Store::default(), &thread);
    keys.iter().for_each(|key| user.put(key));
    bench.hear_until("three runs", |bench| bench.store().events.len() == 3);
    let mut found = bench.store().keys();
    found.sort_unstable();
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    assert_eq!((bench.warning(), found), (None, expected));
    assert!(user.left(&queue) >= 3, "they are hidden until their runs have succeeded");
    for event in bench.store().events.clone() {
        assert_eq!((&event["bucket"], &event["size"]), (&"moto-box".into(), &5.into()));
        bench.end_run(&event, StateWord::Succeeded);
    }
    // Each time something is heard, the queue is looked at.
    bench.hear_until("an empty queue", |_| user.left(&queue) == 0);
    assert_eq!(bench.store().events.len(), 3);
}
