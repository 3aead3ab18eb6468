//! Measures `RabbitMQ` clients against each other on one broker: CPU time of the client per message and rate.
//!
//! Every measurement is a child process of its own (this program again, or a small C program for rabbitmq-c), so that
//! CPU time, memory and threads are those of one client doing one thing. Rounds are interleaved between the peers, and
//! the median is reported.
//!
//! | module | what it is |
//! |---|---|
//! | `cli` | the options |
//! | `plan` | workloads and peers |
//! | `rounds` | the parent: prepares queues, starts the children, collects samples |
//! | `queues` | declaring, filling and deleting the queues |
//! | `meter` | CPU time, memory, threads |
//! | `report` | the table and the targets |
//! | `lapin_peer`, `amqprs_peer`, `rabbitmq_c`, `ours` | the peers |

use std::{env, process::ExitCode};

use plan::{Failure, Job, Peer, Work};
use tokio::runtime::Runtime;

mod amqprs_peer;
mod cli;
mod lapin_peer;
mod meter;
mod ours;
mod plan;
mod queues;
mod rabbitmq_c;
mod report;
mod rounds;

/// The first argument of a child process; the peer, the workload, the queue, the amount, the delivery mode and the size follow.
const CHILD: &str = "--child";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == CHILD => child(rest),
        _ => parent(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn parent(arguments: &[String]) -> Result<(), Failure> {
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{}", cli::USAGE);
        return Ok(());
    }
    let options = cli::Options::parse(arguments)?;
    let results = Runtime::new()?.block_on(rounds::run(&options))?;
    println!("{}", report::render(&options, &results));
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report::samples(&options, &results))?)?;
    }
    Ok(())
}

fn child(arguments: &[String]) -> Result<(), Failure> {
    let [peer, work, queue, amount, mode, body_bytes] = arguments else {
        return Err(
            "a child process takes a peer, a workload, a queue, an amount, a delivery mode and a size".into(),
        );
    };
    let job = Job {
        peer: Peer::from_word(peer).ok_or("unknown peer")?,
        work: Work::from_word(work).ok_or("unknown workload")?,
        uri: cli::broker()?,
        queue: queue.clone(),
        amount: amount.parse()?,
        persistent: *mode == plan::delivery_mode(true).to_string(),
        body_bytes: body_bytes.parse()?,
    };
    // Tokio's multi-threaded runtime with its defaults, and the work in a task: as `#[tokio::main]` services run.
    let sample = Runtime::new()?.block_on(async {
        match job.peer {
            Peer::Lapin => tokio::spawn(lapin_peer::run(job)).await?,
            Peer::Amqprs | Peer::AmqprsUnconfirmed => tokio::spawn(amqprs_peer::run(job)).await?,
            Peer::Ours => tokio::spawn(ours::run(job)).await?,
            Peer::RabbitmqC | Peer::RabbitmqCUnconfirmed => Err("rabbitmq-c has a program of its own".into()),
        }
    })?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}
