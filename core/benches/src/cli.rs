//! The options of the benchmark.

use std::{env, path::PathBuf};

use crate::plan::{BODY_BYTES, Failure, Peer, Work};

/// What `--help` prints.
pub const USAGE: &str = "\
Measures RabbitMQ clients against each other on the broker at $BROKER (`make bench` starts one and sets it).

usage: murano-bench [--only CLIENT,...] [--work WORKLOAD,...] [--messages N] [--rounds N]
                    [--transient] [--quorum] [--size BYTES] [--json FILE]

  --only      ours, lapin, amqprs, rabbitmq-c; all of them by default
  --work      publish, publish-wait, consume, connections; all of them by default
  --messages  messages of one measurement (publish-wait: a fifth); $MESSAGES or 30000 by default
  --rounds    measurements of each pair, the median of which is reported; 3 by default
  --transient messages are not persistent: no disk between the publish and its confirm
  --quorum    quorum queues instead of classic ones
  --size      bytes of each body; 256 by default
  --json      writes every sample to FILE as well, for docs/benchmarks.md";

/// What to measure.
#[derive(Debug)]
pub struct Options {
    /// The broker's URI.
    pub broker: String,
    /// The clients to measure; empty for all.
    pub only: Vec<String>,
    /// The workloads to measure.
    pub work: Vec<Work>,
    /// Messages of one measurement.
    pub messages: u64,
    /// Whether messages are persistent.
    pub persistent: bool,
    /// Bytes in every message body.
    pub body_bytes: usize,
    /// Whether queues are quorum queues.
    pub quorum: bool,
    /// Measurements of each pair.
    pub rounds: usize,
    /// Where every sample is written to.
    pub json: Option<PathBuf>,
}

impl Options {
    /// Reads the command line and the environment.
    pub fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self {
            broker: broker()?,
            only: Vec::new(),
            work: Work::ALL.to_vec(),
            messages: match env::var("MESSAGES") {
                Ok(messages) => message_count("MESSAGES", &messages)?,
                Err(_) => 30_000,
            },
            persistent: true,
            body_bytes: BODY_BYTES,
            quorum: false,
            rounds: 3,
            json: None,
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--transient" => {
                    options.persistent = false;
                    continue;
                }
                "--quorum" => {
                    options.quorum = true;
                    continue;
                }
                _ => {}
            }
            let value = arguments.next().ok_or_else(|| format!("{name}: no value\n\n{USAGE}"))?;
            match name.as_str() {
                "--only" => options.only = value.split(',').map(client).collect::<Result<_, _>>()?,
                "--work" => options.work = value.split(',').map(workload).collect::<Result<_, _>>()?,
                "--size" => options.body_bytes = value.parse().map_err(|_| "--size: a number of bytes")?,
                "--json" => options.json = Some(value.into()),
                "--messages" => options.messages = message_count(name, value)?,
                "--rounds" => {
                    options.rounds = value
                        .parse()
                        .ok()
                        .filter(|rounds| *rounds > 0)
                        .ok_or("--rounds: a number of at least 1")?;
                }
                _ => return Err(format!("unknown option {name}\n\n{USAGE}").into()),
            }
        }
        Ok(options)
    }

    /// Whether `peer` is asked for.
    pub fn wants(&self, peer: Peer) -> bool {
        self.only.is_empty() || self.only.iter().any(|client| client == peer.client())
    }
}

/// The broker's URI, from the environment.
pub fn broker() -> Result<String, Failure> {
    env::var("BROKER").map_err(|_| {
        "BROKER is not set: `make bench` starts a broker, or set BROKER=amqp://user:password@host".into()
    })
}

fn client(word: &str) -> Result<String, Failure> {
    Peer::from_word(word)
        .filter(|peer| peer.client() == word)
        .map(|_| word.to_owned())
        .ok_or_else(|| format!("--only: unknown client {word}\n\n{USAGE}").into())
}

fn workload(word: &str) -> Result<Work, Failure> {
    Work::from_word(word).ok_or_else(|| format!("--work: unknown workload {word}\n\n{USAGE}").into())
}

/// Ours spends one message on setting up, and publish-wait gets a fifth of them.
fn message_count(name: &str, value: &str) -> Result<u64, Failure> {
    value
        .parse()
        .ok()
        .filter(|messages| *messages >= 10)
        .ok_or_else(|| format!("{name}: a number of at least 10, not {value}").into())
}
