//! A service that answers requests, several at a time. SIGTERM and Ctrl-C drain it: requests that it has begun are
//! answered and acked, the others stay in the queue for the next instance.
//!
//! `cargo run -p murano-messaging --example service -- amqp://guest:guest@localhost squares`

use std::time::Duration;

use murano_messaging::{Client, Delivery, ErrorKind, Message, Queue, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Requests that are handled at the same time: the broker delivers no more before one of them is acked.
const AT_ONCE: u16 = 10;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_else(|| "amqp://localhost".into());
    let queue = arguments.next().unwrap_or_else(|| "squares".into());

    let client = Client::connect(&uri).await?;
    client.declare_queue(&Queue::new(queue.as_str()).expires(Duration::from_secs(600))).await?;
    let requests = client.consume(queue).prefetch(AT_ONCE).start().await?;
    let drained = tokio::spawn(drain_when_told(client.clone()));
    println!("ready");

    // Ends when the drain begins, or with an error when the queue is deleted.
    while let Some(request) = requests.next().await {
        tokio::spawn(serve(client.clone(), request?));
    }
    drained.await.expect("the task that drains does not panic")?;
    println!("drained");
    Ok(())
}

async fn drain_when_told(client: Client) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    // Stops consuming, waits until what was delivered is acked, and closes.
    client.drain(Duration::from_secs(30)).await
}

async fn serve(client: Client, request: Delivery) {
    let settled = match answer(&client, &request).await {
        Ok(()) => request.ack(),
        // Dead-lettered, if the queue has a dead-letter exchange: trying again would not help.
        Err(error) if error.kind() == ErrorKind::Json => request.reject(),
        Err(error) => {
            eprintln!("request {}: {error}", request.message_id().unwrap_or_default());
            request.requeue()
        }
    };
    if let Err(error) = settled {
        eprintln!("settling a request: {error}");
    }
}

/// Returns when the broker has confirmed the answer. The request is acked after that, so a crash in between repeats the
/// request instead of losing its answer.
async fn answer(client: &Client, request: &Delivery) -> Result<()> {
    let number: u32 = request.json()?;
    let Some(reply_to) = request.properties().reply_to() else { return Ok(()) };
    let mut message = Message::json(&(u64::from(number) * u64::from(number)))?;
    if let Some(id) = request.properties().correlation_id() {
        message = message.correlation_id(id.as_str());
    }
    match client.publish("", reply_to.as_str(), message).await {
        // The client that asked is gone.
        Err(error) if error.kind() == ErrorKind::Unroutable => Ok(()),
        result => result,
    }
}
