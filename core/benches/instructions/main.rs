//! Sends or receives a number of messages, for `scripts/instructions.sh` to count the instructions of.
//!
//! Client and peer share one thread and one seed, so that two runs execute the same instructions. The peer is a byte
//! stream that answers as soon as it is written to; it costs a few dozen instructions per message.

mod peer;

use std::{collections::VecDeque, error::Error, sync::Arc};

use murano_messaging::{Client, Confirmation, Message, Options, Publisher};

use peer::{PREFETCH, Peer};

const BODY: [u8; 256] = [b'x'; 256];

/// How many publishes are in flight at a time.
const WINDOW: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(work), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("usage: murano-instructions publish|untimed|wait|consume COUNT".into());
    };
    let count: usize = count.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(async {
        let options = Options::new().connector(Arc::new(Peer::new(count as u64))).seed(1);
        let client = options.connect().await?;
        match work.as_str() {
            "publish" => publish(client.publisher("", "queue"), count).await?,
            "untimed" => publish(client.publisher("", "queue").timeout(None), count).await?,
            "wait" => publish_and_wait(&client, count).await?,
            "consume" => consume(&client, count).await?,
            _ => return Err(format!("no such work: {work}").into()),
        }
        client.close().await?;
        Ok(())
    })
}

/// Publishes with many in flight, and waits for each confirm.
async fn publish(publisher: Publisher, count: usize) -> murano_messaging::Result<()> {
    let mut in_flight = VecDeque::<Confirmation>::with_capacity(WINDOW);
    for _ in 0..count {
        if in_flight.len() == WINDOW
            && let Some(oldest) = in_flight.pop_front()
        {
            oldest.await?;
        }
        in_flight.push_back(publisher.publish_deferred(Message::new(&BODY[..])).await?);
    }
    for confirmation in in_flight {
        confirmation.await?;
    }
    Ok(())
}

async fn publish_and_wait(client: &Client, count: usize) -> murano_messaging::Result<()> {
    let publisher = client.publisher("", "queue");
    for _ in 0..count {
        publisher.publish(Message::new(&BODY[..])).await?;
    }
    Ok(())
}

/// Consumes and acks each delivery.
async fn consume(client: &Client, count: usize) -> Result<(), Box<dyn Error>> {
    let consumer = client.consume("queue").tag("c").prefetch(PREFETCH).start().await?;
    for _ in 0..count {
        consumer.next().await.ok_or("the consumer ended")??.ack()?;
    }
    Ok(())
}
