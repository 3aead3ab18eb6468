//! A message that ends every connection that it is delivered on: what is between broker and client spoils its content header.

use murano_messaging::{Broker, Client, Error, ErrorKind, Message, Queue};

use crate::{faulty::Network, ledger::Ledger, plan::Plan};

/// The queue with the message, and its routing key.
const QUEUE: &str = "poison";

/// Follows the bytes to the client, and spoils the content headers of deliveries with the routing key.
#[derive(Default)]
pub struct Poison {
    /// What has passed of the frame that is passing.
    frame: Vec<u8>,
    /// The channel whose next content header is to be spoilt.
    channel: Option<[u8; 2]>,
}

impl Poison {
    /// Changes bytes on their way; returns how many headers that spoils.
    pub fn spoil(&mut self, bytes: &mut [u8]) -> usize {
        let mut spoilt = 0;
        for byte in bytes {
            // The class: basic is 60.
            let is_class = self.frame.len() == 8 && self.frame[0] == 2;
            if is_class && self.channel.is_some_and(|channel| self.frame[1..3] == channel) {
                *byte += 1;
                self.channel = None;
                spoilt += 1;
            }
            self.frame.push(*byte);
            if let Some(&[kind, c1, c2, s1, s2, s3, s4]) = self.frame.first_chunk::<7>()
                && self.frame.len() == 7 + u32::from_be_bytes([s1, s2, s3, s4]) as usize + 1
            {
                // basic.deliver and basic.get-ok.
                let delivers = kind == 1 && matches!(self.frame[7..11], [0, 60, 0, 60 | 71]);
                if delivers && self.frame.windows(QUEUE.len()).any(|part| part == QUEUE.as_bytes()) {
                    self.channel = Some([c1, c2]);
                }
                self.frame.clear();
            }
        }
        spoilt
    }
}

/// Consumes and gets the message, which ends the consumer and fails the get, and costs the client no more connections than
/// that. Returns how often.
pub async fn meet(client: Client, broker: Broker, network: Network, ledger: Ledger, plan: Plan) -> usize {
    let (mut met, mut attempts) = (0, 0);
    while client.declare_queue(&Queue::new(QUEUE)).await.is_err() {}
    while broker.queue_depth(QUEUE).is_none_or(|depth| depth.ready == 0) {
        drop(client.publish("", QUEUE, Message::text("poison").message_id("poison")).await);
    }
    let stored = broker.queue_depth(QUEUE).map(|depth| depth.ready + depth.unacked);
    while met < 3 {
        attempts += 1;
        met +=
            usize::from(if met == 1 { get(&client, &ledger).await } else { consume(&client, &ledger).await });
    }
    // A connection that ends for another reason may have brought it in vain.
    let most = 2 * attempts + 2 * plan.faults.len();
    if network.spoilt() > most {
        ledger.fail(format!(
            "a message that ends connections was delivered {} times, {most} at most",
            network.spoilt()
        ));
    }
    let left = broker.queue_depth(QUEUE).map(|depth| depth.ready + depth.unacked);
    if left != stored {
        ledger.fail(format!("of {stored:?} messages that end connections {left:?} are left"));
    }
    met
}

/// Whether the consumer ended over the message; otherwise it had no time.
async fn consume(client: &Client, ledger: &Ledger) -> bool {
    let consumer = match client.consume(QUEUE).start().await {
        Ok(consumer) => consumer,
        Err(error) => return is_blamed(&error, "ended the connection twice", ledger),
    };
    match consumer.next().await {
        Some(Err(error)) => return is_blamed(&error, "ended the connection twice", ledger),
        Some(Ok(_)) => ledger.fail("a message that ends connections was delivered".into()),
        None => ledger.fail("the consumer of a message that ends connections ended without an error".into()),
    }
    true
}

/// Whether the get failed over the message; otherwise it had no time.
async fn get(client: &Client, ledger: &Ledger) -> bool {
    match client.get_with_ack(QUEUE).await {
        Err(error) => is_blamed(&error, "ended the connection", ledger),
        Ok(delivery) => {
            // The broker may not know yet that the connection with the last delivery has ended.
            if delivery.is_some() {
                ledger.fail("a get brought a message that ends connections".into());
            }
            false
        }
    }
}

fn is_blamed(error: &Error, expected: &str, ledger: &Ledger) -> bool {
    if error.kind() == ErrorKind::Timeout {
        return false;
    }
    if !error.to_string().contains(expected) {
        ledger.fail(format!("the message that ends connections: {error}"));
    }
    true
}
