//! The examples run as they are and say what they promise. `cargo test` builds them.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use murano_messaging::{Client, ErrorKind, Message, Queue};
use murano_testkit::{Certs, Node, shared_node, unique, within};
use tokio::io::{AsyncBufReadExt, BufReader};

const STEP: Duration = Duration::from_secs(60);

fn program(name: &str) -> PathBuf {
    // This test is in `target/<profile>/deps`, the examples are in `target/<profile>/examples`.
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(path.exists(), "{} is not built: cargo build -p murano-messaging --examples", path.display());
    path
}

/// Runs an example to its end.
async fn run(name: &str, arguments: &[&str], broker: Option<&str>) -> Output {
    let mut command = tokio::process::Command::new(program(name));
    command.args(arguments).kill_on_drop(true);
    if let Some(broker) = broker {
        command.env("BROKER", broker);
    }
    within(name, STEP, command.output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed; it ended well and complained of nothing.
fn succeeded(output: &Output) -> String {
    let complaints = text(&output.stderr);
    assert!(output.status.success(), "{}: {complaints}", output.status);
    assert_eq!(complaints, "");
    text(&output.stdout)
}

#[tokio::test]
async fn hello_says_hello_and_leaves_nothing() {
    let uri = shared_node().await;
    assert_eq!(succeeded(&run("hello", &[uri], None).await), "Hello, world\n");
    let client = Client::connect(uri).await.unwrap();
    assert_eq!(client.queue_info("hello").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn hello_says_what_is_wrong_when_nobody_listens() {
    let output = run("hello", &[&format!("amqp://127.0.0.1:{}", murano_testkit::free_port())], None).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("ConnectFailed"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn the_work_queue_does_all_its_tasks() {
    let output = succeeded(&run("work_queue", &[shared_node().await], None).await);
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines[0], "100 tasks confirmed", "{output}");
    assert!(lines.contains(&"100 tasks done"), "{output}");
}

/// Requests are answered until SIGTERM; after it, each is either answered or still in the queue.
#[tokio::test]
async fn the_service_answers_and_sigterm_drains_it() {
    const REQUESTS: u32 = 2000;
    let uri = shared_node().await;
    let queue = unique("service");
    let mut service = tokio::process::Command::new(program("service"))
        .args([uri, &queue])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(service.stdout.take().unwrap()).lines();
    let line = within("it is ready", STEP, printed.next_line()).await.unwrap();
    assert_eq!(line.as_deref(), Some("ready"));

    let client = Client::connect(uri).await.unwrap();
    let answers = client.declare_queue(&Queue::server_named().exclusive(true)).await.unwrap().name;
    let consumer = client.consume(answers.as_str()).start().await.unwrap();
    let mut confirmations = Vec::new();
    for number in 0..REQUESTS {
        let request =
            Message::json(&number).unwrap().reply_to(answers.as_str()).correlation_id(number.to_string());
        confirmations.push(client.publish_deferred("", &queue, request).await.unwrap());
    }
    let mut answered = HashSet::new();
    let mut take = async || {
        let answer = within("an answer", STEP, consumer.next()).await.unwrap().unwrap();
        let number: u64 = answer.properties().correlation_id().as_ref().unwrap().as_str().parse().unwrap();
        assert_eq!(answer.json::<u64>().unwrap(), number * number);
        answer.ack().unwrap();
        assert!(answered.insert(number), "{number} is answered twice");
        answered.len()
    };
    let mut count = 0;
    while count < 20 {
        count = take().await;
    }
    let pid = i32::try_from(service.id().unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    for confirmation in confirmations {
        confirmation.await.unwrap();
    }
    let output = within("it drains", STEP, service.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let line = within("its last line", STEP, printed.next_line()).await.unwrap();
    assert_eq!(line.as_deref(), Some("drained"));

    let left = client.delete_queue(&queue).await.unwrap();
    let expected = (REQUESTS - left) as usize;
    while count < expected {
        count = take().await;
    }
    client.close().await.unwrap();
}

#[tokio::test]
async fn the_demo_does_every_plan_once_and_sees_its_queue_expire() {
    let output = succeeded(&run("demo", &[], Some(shared_node().await)).await);
    for expected in [
        "10 plans sent and confirmed; 10 wait, 0 workers exist",
        "10 of 10 plans done, each exactly once: true",
        "the queue is gone by itself",
    ] {
        assert!(output.contains(expected), "{output} has no {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_authority_it_is_given_and_no_other() {
    let node = Node::builder().tls().start().await;
    let ca = |certs: &Certs| certs.ca.to_str().unwrap().to_owned();
    let right = run("tls", &[&node.tls_uri(), &ca(node.certs())], None).await;
    assert_eq!(succeeded(&right), "over TLS\n");

    let folder = Folder(std::env::temp_dir().join(unique("murano-examples")));
    std::fs::create_dir(&folder.0).unwrap();
    let stranger = Certs::generate(&folder.0).unwrap();
    for arguments in [vec![node.tls_uri(), ca(&stranger)], vec![node.tls_uri()]] {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let wrong = run("tls", &arguments, None).await;
        assert_eq!(wrong.status.code(), Some(1));
        assert!(text(&wrong.stderr).contains("UnknownIssuer"), "{}", text(&wrong.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_shows_its_certificate_to_a_broker_that_wants_one() {
    let node = Node::builder().client_certificates().start().await;
    let certs = node.certs().clone();
    let [ca, client, key] = [&certs.ca, &certs.client, &certs.client_key].map(|path| path.to_str().unwrap());
    let shown = run("tls", &[&node.tls_uri(), ca, client, key], None).await;
    assert_eq!(succeeded(&shown), "over TLS\n");
    let unshown = run("tls", &[&node.tls_uri(), ca], None).await;
    assert_eq!(unshown.status.code(), Some(1));
    assert!(text(&unshown.stderr).contains("ClientCertificateRequired"), "{}", text(&unshown.stderr));
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
