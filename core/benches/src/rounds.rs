//! The parent process: for every round, workload and peer a fresh queue and a child process.

use std::{env, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::{
    CHILD,
    cli::Options,
    meter::Sample,
    plan::{Failure, Job, Peer, Work, delivery_mode},
    queues::Queues,
    rabbitmq_c,
};

/// A child process that takes longer is ended, and its measurement fails.
const CHILD_DEADLINE: Duration = Duration::from_secs(180);

/// What one peer did in one workload: a sample of each round, or why there is none.
pub type Outcome = Result<Vec<Sample>, String>;

/// Everything measured.
pub struct Results {
    /// By workload and peer, in the order of the report.
    pub outcomes: Vec<(Work, Peer, Outcome)>,
    /// The version of rabbitmq-c, where it is installed.
    pub rabbitmq_c: Option<String>,
}

impl Results {
    /// The samples of `peer` in `work`, where there are any.
    pub fn samples(&self, work: Work, peer: Peer) -> Option<&[Sample]> {
        let outcome = self.outcomes.iter().find(|row| (row.0, row.1) == (work, peer));
        outcome.and_then(|(_, _, outcome)| outcome.as_deref().ok())
    }
}

/// Measures what `options` ask for.
pub async fn run(options: &Options) -> Result<Results, Failure> {
    let queues = Queues::connect(options).await?;
    let c_program = rabbitmq_c::compile();
    let mut outcomes: Vec<(Work, Peer, Outcome)> = Vec::new();
    for work in &options.work {
        for peer in work.peers().iter().filter(|peer| options.wants(**peer)) {
            outcomes.push((*work, *peer, available(*peer, &c_program).map(|()| Vec::new())));
        }
    }
    for round in 0..options.rounds {
        for work in &options.work {
            // Memory does not depend on the load of the machine: once is enough.
            if *work == Work::Connections && round > 0 {
                continue;
            }
            let mut rows: Vec<_> = outcomes.iter_mut().filter(|row| row.0 == *work).collect();
            // Nobody is always the one after the same other.
            let count = rows.len();
            rows.rotate_left(if count == 0 { 0 } else { round % count });
            for (work, peer, outcome) in rows {
                let Ok(samples) = outcome else { continue };
                eprintln!("round {}/{}: {work}, {peer}", round + 1, options.rounds);
                let program = c_program.as_ref().ok();
                match measure(options, &queues, program, *work, *peer).await {
                    Ok(sample) => samples.push(sample),
                    Err(failure) => {
                        eprintln!("  {failure}");
                        *outcome = Err(format!("failed: {failure}"));
                    }
                }
            }
        }
    }
    Ok(Results { outcomes, rabbitmq_c: c_program.ok().map(|program| program.version) })
}

fn available(peer: Peer, c_program: &Result<rabbitmq_c::Program, String>) -> Result<(), String> {
    match peer {
        Peer::RabbitmqC | Peer::RabbitmqCUnconfirmed => c_program.as_ref().map(|_| ()).map_err(Clone::clone),
        _ => Ok(()),
    }
}

async fn measure(
    options: &Options,
    queues: &Queues,
    c_program: Option<&rabbitmq_c::Program>,
    work: Work,
    peer: Peer,
) -> Result<Sample, Failure> {
    let queue = queues.declare().await?;
    let job = Job {
        peer,
        work,
        uri: options.broker.clone(),
        queue: queue.clone(),
        amount: work.amount(peer, options.messages),
        persistent: options.persistent,
        body_bytes: options.body_bytes,
    };
    if work == Work::Consume {
        queues.fill(&queue, job.amount).await?;
    }
    let sample = start(&job, c_program).await;
    // A client that did not do the work must not be praised for its speed.
    let expected = match work {
        Work::Publish | Work::PublishWait => job.amount,
        Work::Consume | Work::Connections => 0,
    };
    let left = queues.delete(&queue, expected).await?;
    let sample = sample?;
    if left == expected {
        Ok(sample)
    } else {
        Err(format!("{left} messages in the queue afterwards instead of {expected}").into())
    }
}

async fn start(job: &Job, c_program: Option<&rabbitmq_c::Program>) -> Result<Sample, Failure> {
    let mut command = match (job.peer, c_program) {
        (Peer::RabbitmqC, Some(program)) => {
            let mut command = Command::new(&program.path);
            command.arg(job.work.word());
            command
        }
        (Peer::RabbitmqCUnconfirmed, Some(program)) => {
            let mut command = Command::new(&program.path);
            command.arg("publish-unconfirmed");
            command
        }
        _ => {
            let mut command = Command::new(env::current_exe()?);
            command.args([CHILD, job.peer.word(), job.work.word()]);
            command
        }
    };
    command
        .args([&job.queue, &job.amount.to_string(), &delivery_mode(job.persistent).to_string()])
        .arg(job.body_bytes.to_string())
        .env("BROKER", &job.uri)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = timeout(CHILD_DEADLINE, command.spawn()?.wait_with_output())
        .await
        .map_err(|_| format!("no result within {} s", CHILD_DEADLINE.as_secs()))??;
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout)?)
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("no message");
        Err(format!("{}: {last}", output.status).into())
    }
}
