//! The report: one Markdown table of the work, one of idle connections, and the targets.

use std::{fmt::Write, thread};

use crate::{
    cli::Options,
    meter::Sample,
    plan::{Peer, Work},
    rounds::Results,
};

/// The versions that are compiled in.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// Renders everything that was measured.
pub fn render(options: &Options, results: &Results) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!(
        "{}-byte bodies, {}, durable {} queue; {} messages ({} where each confirm is waited \
         for); median of {} rounds (lowest–highest); {cores} cores, shared with the broker.\n\n",
        options.body_bytes,
        if options.persistent { "persistent" } else { "transient" },
        if options.quorum { "quorum" } else { "classic" },
        options.messages,
        Work::PublishWait.amount(Peer::Ours, options.messages),
        options.rounds,
    );
    work_table(&mut text, results);
    connection_table(&mut text, results);
    text.push_str("Targets:\n\n");
    for target in targets(results) {
        let _ = writeln!(text, "- {target}");
    }
    text
}

/// Every sample, for `python/benches/page.py`.
pub fn samples(options: &Options, results: &Results) -> serde_json::Value {
    let rows = results.outcomes.iter().map(|(work, peer, outcome)| {
        let (samples, failure) = match outcome {
            Ok(samples) => (samples.as_slice(), None),
            Err(reason) => (&[][..], Some(reason)),
        };
        serde_json::json!({
            "work": work.word(),
            "title": work.title(),
            "peer": peer.word(),
            "label": label(results, *peer),
            "samples": samples,
            "failure": failure,
        })
    });
    serde_json::json!({
        "body_bytes": options.body_bytes,
        "quorum": options.quorum,
        "messages": options.messages,
        "persistent": options.persistent,
        "rounds": options.rounds,
        "cores": thread::available_parallelism().map_or(1, usize::from),
        "targets": targets(results),
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn work_table(text: &mut String, results: &Results) {
    text.push_str(
        "| work | peer | CPU µs/message | messages/s | ratio to ours: CPU, rate |\n|---|---|---:|---:|---|\n",
    );
    for (work, peer, outcome) in results.outcomes.iter().filter(|row| row.0 != Work::Connections) {
        let _ = write!(text, "| {} | {} | ", work.title(), label(results, *peer));
        let _ = match outcome {
            Err(reason) => writeln!(text, "{} | – | – |", cell(reason)),
            Ok(samples) => {
                let cpu = Spread::of(samples, Sample::cpu_us_per_message);
                let rate = Spread::of(samples, Sample::rate);
                let ratio = results.samples(*work, Peer::Ours).map_or("–".to_owned(), |ours| {
                    format!(
                        "{:.2}, {:.2}",
                        cpu.median / Spread::of(ours, Sample::cpu_us_per_message).median,
                        rate.median / Spread::of(ours, Sample::rate).median
                    )
                });
                writeln!(
                    text,
                    "{:.2} ({:.2}–{:.2}) | {:.0} | {ratio} |",
                    cpu.median, cpu.lowest, cpu.highest, rate.median
                )
            }
        };
    }
    text.push('\n');
}

fn connection_table(text: &mut String, results: &Results) {
    let mut rows = results.outcomes.iter().filter(|row| row.0 == Work::Connections).peekable();
    if rows.peek().is_none() {
        return;
    }
    text.push_str("| idle connections | peer | KiB each | threads they added |\n|---:|---|---:|---:|\n");
    for (_, peer, outcome) in rows {
        let peer = label(results, *peer);
        let _ = match outcome {
            Err(reason) => writeln!(text, "| – | {peer} | {} | – |", cell(reason)),
            Ok(samples) => samples.iter().try_for_each(|sample| {
                let kib = sample.kib_per_connection();
                writeln!(text, "| {} | {peer} | {kib:.0} | {} |", sample.messages, sample.threads)
            }),
        };
    }
    text.push('\n');
}

/// A line for each target of the Rust client in DESIGN.md section 5.
fn targets(results: &Results) -> Vec<String> {
    let cpu = |work, peer| median(results, work, peer, Sample::cpu_us_per_message);
    let rate = |work, peer| median(results, work, peer, Sample::rate);
    vec![
        compare(
            "publish, confirmed, windowed: CPU ≤ 1/5 of lapin",
            cpu(Work::Publish, Peer::Ours),
            cpu(Work::Publish, Peer::Lapin),
            |ratio| ratio <= 0.2,
        ),
        compare(
            "publish, confirmed, windowed: CPU ≤ 1.5 × amqprs unconfirmed",
            cpu(Work::Publish, Peer::Ours),
            cpu(Work::Publish, Peer::AmqprsUnconfirmed),
            |ratio| ratio <= 1.5,
        ),
        compare(
            "consume and ack each: CPU ≤ rabbitmq-c",
            cpu(Work::Consume, Peer::Ours),
            cpu(Work::Consume, Peer::RabbitmqC),
            |ratio| ratio <= 1.0,
        ),
        compare(
            "publish and wait for each: rate ≥ 0.9 × rabbitmq-c",
            rate(Work::PublishWait, Peer::Ours),
            rate(Work::PublishWait, Peer::RabbitmqC),
            |ratio| ratio >= 0.9,
        ),
        compare(
            "idle connections: ≤ 200 KiB each",
            median(results, Work::Connections, Peer::Ours, Sample::kib_per_connection),
            Some(200.0),
            |ratio| ratio <= 1.0,
        ),
        verdict(
            "idle connections: no thread each",
            results
                .samples(Work::Connections, Peer::Ours)
                .and_then(<[Sample]>::first)
                .map(|sample| (sample.threads == 0, format!("{} threads added", sample.threads))),
        ),
    ]
}

fn compare(target: &str, ours: Option<f64>, peer: Option<f64>, reached: impl Fn(f64) -> bool) -> String {
    let outcome = ours.zip(peer).map(|(ours, peer)| {
        (reached(ours / peer), format!("{ours:.2} to {peer:.2}, ratio {:.2}", ours / peer))
    });
    verdict(target, outcome)
}

fn verdict(target: &str, outcome: Option<(bool, String)>) -> String {
    match outcome {
        Some((true, figures)) => format!("reached: {target} ({figures})"),
        Some((false, figures)) => format!("NOT reached: {target} ({figures})"),
        None => format!("not measured in this run: {target}"),
    }
}

fn median(results: &Results, work: Work, peer: Peer, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
    results.samples(work, peer).map(|samples| Spread::of(samples, figure).median)
}

struct Spread {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Spread {
    fn of(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> Self {
        let mut figures: Vec<f64> = samples.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        Self { lowest: at(0), median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), highest: at(last) }
    }
}

fn label(results: &Results, peer: Peer) -> String {
    match peer {
        Peer::Ours => "ours".to_owned(),
        Peer::Lapin => format!("lapin {}", locked_version("lapin")),
        Peer::Amqprs => format!("amqprs {}", locked_version("amqprs")),
        Peer::AmqprsUnconfirmed => format!("amqprs {}, unconfirmed", locked_version("amqprs")),
        Peer::RabbitmqC | Peer::RabbitmqCUnconfirmed => {
            let version = results.rabbitmq_c.as_deref().map(|version| format!(" {version}"));
            let confirms = if peer.is_unconfirmed() { ", unconfirmed" } else { "" };
            format!("rabbitmq-c{}{confirms}", version.unwrap_or_default())
        }
    }
}

fn locked_version(package: &str) -> &'static str {
    LOCK.split("[[package]]")
        .find(|entry| entry.contains(&format!("\nname = \"{package}\"\n")))
        .and_then(|entry| entry.split_once("\nversion = \""))
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(version, _)| version)
}

/// `text` fit for one cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "/")
}
