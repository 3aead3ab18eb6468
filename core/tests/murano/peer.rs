//! A miniature engine or agent, for the tests that have old and new components talk to each other.
//!
//! ```text
//! murano-peer engine|agent URI QUEUE RESULTS COUNT
//! murano-peer sign URI QUEUE PRIVATE_KEY_FILE
//! murano-peer verify URI QUEUE PUBLIC_KEY_FILE
//! ```

use std::time::Duration;

use murano_messaging::{
    Client, Consumer, Delivery, Queue,
    murano::{self, ExecutionPlan, ExecutionResult, SigningKey, VerifyingKey},
};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(30);

/// The queue as the other components declare it.
fn queue(name: &str) -> Queue {
    Queue::new(name).expires(Duration::from_secs(60)).argument("x-ha-policy", "all")
}

fn plan(n: u64) -> ExecutionPlan {
    ExecutionPlan {
        id: format!("plan-{n}"),
        stamp: n.into(),
        ..ExecutionPlan::new(format!("naïve \u{2028} {n}"), "return args.n")
            .parameter("n", n)
            .parameter("nested", json!([1, 2.5, null, true, {"a": "b"}]))
    }
}

async fn next(consumer: &Consumer) -> Result<Delivery> {
    Ok(tokio::time::timeout(PATIENCE, consumer.next()).await?.ok_or("the consumer ended")??)
}

async fn engine(client: &Client, name: &str, results: &str, count: u64) -> Result<()> {
    for name in [results, name] {
        client.declare_queue(&queue(name)).await?;
    }
    for n in 0..count {
        client.publish("", name, plan(n).message()?).await?;
    }
    println!("sent");
    let consumer = client.consume(results).prefetch(1).start().await?;
    for _ in 0..count {
        let delivery = next(&consumer).await?;
        let document: Value = delivery.json()?;
        let result = ExecutionResult::from_delivery(&delivery)?;
        assert!(result.is_success(), "{result:?}");
        println!("{}", json!([murano::message_id(&delivery), document]));
        delivery.ack()?;
    }
    Ok(())
}

async fn agent(client: &Client, name: &str, results: &str, count: u64) -> Result<()> {
    let consumer = client.consume(name).prefetch(1).start().await?;
    for n in 0..count {
        let delivery = next(&consumer).await?;
        let given = ExecutionPlan::from_delivery(&delivery)?;
        assert_eq!(given, plan(n));
        println!("{}", json!(murano::message_id(&delivery)));
        let result = ExecutionResult::done(&given, given.parameters["n"].clone());
        client.publish("", results, result.message()?).await?;
        delivery.ack()?;
    }
    Ok(())
}

async fn sign(client: &Client, queue: &str, key: &str) -> Result<()> {
    let key = SigningKey::from_pem(std::fs::read(key)?)?;
    client.publish("", queue, plan(1).signed_message(&key, queue)?).await?;
    Ok(())
}

async fn verify(client: &Client, queue: &str, key: &str) -> Result<()> {
    let key = VerifyingKey::from_pem(std::fs::read(key)?)?;
    let consumer = client.consume(queue).prefetch(1).start().await?;
    let delivery = next(&consumer).await?;
    key.verify_delivery(queue, &delivery)?;
    assert!(key.verify_delivery("another", &delivery).is_err());
    println!("{}", ExecutionPlan::from_delivery(&delivery)?.id);
    delivery.ack()?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [role, uri, queue, rest @ ..] = arguments.as_slice() else {
        return Err("see the head of the file".into());
    };
    let client = Client::connect(uri).await?;
    match (*role, rest) {
        ("engine", [results, count]) => engine(&client, queue, results, count.parse()?).await?,
        ("agent", [results, count]) => agent(&client, queue, results, count.parse()?).await?,
        ("sign", [key]) => sign(&client, queue, key).await?,
        ("verify", [key]) => verify(&client, queue, key).await?,
        _ => return Err("see the head of the file".into()),
    }
    client.close().await?;
    Ok(())
}
