//! One client in the hands of one kind of server: each operation ends, and none is told that the client was closed.

use std::{future::Future, sync::Arc, time::Duration};

use murano_messaging::{Client, Connector, ErrorKind, Message, Options, Queue, Recovery};

use super::Rng;

/// The deadline of every operation; of the client's clock, which does not tick while there is something to do.
const DEADLINE: Duration = Duration::from_secs(2);

/// Waits for an operation, which may fail but not hang.
async fn ends<T>(
    what: &str,
    operation: impl Future<Output = Result<T, murano_messaging::Error>>,
) -> Option<T> {
    let Ok(result) = tokio::time::timeout(DEADLINE + DEADLINE / 2, operation).await else {
        panic!("{what} hangs");
    };
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            // Nobody has closed it: that would be an answer that got lost.
            assert_ne!(error.kind(), ErrorKind::Closed, "{what}: {error}");
            None
        }
    }
}

/// Uses a client in all the ways there are.
async fn use_up(client: &Client, rng: &mut Rng) {
    let consuming = async |no_ack: bool, cancels: bool| {
        let Some(consumer) = ends("consume", client.consume("q").no_ack(no_ack).prefetch(5).start()).await
        else {
            return;
        };
        for _ in 0..3 {
            match tokio::time::timeout(Duration::from_millis(50), consumer.next()).await {
                Ok(Some(Ok(delivery))) => {
                    // Without acks this is an error, as it should be.
                    let _ = if cancels { delivery.ack() } else { delivery.requeue() };
                }
                Ok(_) => break,
                Err(_) => {}
            }
        }
        if cancels {
            ends("set_prefetch", consumer.set_prefetch(9)).await;
            ends("cancel", consumer.cancel()).await;
        } else if !no_ack {
            ends("recover", consumer.recover(true)).await;
        }
    };
    let publishing = async || {
        let mut pending = Vec::new();
        for _ in 0..4 {
            let message = Message::new(vec![b'p'; 5000]);
            pending.extend(ends("admission", client.publish_deferred("", "q", message)).await);
        }
        for confirmation in pending {
            ends("publish", confirmation).await;
        }
    };
    let declaring = async || {
        ends("declare", client.declare_queue(&Queue::new("q"))).await;
        ends("look up", client.queue_info("q")).await;
    };
    let getting = async || {
        if let Some(Some(delivery)) = ends("get", client.get_with_ack("q")).await {
            // A stale one does nothing.
            let _ = delivery.ack();
        }
        ends("update the secret", client.update_secret("s", "r")).await;
    };
    let (cancels, no_ack) = (rng.bool(), rng.bool());
    tokio::join!(
        consuming(false, cancels),
        consuming(no_ack, !cancels),
        publishing(),
        declaring(),
        getting()
    );
}

/// Connects a client, uses it and closes it.
pub async fn run(server: Arc<dyn Connector>, mut rng: Rng) {
    let recovers = rng.u8(..4) == 0;
    let options = Options::new()
        .connector(server)
        .seed(rng.u64(..))
        .connect_timeout(DEADLINE)
        .operation_timeout(DEADLINE)
        .max_body_size(100_000)
        .delivery_buffer(10_000)
        .heartbeat(Duration::from_secs(rng.u64(..3)))
        .separate_publish_connection(rng.bool())
        .recovery(Recovery { enabled: recovers, ..Recovery::default() });
    let Some(client) = ends("connect", options.connect()).await else {
        return;
    };
    use_up(&client, &mut rng).await;
    // Whatever its outcome: it has one.
    let closed = tokio::time::timeout(DEADLINE + DEADLINE / 2, client.close()).await;
    assert!(closed.is_ok(), "close hangs");
}
