//! What the applications of a run do: publish, leave early, consume and settle.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use murano_messaging::{Client, Consumer, ErrorKind, Message, Options, Recovery};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    ledger::{Ledger, Target},
    plan::Plan,
};

/// Publishes in turn, some waiting for the confirm and some not. Returns the tasks that wait for the rest.
pub async fn publish(
    publisher: u64,
    client: Client,
    ledger: Ledger,
    plan: Plan,
    queues: Vec<String>,
    mut rng: fastrand::Rng,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut waiting = Vec::new();
    for sequence in 0..plan.messages {
        let id = format!("p{publisher}-{sequence}");
        let (target, queue) = match rng.u32(0..20) {
            0 => (Target::Nowhere, "nowhere"),
            1 => (Target::Full, "full"),
            _ => (Target::Queue, queues[rng.usize(0..queues.len())].as_str()),
        };
        let message = Message::new(vec![b'x'; rng.usize(0..=plan.body)]).message_id(id.as_str());
        let handle = client.publisher("", queue);
        ledger.publish_begins(&id, target);
        if rng.bool() {
            let result = handle.publish(message).await;
            ledger.publish_ends(&id, &result);
        } else {
            match handle.publish_deferred(message).await {
                Err(error) => ledger.publish_ends(&id, &Err(error)),
                Ok(mut confirmation) => {
                    let ledger = ledger.clone();
                    let patience = (rng.u32(0..10) == 0).then(|| plan.pause.mul_f64(rng.f64()));
                    waiting.push(tokio::spawn(async move {
                        if let Some(patience) = patience
                            && let Ok(result) = timeout(patience, &mut confirmation).await
                        {
                            return ledger.publish_ends(&id, &result);
                        }
                        if patience.is_some() {
                            confirmation.cancel();
                        }
                        ledger.publish_ends(&id, &confirmation.await);
                    }));
                }
            }
        }
        let in_flight = client.stats().in_flight;
        if in_flight as usize > plan.window {
            ledger.fail(format!("{in_flight} publishes in flight, window {}", plan.window));
        }
        if rng.u32(0..4) == 0 {
            sleep(plan.pause.mul_f64(rng.f64())).await;
        }
    }
    waiting
}

/// A client that gives up reconnecting soon, and is closed before it has all its confirms.
pub async fn leave(
    leaver: u64,
    options: Options,
    ledger: Ledger,
    plan: Plan,
    queue: String,
    mut rng: fastrand::Rng,
) {
    sleep(plan.pause.mul_f64(rng.f64() * 10.0)).await;
    let recovery = Recovery { max_attempts: Some(rng.u32(1..4)), ..Recovery::default() };
    let Ok(client) = options.recovery(recovery).connect().await else { return };
    let publisher = client.publisher("", queue.as_str());
    let mut waiting = Vec::new();
    for sequence in 0..rng.u64(1..20) {
        let id = format!("l{leaver}-{sequence}");
        ledger.publish_begins(&id, Target::Queue);
        let message = Message::text("x").message_id(id.as_str());
        match publisher.publish_deferred(message).await {
            Err(error) => ledger.publish_ends(&id, &Err(error)),
            Ok(confirmation) => {
                let ledger = ledger.clone();
                waiting.push(tokio::spawn(async move {
                    let result = confirmation.await;
                    ledger.publish_ends(&id, &result);
                }));
            }
        }
        if rng.u32(0..4) == 0 {
            sleep(plan.pause.mul_f64(rng.f64())).await;
        }
    }
    let patience = Duration::from_millis(rng.u64(0..500));
    let began = Instant::now();
    // It may take longer than that.
    drop(client.drain(patience).await);
    ledger.took("drain", began.elapsed());
    for confirm in waiting {
        confirm.await.unwrap();
    }
}

/// Takes deliveries and settles them this way and that, until all is done.
pub async fn consume(
    consumer: Consumer,
    client: Client,
    ledger: Ledger,
    mut rng: fastrand::Rng,
    done: Arc<AtomicBool>,
) {
    let mut kept = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let next = timeout(Duration::from_millis(rng.u64(10..500)), consumer.next()).await;
        let delivery = match next {
            // Nothing came: what was kept is settled, or the rest would wait for ever behind the prefetch.
            Err(_) => {
                for delivery in std::mem::take(&mut kept) {
                    ack(&delivery, &ledger);
                }
                if rng.u32(0..20) == 0 {
                    set_prefetch(&consumer, &ledger, &mut rng).await;
                }
                continue;
            }
            Ok(None) => return ledger.fail("a consumer ended".into()),
            Ok(Some(Err(error))) => return ledger.fail(format!("a consumer ended: {error}")),
            Ok(Some(Ok(delivery))) => delivery,
        };
        ledger.received(delivery.message_id().unwrap_or_default(), delivery.redelivered());
        match rng.u32(0..20) {
            0..=13 => ack(&delivery, &ledger),
            14..=17 => kept.push(delivery),
            18 => {
                if let Err(error) = delivery.requeue() {
                    ledger.fail(format!("requeue: {error}"));
                }
            }
            _ => {
                sleep(Duration::from_millis(rng.u64(0..300))).await;
                ack(&delivery, &ledger);
            }
        }
    }
    for delivery in kept {
        ack(&delivery, &ledger);
    }
    let began = Instant::now();
    if let Err(error) = consumer.cancel().await {
        ledger.fail(format!("cancel: {error}"));
    }
    ledger.took("cancel", began.elapsed());
    drop(consumer);
    drop(client);
}

fn ack(delivery: &murano_messaging::Delivery, ledger: &Ledger) {
    ledger.acks(delivery.message_id().unwrap_or_default());
    if let Err(error) = delivery.ack() {
        ledger.fail(format!("ack: {error}"));
    }
}

async fn set_prefetch(consumer: &Consumer, ledger: &Ledger, rng: &mut fastrand::Rng) {
    let began = Instant::now();
    let result = consumer.set_prefetch(rng.u16(1..50)).await;
    ledger.took("set_prefetch", began.elapsed());
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Timeout => {}
        Err(error) => ledger.fail(format!("set_prefetch: {error}")),
    }
}
