//! What the client does on any broker that keeps AMQP 0-9-1 and `RabbitMQ`'s extensions: written once against an
//! [`env::Env`], run on `RabbitMQ` and on the embedded broker.

/// Makes each `async fn(&Env)` a test of its own on every backend.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let env = crate::env::Env::rabbitmq().await;
                env.run(super::$name(&env)).await;
            })+
        }

        #[cfg(feature = "broker")]
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let env = crate::env::Env::memory();
                env.run(super::$name(&env)).await;
            })+
        }
    };
}

/// The same for what only `RabbitMQ` has.
macro_rules! rabbitmq_only {
    ($($name:ident),+ $(,)?) => {
        mod rabbitmq_only {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let env = crate::env::Env::rabbitmq().await;
                env.run(super::$name(&env)).await;
            })+
        }
    };
}

mod acks;
mod bounds;
mod consuming;
mod dead_letters;
mod ending;
mod ending_connections;
mod env;
mod in_flight;
mod lifecycle;
mod limits;
mod prefetch;
mod properties;
mod publishing;
#[cfg(feature = "broker")]
mod record;
mod replies;
mod requests;
mod retries;
mod routing;
mod streams;
mod topology;
