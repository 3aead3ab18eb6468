//! From the byte stream to a message that came back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use amq_protocol::types::{AMQPValue, FieldTable};
use tokio::time::{Instant, timeout};

use super::{Examination, Found, Outcome, Step};
use crate::{
    Client, Error, ErrorKind, Mechanism, Message, Queue, Recovery, Result,
    events::Event,
    wire::{handshake::Stage, stream::Connector},
};

const BODY: &str = "murano-messaging doctor";

/// What the broker said in the handshake, and when.
#[derive(Clone, Default)]
struct Heard {
    greeted: Option<(Instant, Greeting)>,
    /// The user.
    logged_in: Option<(Instant, String)>,
    opened: Option<(Instant, Limits)>,
}

#[derive(Clone)]
struct Greeting {
    product: String,
    version: String,
    mechanisms: String,
}

#[derive(Clone, Copy)]
struct Limits {
    frame_max: u32,
    channel_max: u16,
    heartbeat: u16,
}

impl Heard {
    fn hear(&mut self, stage: &Stage<'_>) {
        let now = Instant::now();
        match stage {
            Stage::Start(start) => {
                let text = |key| text(&start.server_properties, key);
                let greeting = Greeting {
                    product: text("product"),
                    version: text("version"),
                    mechanisms: start.mechanisms.to_string(),
                };
                self.greeted = Some((now, greeting));
            }
            Stage::Tune(user) => self.logged_in = Some((now, (*user).to_owned())),
            Stage::Open(agreed) => {
                let limits = Limits {
                    frame_max: agreed.frame_max,
                    channel_max: agreed.channel_max,
                    heartbeat: agreed.heartbeat,
                };
                self.opened = Some((now, limits));
            }
        }
    }
}

fn text(properties: &FieldTable, key: &str) -> String {
    match properties.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => "?".to_owned(),
    }
}

impl Examination<'_> {
    pub(super) async fn try_broker(&mut self, connector: Option<Arc<dyn Connector>>) -> Outcome<()> {
        let client = self.log_in(connector).await?;
        if let Err(stopped) = self.use_broker(&client).await {
            // A broker that blocks or is silent does not answer this either.
            let _ = client.with_timeout(Duration::from_secs(1)).close().await;
            return Err(stopped);
        }
        let began = Instant::now();
        match client.close().await {
            Ok(()) => self.pass(Step::Close, began.elapsed(), Found::new("the connection ended in order")),
            Err(error) => return self.fail(Step::Close, began, &error, Found::default()),
        }
        Ok(())
    }

    async fn use_broker(&mut self, client: &Client) -> Outcome<()> {
        let queue = self.may_declare_and_read(client).await?;
        self.publish(client, &queue).await?;
        self.consume(client, &queue).await
    }

    async fn log_in(&mut self, connector: Option<Arc<dyn Connector>>) -> Outcome<Client> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut options = self.options.clone();
        options.hosts = vec![self.host.clone()];
        if let Some(connector) = connector {
            options = options.connector(connector);
        }
        options.observer = Some({
            let heard = heard.clone();
            Arc::new(move |stage| heard.lock().unwrap_or_else(PoisonError::into_inner).hear(&stage))
        });
        let began = Instant::now();
        let connecting = options
            .recovery(Recovery { enabled: false, ..Recovery::default() })
            // What the publish meets is then told of this connection, and it counts as one.
            .separate_publish_connection(false)
            .short_lived(true)
            .connect();
        let connected = connecting.await;
        let heard = heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // Up to where the broker said something, all is well.
        let mut reached = Step::Amqp;
        let mut since = began;
        if let Some((at, Greeting { product, version, mechanisms })) = &heard.greeted {
            let found = Found::new(format!("{product} {version}, logins by {mechanisms}"))
                .detail("product", product.as_str())
                .detail("version", version.as_str())
                .detail("mechanisms", mechanisms.as_str());
            self.pass(Step::Amqp, *at - since, found);
            (reached, since) = (Step::Login, *at);
        }
        if let Some((at, user)) = &heard.logged_in {
            let mechanism = self.options.mechanism.name();
            let found = if self.options.mechanism == Mechanism::External {
                Found::new("by the client certificate (EXTERNAL)")
            } else {
                Found::new(format!("as '{user}' ({mechanism})")).detail("user", user.as_str())
            };
            let found = found.detail("mechanism", mechanism);
            self.pass(Step::Login, *at - since, found);
            (reached, since) = (Step::VirtualHost, *at);
        }
        if let Some((at, limits)) = heard.opened {
            let found =
                Found::new(format!("'{}'", self.options.vhost)).detail("name", self.options.vhost.as_str());
            self.pass(Step::VirtualHost, at - since, found);
            let greeting = heard.greeted.as_ref().map(|(_, greeting)| greeting);
            self.pass(
                Step::Limits,
                Duration::ZERO,
                limits_found(limits, greeting, self.options.max_body_size),
            );
            (reached, since) = (Step::Limits, at);
        }
        match connected {
            Ok(client) => Ok(client),
            // In TLS 1.3 what the broker says of the client certificate comes behind the handshake.
            Err(error) if error.kind() == ErrorKind::Tls => {
                self.fail(Step::Tls, since, &error, Found::default())
            }
            Err(error) if error.kind() == ErrorKind::VhostRefused => {
                self.fail(Step::VirtualHost, since, &error, Found::default())
            }
            Err(error) => self.fail(reached, since, &error, Found::default()),
        }
    }

    /// The temporary queue: RabbitMQ asks for `configure` at the declare and for `read` at the get.
    async fn may_declare_and_read(&mut self, client: &Client) -> Outcome<String> {
        let began = Instant::now();
        let temporary = Queue::new(self.queue).durable(false).exclusive(true);
        let attempt = async {
            let queue = client.declare_queue(&temporary).await?.name;
            client.get_no_ack(&queue).await?;
            Ok(queue)
        };
        let result: Result<String> = attempt.await;
        match result {
            Ok(queue) => {
                let found = Found::new(format!("declares and reads the temporary queue '{queue}'"));
                self.pass(Step::Permissions, began.elapsed(), found.detail("queue", queue.as_str()));
                Ok(queue)
            }
            Err(error) => self.fail(Step::Permissions, began, &error, Found::default()),
        }
    }

    async fn publish(&mut self, client: &Client, queue: &str) -> Outcome<()> {
        let began = Instant::now();
        let mut events = client.events();
        let message = Message::text(BODY).persistent(false);
        let blocked = async {
            loop {
                match events.next().await {
                    Some(Event::Blocked { reason, .. }) => return reason,
                    Some(_) => {}
                    // The publish knows better.
                    None => std::future::pending::<()>().await,
                }
            }
        };
        let published = tokio::select! {
            published = client.publish("", queue, message) => published,
            reason = blocked => {
                let text = format!("{}: the broker blocks publishers: {reason}", self.name);
                let error = Error::new(ErrorKind::Blocked, text);
                return self.fail(Step::Alarms, began, &error, Found::new("").detail("reason", reason));
            }
        };
        let took = began.elapsed();
        match published {
            Err(error) if error.kind() == ErrorKind::Blocked => {
                self.fail(Step::Alarms, began, &error, Found::default())
            }
            Err(error) => self.fail(Step::Publish, began, &error, Found::default()),
            Ok(()) => {
                self.pass(Step::Alarms, took, Found::new("none: the broker takes publishes"));
                self.pass(Step::Publish, took, Found::new("a message was published and confirmed"));
                Ok(())
            }
        }
    }

    async fn consume(&mut self, client: &Client, queue: &str) -> Outcome<()> {
        let began = Instant::now();
        let wait = self.options.operation_timeout;
        let attempt = async {
            let consumer = client.consume(queue).prefetch(1).start().await?;
            let Ok(next) = timeout(wait, consumer.next()).await else {
                let text = format!(
                    "{}: the message was not delivered within {:.1} s",
                    self.name,
                    wait.as_secs_f64()
                );
                return Err(Error::new(ErrorKind::Timeout, text));
            };
            let ended =
                || Error::new(ErrorKind::ConsumerCancelled, format!("{}: the consumer ended", self.name));
            let delivery = next.ok_or_else(ended)??;
            if delivery.body().as_ref() != BODY.as_bytes() {
                return Err(Error::protocol(format!("{}: the message came back changed", self.name)));
            }
            delivery.ack()?;
            consumer.cancel().await
        };
        let result: Result<()> = attempt.await;
        match result {
            Ok(()) => {
                self.pass(Step::Consume, began.elapsed(), Found::new("the message was consumed and acked"));
                Ok(())
            }
            Err(error) => self.fail(Step::Consume, began, &error, Found::default()),
        }
    }
}

fn limits_found(limits: Limits, greeting: Option<&Greeting>, max_body: u64) -> Found {
    let Limits { frame_max, channel_max, heartbeat } = limits;
    let beat = match heartbeat {
        0 => "no heartbeat".to_owned(),
        seconds => format!("heartbeat {seconds} s"),
    };
    let largest = largest_message(greeting);
    Found::new(format!("frames of {frame_max} bytes, {channel_max} channels, {beat}"))
        .note(format!("the broker does not say how large a message may be: {largest}; this client accepts {max_body} bytes"))
        .detail("frame_max", frame_max)
        .detail("channel_max", channel_max)
        .detail("heartbeat", heartbeat)
        .detail("max_message_size", "not announced")
        .detail("max_body_size", max_body)
}

/// RabbitMQ's default of `max_message_size`; AMQP 0-9-1 has no way to ask for it.
fn largest_message(greeting: Option<&Greeting>) -> &'static str {
    let major = greeting
        .filter(|greeting| greeting.product == "RabbitMQ")
        .and_then(|greeting| greeting.version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(0..=3) => "128 MiB by default (max_message_size)",
        Some(_) => "16 MiB by default (max_message_size)",
        None => "see its max_message_size",
    }
}
