//! One message there and back.
//!
//! `cargo run --example hello -- amqp://guest:guest@localhost`

use std::time::Duration;

use murano_messaging::{Client, Message, Queue, Result};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let uri = std::env::args().nth(1).unwrap_or_else(|| "amqp://localhost".into());
    let client = Client::connect(&uri).await?;

    // Expires when it has been unused for a minute.
    let queue = client.declare_queue(&Queue::new("hello").expires(Duration::from_secs(60))).await?;
    client.publish("", &queue.name, Message::text("Hello, world")).await?;

    if let Some(delivery) = client.get_with_ack(&queue.name).await? {
        println!("{}", String::from_utf8_lossy(delivery.body()));
        delivery.ack()?;
    }
    client.delete_queue(&queue.name).await?;
    client.close().await
}
