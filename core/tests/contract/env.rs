//! The broker a test runs on, and what most tests do with it.

use std::{future::Future, sync::Mutex, time::Duration};

use murano_messaging::{Client, Consumer, Delivery, ErrorKind, Message, Options, Queue};
use murano_testkit::{broker_version, eventually, shared_node, unique, within};

/// For one step of a test; far longer than any takes.
pub const STEP: Duration = Duration::from_secs(30);

/// For a whole test.
const WHOLE: Duration = Duration::from_secs(120);

pub struct Env {
    uri: String,
    shared: bool,
    names: Mutex<Vec<String>>,
}

impl Env {
    /// A node that other tests use at the same time, so every name is unique.
    pub async fn rabbitmq() -> Self {
        Self { uri: shared_node().await.to_owned(), shared: true, names: Mutex::default() }
    }

    /// An embedded broker for one test.
    #[allow(dead_code, reason = "unused without the embedded broker")]
    pub fn memory() -> Self {
        Self { uri: format!("memory://{}", unique("contract")), shared: false, names: Mutex::default() }
    }

    /// Whether the broker is `RabbitMQ` of this version or a later one. The embedded broker does what 3.10 does.
    pub fn since(&self, major: u16, minor: u16) -> bool {
        self.shared && broker_version(&self.uri) >= (major, minor)
    }

    /// Whether other tests use the broker at the same time.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    pub fn options(&self) -> Options {
        let options = Options::from_uri(&self.uri).unwrap();
        #[cfg(feature = "broker")]
        if let Some(name) = self.uri.strip_prefix("memory://") {
            return crate::record::recording(options, name);
        }
        options
    }

    pub async fn client(&self) -> Client {
        within("connecting", STEP, self.options().connect()).await.unwrap()
    }

    /// A name for a queue or an exchange, which is deleted at the end of the test.
    pub fn unique(&self, name: &str) -> String {
        let name = unique(name);
        self.names.lock().unwrap().push(name.clone());
        name
    }

    /// Declares a durable queue.
    pub async fn queue(&self, client: &Client) -> String {
        self.queue_with(client, |queue| queue).await
    }

    /// Declares a queue with properties.
    pub async fn queue_with(&self, client: &Client, properties: impl FnOnce(Queue) -> Queue) -> String {
        let name = self.unique("q");
        client.declare_queue(&properties(Queue::new(name.as_str()))).await.unwrap();
        name
    }

    /// Runs a test within its deadline and removes what it left.
    pub async fn run(&self, test: impl Future<Output = ()>) {
        within("the whole test", WHOLE, test).await;
        if self.shared {
            let client = self.client().await;
            let names = self.names.lock().unwrap().clone();
            for name in names {
                // Whatever of the two it was; an exclusive queue may still be in the hands of a client that closes.
                let _ = client.delete_queue(&name).await;
                let _ = client.delete_exchange(&name).await;
            }
            client.close().await.unwrap();
        }
    }
}

/// The next delivery of a consumer that has more to come.
pub async fn next(consumer: &Consumer) -> Delivery {
    within("the next delivery", STEP, consumer.next()).await.expect("the consumer goes on").unwrap()
}

/// The body as text.
pub fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().to_vec()).unwrap()
}

/// The text of the next delivery, which is acked.
pub async fn next_text(consumer: &Consumer) -> String {
    let delivery = next(consumer).await;
    delivery.ack().unwrap();
    text(&delivery)
}

/// The texts of the next deliveries, which are acked.
pub async fn next_texts(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(next_text(consumer).await);
    }
    texts
}

/// Takes one message, which must be there.
pub async fn get(client: &Client, queue: &str) -> Delivery {
    let delivery = client.get_with_ack(queue).await.unwrap().expect("a message is there");
    delivery.ack().unwrap();
    delivery
}

/// Takes everything that is in a queue now, in order.
pub async fn take_all(client: &Client, queue: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while let Some(delivery) = client.get_no_ack(queue).await.unwrap() {
        texts.push(text(&delivery));
    }
    texts
}

/// Publishes one message for each text to a queue and waits for the confirms.
pub async fn send(client: &Client, queue: &str, texts: impl IntoIterator<Item = impl Into<String>>) {
    let publisher = client.publisher("", queue);
    let mut confirmations = Vec::new();
    for text in texts {
        confirmations.push(publisher.publish_deferred(Message::text(text)).await.unwrap());
    }
    for confirmation in confirmations {
        confirmation.await.unwrap();
    }
}

/// The numbers of a range as texts.
pub fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Waits until `count` messages are ready in a queue. Asking renews an `expires`.
pub async fn until_ready(client: &Client, queue: &str, count: u32) {
    eventually(&format!("{count} messages wait in {queue}"), STEP, || async {
        client.queue_info(queue).await.unwrap().message_count == count
    })
    .await;
}

/// Waits until a queue is gone, without renewing its `expires`, as a passive declare would.
pub async fn until_gone(client: &Client, queue: &str) {
    eventually(&format!("{queue} is gone"), STEP, || async { !exists(client, queue).await }).await;
}

/// Whether a message to the queue can be routed.
pub async fn exists(client: &Client, queue: &str) -> bool {
    match client.publish("", queue, Message::text("is anybody there")).await {
        Ok(()) => true,
        Err(error) if error.returned().is_some() => false,
        // `RabbitMQ` 4.3 nacks what arrives while it deletes the queue.
        Err(error) if error.kind() == ErrorKind::Nacked => true,
        Err(error) => panic!("{error}"),
    }
}

/// Runs futures at the same time.
pub async fn all<F: Future<Output = ()>>(futures: impl IntoIterator<Item = F>) {
    let mut futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|cx| {
        for slot in &mut futures {
            if let Some(future) = slot
                && future.as_mut().poll(cx).is_ready()
            {
                *slot = None;
            }
        }
        if futures.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}
