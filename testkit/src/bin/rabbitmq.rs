//! Starts a private `RabbitMQ` node and runs a command against it, or waits for Ctrl-C.
//!
//! `rabbitmq exec COMMAND...` gives the command the node's URI as `MURANO_TEST_AMQP` and, unless it is set, `BROKER`.

use std::process::ExitCode;

use murano_testkit::Node;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let program = match arguments.next().as_deref() {
        None => None,
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

fn usage() -> ExitCode {
    eprintln!("usage: rabbitmq [exec COMMAND [ARGUMENT...]]");
    ExitCode::from(2)
}
