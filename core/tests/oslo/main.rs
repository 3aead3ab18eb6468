//! RPC and notifications in oslo.messaging's format, Rust on both sides, on the embedded broker and on `RabbitMQ`. The
//! tests beside stock peers are in `ffi-tests/oslo`.
#![cfg(feature = "oslo")]

mod notifications;
mod rpc;

use std::time::Duration;

use murano_messaging::oslo::Transport;
use murano_testkit::{shared_node, unique};

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
    /// For exchanges and queues.
    pub(crate) topic: String,
}

impl Broker {
    /// An embedded broker for one test.
    pub(crate) fn embedded() -> Self {
        Self { url: format!("memory://{}", unique("oslo")), topic: unique("topic") }
    }

    /// The node that tests share.
    pub(crate) async fn rabbitmq() -> Self {
        let url = shared_node().await.replacen("amqp://", "rabbit://", 1);
        Self { url, topic: unique("topic") }
    }

    /// The broker's URL with a control exchange of this test, and other options.
    pub(crate) async fn transport(&self, options: &[(&str, &str)]) -> Transport {
        let mut config = murano_messaging::oslo::Config::from_url(&self.url).unwrap();
        config = config.option("control_exchange", &format!("exchange-{}", self.topic)).unwrap();
        for (name, value) in options {
            config = config.option(name, value).unwrap();
        }
        Transport::with_config(config).await.unwrap()
    }
}

/// Longer than anything takes that works.
pub(crate) const LONG: Duration = Duration::from_secs(30);
