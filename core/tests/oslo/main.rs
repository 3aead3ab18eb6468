//! RPC and notifications in oslo.messaging's format, Rust on both sides, on the embedded broker and on `RabbitMQ`. The
//! tests beside stock peers are in `ffi-tests/oslo`.
#![cfg(feature = "oslo")]

mod fanout;
mod limits;
mod notifications;
mod peers;
mod problems;
mod restarts;
mod rpc;
mod warnings;

use std::time::Duration;

use murano_messaging::oslo::{Config, Transport};
use murano_testkit::{Proxy, shared_node, unique};

/// A test on the embedded broker and on `RabbitMQ`; each gets the URL and a topic of its own.
macro_rules! on_both_brokers {
    ($($name:ident),* $(,)?) => {
        mod on_the_embedded_broker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::Broker::embedded()).await;
            })*
        }
        mod on_rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::Broker::rabbitmq().await).await;
            })*
        }
    };
}
pub(crate) use on_both_brokers;

/// A broker, and names that no other test has.
pub(crate) struct Broker {
    url: String,
    way: Way,
    /// For exchanges and queues.
    pub(crate) topic: String,
}

/// How the connections of a test are cut.
enum Way {
    Embedded(murano_messaging::Broker),
    Proxy(Proxy),
}

impl Broker {
    /// An embedded broker for one test.
    pub(crate) fn embedded() -> Self {
        let name = unique("oslo");
        let way = Way::Embedded(murano_messaging::Broker::named(&name));
        Self { url: format!("memory://{name}"), way, topic: unique("topic") }
    }

    /// The node that tests share, behind a proxy.
    pub(crate) async fn rabbitmq() -> Self {
        Self::at(shared_node().await).await
    }

    /// A node, behind a proxy.
    pub(crate) async fn at(uri: &str) -> Self {
        let port = uri.rsplit_once(':').unwrap().1.parse().unwrap();
        let proxy = Proxy::start(port).await;
        let url = proxy.uri().replacen("amqp://", "rabbit://", 1);
        Self { url, way: Way::Proxy(proxy), topic: unique("topic") }
    }

    pub(crate) fn as_embedded(&self) -> Option<&murano_messaging::Broker> {
        match &self.way {
            Way::Embedded(broker) => Some(broker),
            Way::Proxy(_) => None,
        }
    }

    /// The URL with a control exchange of this test, and other options.
    pub(crate) fn config(&self, options: &[(&str, &str)]) -> Config {
        let mut config = Config::from_url(&self.url).unwrap();
        config = config.option("control_exchange", &self.exchange()).unwrap();
        for (name, value) in options {
            config = config.option(name, value).unwrap();
        }
        config
    }

    pub(crate) fn exchange(&self) -> String {
        format!("exchange-{}", self.topic)
    }

    /// Connects.
    pub(crate) async fn transport(&self, options: &[(&str, &str)]) -> Transport {
        Transport::with_config(self.config(options)).await.unwrap()
    }

    /// Cuts the connections.
    pub(crate) fn cut(&self) {
        match &self.way {
            Way::Embedded(broker) => broker.drop_connections(),
            Way::Proxy(proxy) => proxy.cut(),
        }
    }

    /// Cuts the connections and refuses new ones, or takes them again.
    pub(crate) fn away(&self, away: bool) {
        match &self.way {
            Way::Embedded(broker) => broker.refuse_connections(away),
            Way::Proxy(proxy) => proxy.refuse(away),
        }
        if away {
            self.cut();
        }
    }
}

/// Longer than anything takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);
