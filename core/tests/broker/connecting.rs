//! Hosts with several addresses, credentials for each host, new secrets, and callbacks that panic.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use murano_messaging::{
    Broker, Connecting, Connector, Credentials, ErrorKind, Event, Host, Message, Options, Queue, Recovery,
    Routes, Routing, Stream, TcpConnector, TlsOptions,
};
use murano_testkit::{eventually, within};
use tokio::net::{TcpListener, TcpStream};

pub const STEP: Duration = Duration::from_secs(20);

fn options(broker: &Broker) -> Options {
    Options::new()
        .connector(Arc::new(broker.clone()))
        .recovery(Recovery { max_delay: Duration::from_millis(50), ..Recovery::default() })
}

// ---- addresses ------------------------------------------------------------------------------------------------

/// A name with several addresses.
struct Name(Vec<Host>);

struct NameRoutes<'a>(std::slice::Iter<'a, Host>, Option<&'a TlsOptions>);

impl Connector for Name {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        unreachable!("the engine asks for the routes")
    }

    fn routes<'a>(&'a self, _: &'a Host, tls: Option<&'a TlsOptions>) -> Routing<'a> {
        let routes: Box<dyn Routes + 'a> = Box::new(NameRoutes(self.0.iter(), tls));
        Box::pin(std::future::ready(Ok(routes)))
    }
}

impl Routes for NameRoutes<'_> {
    fn next(&mut self) -> Option<Connecting<'_>> {
        let (host, tls) = (self.0.next()?, self.1);
        Some(Box::pin(async move { TcpConnector.connect(host, tls).await }))
    }

    fn left(&self) -> usize {
        self.0.len()
    }
}

/// A port that accepts connections and does this with each.
async fn bad_port(then: fn(TcpStream, &mut Vec<TcpStream>)) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            then(stream, &mut kept);
        }
    });
    Host::new("127.0.0.1", port)
}

#[tokio::test]
async fn an_address_that_accepts_and_is_silent_or_resets_is_passed_over() {
    let broker = Broker::new();
    let listening = broker.listen(("127.0.0.1", 0)).await.unwrap();
    let good = Host::new("127.0.0.1", listening.port());
    let silent = bad_port(|stream, kept| kept.push(stream)).await;
    let resetting = bad_port(|stream, _| drop(stream)).await;
    let talkative = bad_port(|stream, kept| {
        stream.try_write(b"HTTP/1.1 503 busy\r\n\r\n").unwrap();
        kept.push(stream);
    })
    .await;
    let closed = Host::new("127.0.0.1", murano_testkit::free_port());
    for bad in [silent.clone(), resetting.clone(), talkative, closed.clone()] {
        let connector = Arc::new(Name(vec![bad.clone(), good.clone()]));
        let options = Options::new().connector(connector).connect_timeout(Duration::from_secs(4));
        let client = within("the second address", STEP, options.connect()).await;
        client.unwrap_or_else(|error| panic!("{bad}: {error}")).close().await.unwrap();
    }
    // None of them: the error is of a connect that failed, within the deadline.
    let connector = Arc::new(Name(vec![silent, resetting, closed]));
    let options = Options::new().connector(connector).connect_timeout(Duration::from_secs(2));
    let error = within("the deadline", STEP, options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectFailed, "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_not_tried_at_every_address() {
    let broker = Broker::new();
    let listening = broker.listen(("127.0.0.1", 0)).await.unwrap();
    let good = Host::new("127.0.0.1", listening.port());
    let other = bad_port(|_, _| panic!("a wrong password was tried again")).await;
    let connector = Arc::new(Name(vec![good, other]));
    let options = Options::new().connector(connector).credentials("guest", "wrong");
    let error = within("the refusal", STEP, options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
}

// ---- credentials ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn each_host_is_sent_its_own_credentials_only() {
    let (one, two) = (Broker::new(), Broker::new());
    one.add_user("first", "of-1");
    two.add_user("second", "of-2");
    let (at_one, at_two) =
        (one.listen(("127.0.0.1", 0)).await.unwrap(), two.listen(("127.0.0.1", 0)).await.unwrap());
    let uri = |second: &str| {
        format!("amqp://first:of-1@127.0.0.1:{},second:{second}@127.0.0.1:{}/", at_one.port(), at_two.port())
    };
    for (down, up) in [(&one, &two), (&two, &one)] {
        down.refuse_connections(true);
        let client = within("connecting", STEP, Options::from_uri(&uri("of-2")).unwrap().connect());
        let client = client.await.unwrap();
        assert_eq!((down.connections(), up.connections()), (0, 1));
        client.close().await.unwrap();
        down.refuse_connections(false);
    }
    one.refuse_connections(true);
    let error = within("the refusal", STEP, Options::from_uri(&uri("hunter2")).unwrap().connect());
    let error = error.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_new_secret_is_used_by_later_logins_of_both_connections() {
    let broker = Broker::new();
    broker.add_user("app", "old");
    let client = options(&broker).credentials("app", "old").connect().await.unwrap();
    client.declare_queue(&Queue::new("q")).await.unwrap();
    broker.add_user("app", "new");
    within("the answer", STEP, client.update_secret("new", "rotation")).await.unwrap();
    // The publishing connection logs in for the first time, and then both again.
    within("the confirm", STEP, client.publish("", "q", Message::text("1"))).await.unwrap();
    broker.drop_connections();
    within("the confirm", STEP, client.publish("", "q", Message::text("2"))).await.unwrap();
    assert_eq!(within("the answer", STEP, client.queue_info("q")).await.unwrap().message_count, 2);
}

#[tokio::test]
async fn a_new_secret_is_used_by_the_host_whose_user_it_is() {
    let broker = Broker::new();
    broker.add_user("app", "old");
    let listening = broker.listen(("127.0.0.1", 0)).await.unwrap();
    let uri =
        format!("amqp://app:old@127.0.0.1:{},other:pass@localhost:{}", listening.port(), listening.port());
    let client = within("connecting", STEP, Options::from_uri(&uri).unwrap().connect()).await.unwrap();
    broker.add_user("app", "new");
    within("the answer", STEP, client.update_secret("new", "rotation")).await.unwrap();
    broker.drop_connections();
    within("the answer", STEP, client.declare_queue(&Queue::new("q"))).await.unwrap();
}

/// Reaches the broker so many times, and then nobody.
struct Limited(Broker, AtomicUsize);

impl Connector for Limited {
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        let left = self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        match left {
            Ok(_) => Connector::connect(&self.0, host, tls),
            Err(_) => {
                let refused = murano_messaging::Error::new(ErrorKind::ConnectFailed, "no more");
                Box::pin(std::future::ready(Err(refused)))
            }
        }
    }
}

#[tokio::test]
async fn a_publishing_connection_that_is_down_does_not_keep_the_other_from_a_new_secret() {
    for max_attempts in [None, Some(1)] {
        let connector = Limited(Broker::new(), AtomicUsize::new(1));
        let recovery = Recovery { max_attempts, ..Recovery::default() };
        let options = Options::new().connector(Arc::new(connector)).recovery(recovery);
        let client = options.operation_timeout(STEP * 3).connect().await.unwrap();
        let mut events = client.events();
        let publish = client.publish("", "q", Message::text("x"));
        let told = async {
            // It is down for a while, or for good.
            within("a failed attempt", STEP, async {
                while !matches!(
                    events.next().await,
                    Some(Event::Recovering { last_error: Some(_), .. } | Event::Closed { .. })
                ) {}
            })
            .await;
            within("the answer", STEP, client.update_secret("guest", "rotation")).await.unwrap();
        };
        tokio::select! {
            biased;
            () = told => {}
            result = async { let _ = publish.await; std::future::pending::<()>().await } => result,
        }
    }
}

// ---- callbacks that panic -------------------------------------------------------------------------------------

/// Panics at these calls.
#[derive(Clone)]
struct Panicking(Arc<Mutex<usize>>, &'static [usize]);

impl Panicking {
    fn at(calls: &'static [usize]) -> Self {
        Self(Arc::default(), calls)
    }

    fn call(&self) {
        let call = {
            let mut calls = self.0.lock().unwrap();
            *calls += 1;
            *calls
        };
        assert!(!self.1.contains(&call), "hunter2");
    }

    fn calls(&self) -> usize {
        *self.0.lock().unwrap()
    }
}

#[tokio::test]
async fn a_panicking_credentials_callback_fails_that_attempt_only() {
    let broker = Broker::new();
    // The second login is of the publishing connection; the fourth of the main one after the loss.
    let panicking = Panicking::at(&[2, 4]);
    let asked = panicking.clone();
    let options = options(&broker).credentials_from(move || {
        let asked = asked.clone();
        async move {
            asked.call();
            Ok(Credentials::new("guest", "guest"))
        }
    });
    let client = within("connecting", STEP, options.connect()).await.unwrap();
    client.declare_queue(&Queue::new("q")).await.unwrap();
    within("the confirm", STEP, client.publish("", "q", Message::text("x"))).await.unwrap();
    assert_eq!(panicking.calls(), 3);
    broker.drop_connections();
    within("the answer", STEP, client.queue_info("q")).await.unwrap();
    within("the confirm", STEP, client.publish("", "q", Message::text("x"))).await.unwrap();
    assert!(!client.is_closed());

    let panicking = Panicking::at(&[1]);
    // Also one that panics before it gives a future.
    let options = Options::new().connector(Arc::new(broker)).credentials_from(move || {
        panicking.call();
        std::future::ready(Ok(Credentials::new("guest", "guest")))
    });
    let error = within("the error", STEP, options.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication, "{error}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

/// Panics when it is called, or when its future is polled.
struct PanickingConnector(Broker, Panicking, bool);

impl Connector for PanickingConnector {
    fn connect<'a>(&'a self, host: &'a Host, tls: Option<&'a TlsOptions>) -> Connecting<'a> {
        if self.2 {
            self.1.call();
            return Connector::connect(&self.0, host, tls);
        }
        Box::pin(async move {
            self.1.call();
            Connector::connect(&self.0, host, tls).await
        })
    }
}

#[tokio::test]
async fn a_panicking_connector_fails_that_attempt_only() {
    for early in [true, false] {
        let broker = Broker::new();
        let connector = PanickingConnector(broker.clone(), Panicking::at(&[2, 4]), early);
        let client = options(&broker).connector(Arc::new(connector)).connect().await.unwrap();
        client.declare_queue(&Queue::new("q")).await.unwrap();
        within("the confirm", STEP, client.publish("", "q", Message::text("x"))).await.unwrap();
        broker.drop_connections();
        within("the answer", STEP, client.queue_info("q")).await.unwrap();
        assert!(!client.is_closed());
    }
}

/// A byte stream that panics when it is read after it was told to.
struct PanickingStream(tokio::io::DuplexStream, Arc<AtomicUsize>);

impl tokio::io::AsyncRead for PanickingStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        assert!(self.1.load(Ordering::Relaxed) == 0, "the stream panics");
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for PanickingStream {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

struct PanickingStreams(Broker, Arc<AtomicUsize>);

impl Connector for PanickingStreams {
    fn connect<'a>(&'a self, host: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        let io = self.0.connect().unwrap();
        let stream = Stream::new(PanickingStream(io, self.1.clone()), host.to_string());
        Box::pin(std::future::ready(Ok(stream)))
    }
}

#[tokio::test]
async fn a_panic_in_an_engine_closes_the_client_and_says_so() {
    let broker = Broker::new();
    let panics = Arc::new(AtomicUsize::new(0));
    let connector = PanickingStreams(broker.clone(), panics.clone());
    let client = Options::new().connector(Arc::new(connector)).connect().await.unwrap();
    let mut events = client.events();
    panics.store(1, Ordering::Relaxed);
    let error = within("the error", STEP, client.queue_info("q")).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    assert!(client.is_closed());
    eventually("the connection is gone", STEP, || async { broker.connections() == 0 }).await;
    within("the event", STEP, async {
        while !matches!(events.next().await, Some(Event::Closed { reason: Some(_), .. })) {}
    })
    .await;
}
