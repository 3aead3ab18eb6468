//! Operations on queues, exchanges and bindings beside the messages; some of them end the connection.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use murano_messaging::{Client, ErrorKind, Queue};
use tokio::time::{Instant, sleep};

use crate::ledger::Ledger;

/// The queue over whose declaration the broker ends the connection.
pub const ENDING: &str = "ending";

/// Declares a queue over which the broker ends the connection, and something else at the same time. Returns whether the
/// declaration was refused; otherwise it had no time.
async fn end_the_connection(client: &Client, ledger: &Ledger) -> bool {
    let began = Instant::now();
    let ending = Queue::new(ENDING);
    let (ended, other) = tokio::join!(client.declare_queue(&ending), client.queue_info("full"));
    ledger.took("the operation that ends the connection", began.elapsed());
    if let Err(error) = other
        && error.kind() != ErrorKind::Timeout
    {
        ledger.fail(format!("look up beside the operation that ends the connection: {error}"));
    }
    match ended {
        Ok(_) => ledger.fail("the operation that ends the connection succeeded".into()),
        Err(error) if error.kind() == ErrorKind::Timeout => {}
        Err(error) if error.reply_code() == Some(541) && error.outcome_unknown() => return true,
        Err(error) => ledger.fail(format!("the operation that ends the connection: {error}")),
    }
    false
}

/// Operations of all kinds, which may fail for want of time and for nothing else; some end the connection. Returns how many
/// of those were refused.
pub async fn churn(
    client: Client,
    ledger: Ledger,
    ending: bool,
    mut rng: fastrand::Rng,
    done: Arc<AtomicBool>,
) -> usize {
    async fn check<T>(
        what: &str,
        ledger: &Ledger,
        operation: impl Future<Output = murano_messaging::Result<T>>,
    ) -> Option<T> {
        let began = Instant::now();
        let result = operation.await;
        ledger.took(what, began.elapsed());
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                ledger.note(&format!("{what}: {:?}", error.kind()));
                if error.kind() != ErrorKind::Timeout {
                    ledger.fail(format!("{what}: {error}"));
                }
                None
            }
        }
    }
    let (mut number, mut ended) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        number += 1;
        if ending && ended < 2 && rng.u32(0..4) == 0 {
            ended += usize::from(end_the_connection(&client, &ledger).await);
        }
        let name = format!("churn-{number}");
        let exchange = murano_messaging::Exchange::fanout(format!("x-{number}"));
        let binding = murano_messaging::Binding::queue(name.as_str(), exchange_name(number).as_str());
        // What timed out may have happened or not: then nothing can be said of it.
        let queue =
            check("declare", &ledger, client.declare_queue(&Queue::new(name.as_str()))).await.is_some();
        let other = check("declare exchange", &ledger, client.declare_exchange(&exchange)).await.is_some();
        if queue {
            check("look up", &ledger, client.queue_info(&name)).await;
        }
        if queue && other {
            check("check exchange", &ledger, client.check_exchange(&exchange_name(number))).await;
            check("bind", &ledger, client.bind(&binding)).await;
        }
        sleep(Duration::from_millis(rng.u64(0..500))).await;
        if queue {
            check("get", &ledger, client.get_no_ack(&name)).await;
        }
        check("delete", &ledger, client.delete_queue(&name)).await;
        check("delete exchange", &ledger, client.delete_exchange(&exchange_name(number))).await;
    }
    ended
}

fn exchange_name(number: u32) -> String {
    format!("x-{number}")
}
