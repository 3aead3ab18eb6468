//! A miniature of Murano's conductor, in Rust: takes the place of `conductor.py` between the same API and the same agents.
//!
//! `cargo run --example conductor -- BROKER RUN NAME`

use std::{collections::BTreeMap, time::Duration};

use murano_messaging::{
    Client, Delivery, Error, ErrorKind, Message, Queue, Result,
    murano::{self, ExecutionPlan, ExecutionResult},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// So long a plan waits for its agent.
const AGENT_QUEUE_TTL: Duration = Duration::from_secs(5);
/// After that the plans that have no result are sent again, for they may have expired. Agents know them by their ids.
const PATIENCE: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Task {
    #[serde(rename = "ID")]
    id: String,
    environment: String,
    hosts: Vec<String>,
    reply_to: String,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [broker, run, _name] = &arguments[..] else {
        eprintln!("usage: conductor BROKER RUN NAME");
        std::process::exit(2);
    };
    if let Err(error) = listen(broker, run).await {
        eprintln!("conductor: {error}");
        std::process::exit(1);
    }
}

async fn listen(broker: &str, run: &str) -> Result<()> {
    let client = Client::connect(broker).await?;
    let tasks = format!("{run}-tasks");
    client.declare_queue(&Queue::new(tasks.as_str()).expires(Duration::from_secs(600))).await?;
    let tasks = client.consume(tasks).prefetch(2).start().await?;
    while let Some(delivery) = tasks.next().await {
        let (client, run, delivery) = (client.clone(), run.to_owned(), delivery?);
        tokio::spawn(async move {
            if let Err(error) = work(&client, &run, &delivery).await {
                eprintln!("a task was not settled: {error}");
            }
        });
    }
    Ok(())
}

/// Settles `delivery`, whatever comes of it: unsettled ones count in the prefetch, and two would be all.
async fn work(client: &Client, run: &str, delivery: &Delivery) -> Result<()> {
    let task: Task = match delivery.json() {
        Ok(task) => task,
        Err(error) => {
            println!("rejects what is no task: {error}");
            return delivery.reject();
        }
    };
    if let Err(error) = deploy(client, run, &task).await {
        println!("could not do {}: {error}", task.id);
        let failure = json!({"Kind": "failure", "Text": error.to_string()});
        match report(client, &task, "failure", failure).await.map_err(|error| error.kind()) {
            Ok(()) => {}
            // Nobody waits for it.
            Err(ErrorKind::Unroutable | ErrorKind::InvalidArgument) => return delivery.reject(),
            // It may go better when the broker, or another conductor, has recovered.
            Err(_) => return delivery.requeue(),
        }
    }
    // Until here the broker gives the task to another conductor if this one dies.
    delivery.ack()
}

async fn deploy(client: &Client, run: &str, task: &Task) -> Result<()> {
    let results_queue = murano::results_queue(&format!("{}-{run}", task.id));
    report(client, task, "started", json!({"Kind": "progress", "Text": "started"})).await?;
    client.declare_queue(&Queue::new(results_queue.as_str()).expires(Duration::from_secs(60))).await?;
    let deliveries = client.consume(results_queue.as_str()).prefetch(1).start().await?;
    let mut results: BTreeMap<String, Value> = BTreeMap::new();
    while results.len() < task.hosts.len() {
        send_plans(client, task, &results_queue, &results).await?;
        while results.len() < task.hosts.len() {
            let Ok(next) = tokio::time::timeout(PATIENCE, deliveries.next()).await else { break };
            let Some(received) = next.transpose()? else {
                return Err(Error::new(ErrorKind::Closed, "the results are not consumed any more"));
            };
            let result: ExecutionResult = received.json()?;
            received.ack()?;
            let host = result.other["Host"].as_str().unwrap_or_default().to_owned();
            if results.contains_key(&host) {
                continue;
            }
            let text = format!("{host} is ready");
            report(client, task, &host, json!({"Kind": "progress", "Text": text})).await?;
            results.insert(host, result.body);
        }
    }
    report(client, task, "result", json!({"Kind": "result", "Results": results})).await
}

async fn send_plans(
    client: &Client,
    task: &Task,
    results_queue: &str,
    results: &BTreeMap<String, Value>,
) -> Result<()> {
    for host in task.hosts.iter().filter(|host| !results.contains_key(*host)) {
        let mut plan =
            ExecutionPlan::new(format!("Deploy {}", task.id), format!("return 'deployed {}'", task.id));
        // The same whoever sends it, so that the agent sees that it did it already.
        plan.id = format!("{}-{host}", task.id);
        plan.other.insert("ReplyTo".into(), results_queue.into());
        let queue = murano::agent_queue(&task.environment, host);
        client.declare_queue(&Queue::new(queue.as_str()).expires(AGENT_QUEUE_TTL)).await?;
        client.publish("", &queue, plan.message()?).await?;
    }
    println!("sent the plans of {}", task.id);
    Ok(())
}

async fn report(client: &Client, task: &Task, what: &str, mut report: Value) -> Result<()> {
    report["TaskID"] = task.id.clone().into();
    let message = Message::json(&report)?.message_id(format!("{}/{what}", task.id));
    client.publish("", &task.reply_to, message).await
}
