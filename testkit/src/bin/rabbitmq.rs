//! Starts a private `RabbitMQ` node and runs a command against it, or waits for Ctrl-C.
//!
//! `rabbitmq exec COMMAND...` gives the command the node's URI as `MURANO_TEST_AMQP` and, unless it is set, `BROKER`.
//! `rabbitmq control` reads from its input what to do with the node (`stop`, `kill`, `start`, or `ctl` with arguments for
//! `rabbitmqctl`, a tab before each) and says `done` after each; it ends with its input. Its first line is the node's URI;
//! with `control tls`, followed by that over TLS and the paths of the CA, the client certificate and its key, a tab before each.

use std::process::ExitCode;

use murano_testkit::{Node, NodeBuilder};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let program = match arguments.next().as_deref() {
        None => None,
        Some("control") => {
            return match arguments.next().as_deref() {
                None => control(Node::builder()).await,
                Some("tls") => control(Node::builder().tls()).await,
                Some(_) => usage(),
            };
        }
        Some("exec") => match arguments.next() {
            Some(program) => Some(program),
            None => return usage(),
        },
        Some(_) => return usage(),
    };
    let node = Node::start().await;
    let Some(program) = program else {
        println!("{}", node.uri());
        // An error means that there is no Ctrl-C to wait for.
        let _ = tokio::signal::ctrl_c().await;
        return ExitCode::SUCCESS;
    };
    let mut command = tokio::process::Command::new(&program);
    command.args(arguments).env("MURANO_TEST_AMQP", node.uri()).kill_on_drop(true);
    if std::env::var_os("BROKER").is_none() {
        command.env("BROKER", node.uri());
    }
    let status = tokio::select! {
        status = command.status() => status,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match status {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::from(127)
        }
    }
}

async fn control(builder: NodeBuilder) -> ExitCode {
    let mut node = builder.start().await;
    match node.tls() {
        None => println!("{}", node.uri()),
        Some((uri, certs)) => {
            let [ca, client, key] = [&certs.ca, &certs.client, &certs.client_key].map(|path| path.display());
            println!("{}\t{uri}\t{ca}\t{client}\t{key}", node.uri());
        }
    }
    loop {
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
        let Ok(Some(Ok(line))) = line.await else { return ExitCode::SUCCESS };
        match line.trim() {
            "stop" => node.stop().await,
            "kill" => node.kill(),
            "start" => node.start_again(),
            other => {
                let Some(arguments) = other.strip_prefix("ctl\t") else { return usage() };
                let arguments: Vec<&str> = arguments.split('\t').collect();
                match node.ctl(&arguments).await {
                    Ok(printed) => print!("{printed}"),
                    Err(error) => {
                        eprintln!("{error}");
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
        println!("done");
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: rabbitmq [control [tls] | exec COMMAND [ARGUMENT...]]");
    ExitCode::from(2)
}
