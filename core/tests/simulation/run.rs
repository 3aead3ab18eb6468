//! One run: the plan of a seed, carried out.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use murano_messaging::{Broker, Client, Credentials, ErrorKind, Event, Options, Overflow, Queue, Recovery};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    churn::{ENDING, churn},
    faulty::Network,
    ledger::{Ledger, Outcome},
    plan::{Fault, Plan},
    poison,
    workload::{consume, leave, publish},
};

/// What a run comes to.
pub struct RunOutcome {
    pub trace: Vec<String>,
    pub violations: Vec<String>,
    pub coverage: Coverage,
}

/// What happened in some runs, so that a test can tell whether they tested anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coverage {
    pub confirmed: usize,
    pub unroutable: usize,
    pub nacked: usize,
    pub timed_out: usize,
    pub blocked: usize,
    pub duplicates: usize,
    pub redeliveries: usize,
    pub reconnects: usize,
    pub republished: usize,
    /// Operations over which the broker ended the connection.
    pub ended: usize,
    pub passed_over: usize,
    pub refused: usize,
    pub forgotten: usize,
    /// Consumers and gets that failed over a message that ends connections.
    pub poisoned: usize,
}

impl Coverage {
    pub fn add(&mut self, other: &Self) {
        self.confirmed += other.confirmed;
        self.unroutable += other.unroutable;
        self.nacked += other.nacked;
        self.timed_out += other.timed_out;
        self.blocked += other.blocked;
        self.duplicates += other.duplicates;
        self.redeliveries += other.redeliveries;
        self.reconnects += other.reconnects;
        self.republished += other.republished;
        self.ended += other.ended;
        self.passed_over += other.passed_over;
        self.refused += other.refused;
        self.forgotten += other.forgotten;
        self.poisoned += other.poisoned;
    }

    pub fn assert_all(&self) {
        for (what, count) in [
            ("confirmed", self.confirmed),
            ("unroutable", self.unroutable),
            ("nacked", self.nacked),
            ("timed out", self.timed_out),
            ("blocked", self.blocked),
            ("stored twice", self.duplicates),
            ("redelivered", self.redeliveries),
            ("reconnected", self.reconnects),
            ("republished", self.republished),
            ("ended by an operation", self.ended),
            ("passed over", self.passed_over),
            ("refused in mid-recovery", self.refused),
            ("lost with its queue", self.forgotten),
            ("failed over a message", self.poisoned),
        ] {
            assert!(count > 0, "no run had anything {what}");
        }
    }
}

/// An operation may end this long after its deadline.
const SLACK: Duration = Duration::from_millis(100);

/// A run that is not over by then hangs.
const WHOLE: Duration = Duration::from_secs(3600);

/// What waits for the plan's faults to end is done by then.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(seed: u64) -> RunOutcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::new(&mut rng);
        let ledger = Ledger::new(plan.operation_timeout + SLACK, plan.is_ordered(), plan.is_faultless());
        ledger.note(&format!("{plan:?}"));
        let mut coverage = Coverage::default();
        if timeout(WHOLE, scenario(seed, plan, rng, &ledger, &mut coverage)).await.is_err() {
            ledger.fail("the run hangs".into());
        }
        coverage.confirmed = ledger.count(Outcome::Confirmed);
        coverage.unroutable = ledger.count(Outcome::Failed(ErrorKind::Unroutable));
        coverage.nacked = ledger.count(Outcome::Failed(ErrorKind::Nacked));
        coverage.timed_out = ledger.count(Outcome::Failed(ErrorKind::Timeout));
        coverage.blocked = ledger.count(Outcome::Failed(ErrorKind::Blocked));
        coverage.duplicates = ledger.duplicates();
        coverage.redeliveries = ledger.redeliveries();
        let (trace, violations) = ledger.close();
        RunOutcome { trace, violations, coverage }
    })
}

async fn scenario(seed: u64, plan: Plan, mut rng: fastrand::Rng, ledger: &Ledger, coverage: &mut Coverage) {
    let broker = Broker::seeded(seed);
    ledger.watch(&broker);
    let network = Network::new(broker.clone(), ledger.clone(), seed, &plan);
    let secret = Secret::default();
    let client = connect(seed, &plan, &network, &secret, ledger).await;
    let queues: Vec<String> = (0..plan.queues).map(|number| format!("q{number}")).collect();
    for queue in &queues {
        client.declare_queue(&Queue::new(queue)).await.unwrap();
    }
    client.declare_queue(&Queue::new("full").max_length(1).overflow(Overflow::RejectPublish)).await.unwrap();

    let done = Arc::new(AtomicBool::new(false));
    let mut consumers = Vec::new();
    for number in 0..plan.consumers {
        // The first have the client of the publishers, which is what most programs do.
        let client = if number < 2 {
            client.clone()
        } else {
            connect(seed ^ 0xc0, &plan, &network, &secret, ledger).await
        };
        // A client that has not declared what it consumes loses its consumer with the queue.
        client.declare_queue(&Queue::new(&queues[number % queues.len()])).await.unwrap();
        let consumer = client
            .consume(queues[number % queues.len()].as_str())
            .prefetch(plan.prefetch)
            .start()
            .await
            .unwrap();
        let rng = rng.fork();
        consumers.push(tokio::spawn(consume(consumer, client, ledger.clone(), rng, done.clone())));
    }
    if plan.queues > plan.consumers {
        let consumer = client.consume(queues[1].as_str()).start().await.unwrap();
        consumers.push(tokio::spawn(consume(
            consumer,
            client.clone(),
            ledger.clone(),
            rng.fork(),
            done.clone(),
        )));
    }
    let second = if plan.second_client {
        connect(seed ^ 0x5e, &plan, &network, &secret, ledger).await
    } else {
        client.clone()
    };
    // It publishes to them too: what is lost with a queue is declared again by whoever is back first.
    for queue in &queues {
        second.declare_queue(&Queue::new(queue)).await.unwrap();
    }
    let publishers: Vec<_> = (0..plan.publishers)
        .map(|number| {
            let client = if number % 2 == 1 { second.clone() } else { client.clone() };
            let (ledger, plan, rng) = (ledger.clone(), plan.clone(), rng.fork());
            tokio::spawn(publish(number, client, ledger, plan, queues.clone(), rng))
        })
        .collect();
    let leavers: Vec<_> = (0..2)
        .map(|number| {
            let options = options(seed ^ (0x1ea << number), &plan, &network, &secret);
            let queue = queues[number as usize % queues.len()].clone();
            tokio::spawn(leave(number, options, ledger.clone(), plan.clone(), queue, rng.fork()))
        })
        .collect();
    broker.break_at_declare(ENDING, plan.ending);
    let churn = tokio::spawn(churn(client.clone(), ledger.clone(), plan.ending, rng.fork(), done.clone()));
    let poison = plan.poison.then(|| {
        tokio::spawn(poison::meet(
            client.clone(),
            broker.clone(),
            network.clone(),
            ledger.clone(),
            plan.clone(),
        ))
    });

    let lag = tokio::spawn(network.clone().lag(plan.lag));
    faults(&plan, &network, &broker, &secret, &queues, ledger).await;

    for publisher in publishers {
        let confirms = publisher.await.unwrap();
        for confirm in confirms {
            confirm.await.unwrap();
        }
    }
    for leaver in leavers {
        leaver.await.unwrap();
    }
    settled(&broker, &queues, ledger).await;
    if let Some(poison) = poison {
        coverage.poisoned = poison.await.unwrap();
    }
    lag.abort();
    network.clear();
    done.store(true, Ordering::Relaxed);
    for consumer in consumers {
        consumer.await.unwrap();
    }
    coverage.ended = churn.await.unwrap();
    drop(second);
    let stats = client.stats();
    coverage.reconnects = stats.reconnects as usize;
    coverage.republished = stats.republished as usize;
    coverage.passed_over = network.passed_over();
    coverage.refused = ledger.refused_in_recovery();
    coverage.forgotten = ledger.forgotten();
    if stats.in_flight != 0 {
        ledger.fail(format!("{} publishes are in flight at the end", stats.in_flight));
    }
    let began = Instant::now();
    if let Err(error) = client.close().await {
        ledger.fail(format!("close: {error}"));
    }
    ledger.took("close", began.elapsed());
    let began = Instant::now();
    while broker.connections() > 0 {
        if began.elapsed() > PATIENCE {
            return ledger.fail(format!("{} connections stay open", broker.connections()));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The password, as the application knows it.
type Secret = Arc<Mutex<String>>;

async fn connect(seed: u64, plan: &Plan, network: &Network, secret: &Secret, ledger: &Ledger) -> Client {
    let client = options(seed, plan, network, secret).connect().await.unwrap();
    // Not only for a trace: with another task the run would be another one.
    let (mut events, ledger) = (client.events(), ledger.clone());
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            ledger.note(&format!("engine: {event:?}"));
            if let Event::Recovering { last_error: Some(error), .. } = &event
                && error.kind() == ErrorKind::Authentication
            {
                ledger.login_refused();
            }
        }
    });
    client
}

fn options(seed: u64, plan: &Plan, network: &Network, secret: &Secret) -> Options {
    let secret = secret.clone();
    Options::new()
        .credentials_from(move || {
            let password = secret.lock().unwrap().clone();
            let password = if password.is_empty() { "guest".into() } else { password };
            std::future::ready(Ok(Credentials::new("guest", password)))
        })
        .connector(Arc::new(network.clone()))
        .seed(seed)
        .heartbeat(plan.heartbeat)
        .operation_timeout(plan.operation_timeout)
        // Each address has its share of it.
        .connect_timeout(Duration::from_secs(2) * (1 + plan.bad_addresses.len() as u32))
        .window(plan.window, 1 << 20)
        .separate_publish_connection(plan.separate)
        .recovery(Recovery { max_delay: Duration::from_secs(1), ..Recovery::default() })
}

async fn faults(
    plan: &Plan,
    network: &Network,
    broker: &Broker,
    secret: &Secret,
    queues: &[String],
    ledger: &Ledger,
) {
    let began = Instant::now();
    for (at, fault) in &plan.faults {
        tokio::time::sleep_until(began + *at).await;
        ledger.note(&format!("{fault:?}"));
        match fault {
            Fault::Cut { pick, cut } => network.cut(*pick, *cut),
            Fault::CutNext(cut) => network.cut_next(*cut),
            Fault::Stall(duration) => {
                network.stall(true);
                sleep(*duration).await;
                network.stall(false);
            }
            Fault::Freeze(duration) => {
                broker.stall(true);
                sleep(*duration).await;
                broker.stall(false);
            }
            Fault::Restart(duration) => {
                broker.refuse_connections(true);
                broker.restart();
                sleep(*duration).await;
                broker.refuse_connections(false);
            }
            Fault::CloseAll => broker.close_connections(320, "closed by the operator"),
            Fault::DropAll => broker.drop_connections(),
            Fault::Block(duration) => {
                broker.block("low on memory");
                sleep(*duration).await;
                broker.unblock();
            }
            Fault::RefuseLogins(duration) => {
                broker.refuse_logins(true);
                sleep(*duration).await;
                broker.refuse_logins(false);
            }
            Fault::HoldConfirms(duration) => {
                broker.hold_confirms(true);
                sleep(*duration).await;
                broker.hold_confirms(false);
            }
            Fault::Expire { learned_after } => {
                let renewed = format!("renewed at {:?}", began.elapsed());
                broker.add_user("guest", &renewed);
                broker.close_connections(320, "CONNECTION_FORCED - credential expired");
                sleep(*learned_after).await;
                *secret.lock().unwrap() = renewed;
            }
            Fault::Jump(duration) => {
                ledger.jumps(*duration);
                tokio::time::advance(*duration).await;
            }
            Fault::Forget { pick, gone } => {
                let queue = &queues[pick % queues.len()];
                broker.refuse_connections(true);
                broker.restart_without(queue);
                ledger.forgets(queue);
                sleep(*gone).await;
                broker.refuse_connections(false);
            }
            Fault::LoseThenRefuse { after, lasting } => {
                broker.drop_connections();
                sleep(*after).await;
                broker.refuse_logins(true);
                sleep(*lasting).await;
                broker.refuse_logins(false);
            }
        }
    }
    network.clear();
    ledger.note("no more faults");
}

/// Waits until every message has been consumed and acked.
async fn settled(broker: &Broker, queues: &[String], ledger: &Ledger) {
    let began = Instant::now();
    loop {
        let depths: Vec<_> =
            queues.iter().map(|queue| broker.queue_depth(queue).unwrap_or_default()).collect();
        if ledger.is_settled() && depths.iter().all(|depth| depth.ready + depth.unacked == 0) {
            return;
        }
        if began.elapsed() > PATIENCE {
            return ledger.fail(format!("after {PATIENCE:?} without faults the queues hold {depths:?}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}
