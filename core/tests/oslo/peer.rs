//! What the tests beside stock peers run (`ffi-tests/oslo`): a server, a client or a listener in Rust, told what to do by
//! lines of JSON.
//!
//! ```text
//! oslo-peer serve URL TOPIC SERVER [OPTION=VALUE...]    serves until its input ends
//! oslo-peer client URL TOPIC [OPTION=VALUE...]          does what each line of its input says, and prints the outcome
//! oslo-peer listen URL TOPIC [OPTION=VALUE...]          prints each notification until its input ends
//! ```

use std::{
    io::{BufRead, Write},
    time::Duration,
};

use murano_messaging::oslo::{
    Config, Context, Error, Failure, Target, Transport,
    notify::{Listener, Notifier, Priority},
    rpc::{Client, Endpoint, Server},
};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[derive(Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

/// One line of a client's input.
#[derive(Deserialize)]
struct Order {
    /// `call`, `cast`, `fanout` or `notify`.
    #[serde(rename = "do")]
    kind: String,
    /// The method, or the event type.
    method: String,
    #[serde(default)]
    args: Value,
    #[serde(default)]
    context: Context,
    server: Option<String>,
    version: Option<String>,
    namespace: Option<String>,
    timeout: Option<f64>,
    monitor: Option<u64>,
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("the test reads");
}

async fn transport(url: &str, options: &[String]) -> Result<Transport> {
    let mut config = Config::from_url(url)?;
    for option in options {
        let (name, value) = option.split_once('=').ok_or("an option is NAME=VALUE")?;
        config = config.option(name, value)?;
    }
    Ok(Transport::with_config(config).await?)
}

fn endpoint() -> Endpoint {
    Endpoint::new()
        .version("1.2")
        .method("add", |_: Context, args: Add| async move { Ok::<_, Failure>(args.a + args.b) })
        .method("echo", |context: Context, args: Value| async move {
            Ok::<_, Failure>(json!({"args": args, "context": context}))
        })
        .method("raise", |_: Context, _: Value| async {
            Err::<(), _>(Failure::new("ValueError", "no such value").args([json!("no such value"), json!(7)]))
        })
        .method("slow", |_: Context, args: Value| async move {
            tokio::time::sleep(Duration::from_secs_f64(args["seconds"].as_f64().unwrap_or(0.0))).await;
            Ok::<_, Failure>("done")
        })
        .method("tell", |context: Context, args: Value| async move {
            say(&json!({"args": args, "context": context}));
            Ok::<_, Failure>(())
        })
        .method("large", |_: Context, args: Value| async move {
            Ok::<_, Failure>("x".repeat(args["bytes"].as_u64().unwrap_or(0) as usize))
        })
}

async fn serve(transport: &Transport, topic: &str, server: &str) -> Result<()> {
    let target = Target::topic(topic).server(server);
    let server = Server::new(transport, target).endpoint(endpoint()).start().await?;
    say(&json!("ready"));
    // Until the test closes the input.
    tokio::task::spawn_blocking(|| std::io::stdin().lock().lines().for_each(drop)).await?;
    server.stop().await;
    Ok(())
}

async fn client(transport: &Transport, topic: &str) -> Result<()> {
    say(&json!("ready"));
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = lines.recv().await {
        let order: Order = serde_json::from_str(&line)?;
        say(&match obey(transport, topic, order).await {
            Ok(result) => json!({"result": result}),
            Err(Error::Remote(failure)) => json!({"failure": *failure}),
            Err(Error::Timeout { .. }) => json!({"error": "timeout"}),
            Err(error) => json!({"error": error.to_string()}),
        });
    }
    Ok(())
}

async fn obey(transport: &Transport, topic: &str, order: Order) -> murano_messaging::oslo::Result<Value> {
    if order.kind == "notify" {
        let notifier = Notifier::new(transport, "rust.peer").topics([topic]);
        notifier.notify(&order.context, Priority::Info, &order.method, order.args).await?;
        return Ok(Value::Null);
    }
    let mut target = Target::topic(topic).fanout(order.kind == "fanout");
    target.server = order.server;
    target.version = order.version;
    target.namespace = order.namespace;
    let mut client = Client::new(transport, target);
    if let Some(timeout) = order.timeout {
        client = client.timeout(Duration::from_secs_f64(timeout));
    }
    if let Some(monitor) = order.monitor {
        client = client.monitor(Duration::from_secs(monitor));
    }
    match order.kind.as_str() {
        "call" => client.call(&order.context, &order.method, order.args).await,
        _ => client.cast(&order.context, &order.method, order.args).await.map(|()| Value::Null),
    }
}

async fn listen(transport: &Transport, topic: &str) -> Result<()> {
    let mut listener = Listener::of(transport, [topic]).start().await?;
    say(&json!("ready"));
    std::thread::spawn(|| {
        std::io::stdin().lock().lines().for_each(drop);
        std::process::exit(0);
    });
    while let Some(notification) = listener.next().await {
        say(&json!({
            "publisher_id": notification.publisher_id,
            "event_type": notification.event_type,
            "priority": notification.priority.map(Priority::name),
            "payload": notification.payload,
            "context": notification.context,
        }));
        notification.ack()?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", url, topic, server, ..] => {
            serve(&transport(url, &arguments[4..]).await?, topic, server).await
        }
        ["client", url, topic, ..] => client(&transport(url, &arguments[3..]).await?, topic).await,
        ["listen", url, topic, ..] => listen(&transport(url, &arguments[3..]).await?, topic).await,
        _ => Err(
            "usage: oslo-peer serve URL TOPIC SERVER | client URL TOPIC | listen URL TOPIC [OPTION=VALUE...]"
                .into(),
        ),
    }
}
