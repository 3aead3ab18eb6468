//! No secret is shown: passwords, tokens, keys and their passwords are planted, everything that can be printed is printed, by a
//! process of its own, and all of its output is searched.

use std::{
    error::Error as _,
    fmt::{Debug, Write as _},
    process::Command,
    time::Duration,
};

use murano_messaging::{
    Broker, Client, Credentials, Error, Host, Mechanism, Message, Options, Queue, Recovery, Result,
    ServerTls, TlsOptions, doctor,
};
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

const PASSWORD: &str = "canary-PASSWORD-83d1";
const TOKEN: &str = "canary-TOKEN-c07f";
const KEY_PASSWORD: &str = "canary-KEYPASSWORD-51ee";
const KEY: &str = include_str!("tls_handshake/keys/plain-p256.pem");
const ENCRYPTED: &str = include_str!("tls_handshake/keys/encrypted-p256.pem");

/// The process that prints.
const CHILD: &str = "MURANO_TEST_PRINTS_EVERYTHING";

/// All that is traced, at every level, of every crate.
struct Traces;

impl Subscriber for Traces {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut text = String::new();
        span.record(&mut Fields(&mut text));
        eprintln!("span {}{text}", span.metadata().name());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        let mut text = String::new();
        values.record(&mut Fields(&mut text));
        eprintln!("span{text}");
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Fields(&mut text));
        eprintln!("{} {}{text}", event.metadata().level(), event.metadata().target());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

/// An error in every way that it can be shown.
fn show(error: &Error) {
    println!("{error} {error:?} {error:#?} {:?} {:?}", error.reply(), error.returned());
    let mut source = error.source();
    while let Some(cause) = source {
        println!("because {cause} {cause:?}");
        source = cause.source();
    }
}

fn show_result<T: Debug>(result: Result<T>) {
    match result {
        Ok(value) => println!("{value:?}"),
        Err(error) => show(&error),
    }
}

fn options() -> Options {
    let once =
        Recovery { max_attempts: Some(2), max_delay: Duration::from_millis(20), ..Recovery::default() };
    Options::new()
        .credentials("someone", PASSWORD)
        .recovery(once)
        .connect_timeout(Duration::from_secs(2))
        .operation_timeout(Duration::from_secs(5))
}

fn identity() -> (String, KeyPair) {
    let key = KeyPair::from_pem(KEY).expect("a key");
    let params = CertificateParams::new(["127.0.0.1".into()]).expect("valid names");
    (params.self_signed(&key).expect("a certificate").pem(), key)
}

/// Malformed and well-formed URIs, with the password at every place where one can be.
async fn uris() {
    for uri in [
        format!("amqp://someone:{PASSWORD}@127.0.0.1:1/v"),
        format!("amqp://someone:{PASSWORD}@127.0.0.1:99999"),
        format!("amqp://someone:{PASSWORD}@127.0.0.1/a/b"),
        format!("amqp://someone:{PASSWORD}%zz@127.0.0.1"),
        format!("amqp://someone:{PASSWORD}%ff@127.0.0.1"),
        format!("amqp://someone:{PASSWORD}@[::1"),
        format!("amqp://someone:{PASSWORD}/@127.0.0.1"),
        format!("amqp://someone:{PASSWORD}?@127.0.0.1"),
        format!("amqp://someone:{PASSWORD}#@127.0.0.1"),
        format!("amqp://someone:{PASSWORD}@127.0.0.1?heartbeat=x"),
        format!("amqp://a:{PASSWORD}@h1,b:{PASSWORD}@h2,c@h3"),
        format!("amqp://a:{PASSWORD}@h1:1,b:{PASSWORD}@h2:1"),
        format!("amqp://{PASSWORD}"),
        format!("http://someone:{PASSWORD}@127.0.0.1"),
        format!("someone:{PASSWORD}@127.0.0.1"),
        format!("memory://someone:{PASSWORD}@x"),
        format!("amqps://someone:{PASSWORD}@127.0.0.1:1?keyfile=/nowhere&certfile=/nowhere"),
    ] {
        // A host that has no user information before it is a host, whatever it looks like.
        if uri == format!("amqp://{PASSWORD}") {
            continue;
        }
        match Options::from_uri(&uri) {
            Ok(options) => {
                println!("{options:?} {options:#?}");
                show_result(options.connect_timeout(Duration::from_millis(500)).connect().await);
            }
            Err(error) => show(&error),
        }
    }
}

/// A client that works, one that may not, and a new secret.
async fn logins() {
    let broker = Broker::new();
    broker.add_user("someone", PASSWORD);
    let listening = broker.listen("127.0.0.1:0").await.expect("a free port");
    println!("{broker:?} {listening:?}");
    let client =
        options().host("127.0.0.1", listening.port()).connect().await.expect("the password is right");
    let mut events = client.events();
    println!("{client:?} {:?} {:?} {:?}", client.options(), client.downgrade(), client.server());
    client.declare_queue(&Queue::new("q")).await.expect("a queue");
    let publisher = client.publisher("", "q");
    show_result(publisher.publish(Message::text("x")).await);
    let confirmation = publisher.publish_deferred(Message::text("x")).await.expect("the window has room");
    println!("{confirmation:?}");
    let _ = confirmation.await;
    let consumer = client.consume("q").start().await.expect("a consumer");
    println!("{consumer:?}");
    show_result(consumer.next().await.expect("a delivery").and_then(|delivery| {
        println!("{delivery:?}");
        delivery.ack()
    }));
    show_result(client.update_secret(TOKEN, "renewed").await);
    // It is what the next login has.
    broker.add_user("someone", TOKEN);
    broker.close_connections(320, "CONNECTION_FORCED");
    let _ = client.queue_info("q").await;
    broker.remove_user("someone");
    broker.close_connections(320, "CONNECTION_FORCED");
    let _ = client.queue_info("q").await;
    println!("{:?}", client.stats());
    while let Some(event) = events.try_recv() {
        println!("{event:?}");
    }
    show_result(client.close().await);
    for mechanism in [Mechanism::Plain, Mechanism::AmqPlain, Mechanism::External] {
        show_result(options().host("127.0.0.1", listening.port()).mechanism(mechanism).connect().await);
    }
    let callback = options()
        .host("127.0.0.1", listening.port())
        .credentials_from(|| std::future::ready(Ok(Credentials::new("someone", TOKEN))));
    println!("{callback:?} {:?}", Credentials::new("someone", TOKEN));
    show_result(callback.connect().await);
    let checks =
        doctor::examine(options().host("127.0.0.1", listening.port()), "", |check| println!("{check:?}"))
            .await;
    println!(
        "{}",
        checks.expect("the options can be used").iter().map(doctor::Check::to_json).collect::<String>()
    );
    show_result(options().vhost("x".repeat(300)).connect().await);
    show_result(options().credentials("some\0one", PASSWORD).connect().await);
}

/// Peers that break off in the middle of the login.
async fn broken_logins() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    show_result(options().host("127.0.0.1", port).connect().await);
    show_result(
        options().hosts([Host::new("127.0.0.1", port), Host::new("broker.invalid", 1)]).connect().await,
    );
}

async fn keys() {
    let (certificate, key) = identity();
    let (stranger, _) = {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".into()]).expect("valid names");
        (params.self_signed(&key).expect("a certificate").pem(), key)
    };
    let server = ServerTls::pem(certificate.clone(), KEY);
    let broker = Broker::new();
    let listening = broker.listen_tls("127.0.0.1:0", &server).await.expect("the key is usable");
    println!("{server:?}");
    let tls = || TlsOptions::new().ca_pem(certificate.clone()).pinned(true);
    for tls in [
        tls().identity_pem(certificate.clone(), KEY),
        tls().identity_pem(stranger.clone(), KEY),
        tls().identity_pem(KEY, KEY),
        tls().identity_pem(certificate.clone(), KEY.replace("MIG", "M*G")),
        tls().identity_pem(certificate.clone(), key.serialize_der()),
        tls().identity_pem(certificate.clone(), ENCRYPTED).key_password(KEY_PASSWORD),
        tls().identity_pem(certificate.clone(), ENCRYPTED),
        TlsOptions::new().ca_pem(KEY),
        TlsOptions::new().ca_pem(stranger.clone()).identity_pem(certificate.clone(), KEY),
    ] {
        println!("{tls:?} {tls:#?}");
        show_result(options().host("127.0.0.1", listening.port()).tls(tls).connect().await);
    }
    println!("{listening:?}");
}

#[test]
fn prints_everything() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    tracing::subscriber::set_global_default(Traces).expect("it is the first");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        uris().await;
        logins().await;
        broken_logins().await;
        keys().await;
        // What a panic would show of values that hold secrets.
        let held = (options(), Credentials::new("someone", PASSWORD));
        let panicked = tokio::spawn(async move { panic!("{held:?}") }).await;
        println!("{panicked:?}");
        show_result(Client::connect("nonsense").await);
    });
    println!("printed everything");
}

/// The forms in which a secret could be shown.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let list = |number: fn(&u8) -> String| bytes.iter().map(number).collect::<Vec<_>>();
    vec![secret.to_owned(), list(|byte| format!("{byte:02x}")).concat(), list(ToString::to_string).join(", ")]
}

#[test]
fn no_secret_is_in_anything_that_is_printed() {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", "prints_everything"])
        .env(CHILD, "1")
        .env("RUST_BACKTRACE", "1")
        .output()
        .expect("this program can be run");
    let text =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("printed everything"), "{text}");
    // It is no empty search: what it traces and prints is there.
    for found in ["someone", "TRACE", "DEBUG", "Authentication", "Tls", "InvalidArgument"] {
        assert!(text.contains(found), "nothing was printed of {found}");
    }
    let key_lines = KEY.lines().filter(|line| !line.starts_with('-'));
    for secret in [PASSWORD, TOKEN, KEY_PASSWORD].into_iter().chain(key_lines) {
        for form in forms(secret) {
            if let Some(place) = text.find(&form) {
                let from = text[..place].rfind('\n').map_or(0, |line| line + 1);
                panic!("a secret is shown: {}", text[from..].lines().next().unwrap_or_default());
            }
        }
    }
}
