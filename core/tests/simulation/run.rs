//! One run: the plan of a seed, carried out.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use murano_messaging::{
    Broker, Client, Consumer, Credentials, ErrorKind, Event, Message, Options, Overflow, Queue, Recovery,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    faulty::Network,
    ledger::{Ledger, Outcome, Target},
    plan::{Fault, Plan},
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
    let network = Network::new(broker.clone(), ledger.clone(), seed, plan.chop, &plan.bad_addresses);
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

/// Publishes in turn, some waiting for the confirm and some not. Returns the tasks that wait for the rest.
async fn publish(
    publisher: u64,
    client: Client,
    ledger: Ledger,
    plan: Plan,
    queues: Vec<String>,
    mut rng: fastrand::Rng,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut waiting = Vec::new();
    for sequence in 0..plan.messages {
        let id = format!("p{publisher}-{sequence}");
        let (target, queue) = match rng.u32(0..20) {
            0 => (Target::Nowhere, "nowhere"),
            1 => (Target::Full, "full"),
            _ => (Target::Queue, queues[rng.usize(0..queues.len())].as_str()),
        };
        let message = Message::new(vec![b'x'; rng.usize(0..=plan.body)]).message_id(id.as_str());
        let handle = client.publisher("", queue);
        ledger.publish_begins(&id, target);
        if rng.bool() {
            let result = handle.publish(message).await;
            ledger.publish_ends(&id, &result);
        } else {
            match handle.publish_deferred(message).await {
                Err(error) => ledger.publish_ends(&id, &Err(error)),
                Ok(mut confirmation) => {
                    let ledger = ledger.clone();
                    let patience = (rng.u32(0..10) == 0).then(|| plan.pause.mul_f64(rng.f64()));
                    waiting.push(tokio::spawn(async move {
                        if let Some(patience) = patience
                            && let Ok(result) = timeout(patience, &mut confirmation).await
                        {
                            return ledger.publish_ends(&id, &result);
                        }
                        if patience.is_some() {
                            confirmation.cancel();
                        }
                        ledger.publish_ends(&id, &confirmation.await);
                    }));
                }
            }
        }
        let in_flight = client.stats().in_flight;
        if in_flight as usize > plan.window {
            ledger.fail(format!("{in_flight} publishes in flight, window {}", plan.window));
        }
        if rng.u32(0..4) == 0 {
            sleep(plan.pause.mul_f64(rng.f64())).await;
        }
    }
    waiting
}

/// A client that gives up reconnecting soon, and is closed before it has all its confirms.
async fn leave(
    leaver: u64,
    options: Options,
    ledger: Ledger,
    plan: Plan,
    queue: String,
    mut rng: fastrand::Rng,
) {
    sleep(plan.pause.mul_f64(rng.f64() * 10.0)).await;
    let recovery = Recovery { max_attempts: Some(rng.u32(1..4)), ..Recovery::default() };
    let Ok(client) = options.recovery(recovery).connect().await else { return };
    let publisher = client.publisher("", queue.as_str());
    let mut waiting = Vec::new();
    for sequence in 0..rng.u64(1..20) {
        let id = format!("l{leaver}-{sequence}");
        ledger.publish_begins(&id, Target::Queue);
        let message = Message::text("x").message_id(id.as_str());
        match publisher.publish_deferred(message).await {
            Err(error) => ledger.publish_ends(&id, &Err(error)),
            Ok(confirmation) => {
                let ledger = ledger.clone();
                waiting.push(tokio::spawn(async move {
                    let result = confirmation.await;
                    ledger.publish_ends(&id, &result);
                }));
            }
        }
        if rng.u32(0..4) == 0 {
            sleep(plan.pause.mul_f64(rng.f64())).await;
        }
    }
    let patience = Duration::from_millis(rng.u64(0..500));
    let began = Instant::now();
    // It may take longer than that.
    drop(client.drain(patience).await);
    ledger.took("drain", began.elapsed());
    for confirm in waiting {
        confirm.await.unwrap();
    }
}

/// Takes deliveries and settles them this way and that, until all is done.
async fn consume(
    consumer: Consumer,
    client: Client,
    ledger: Ledger,
    mut rng: fastrand::Rng,
    done: Arc<AtomicBool>,
) {
    let mut kept = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let next = timeout(Duration::from_millis(rng.u64(10..500)), consumer.next()).await;
        let delivery = match next {
            // Nothing came: what was kept is settled, or the rest would wait for ever behind the prefetch.
            Err(_) => {
                for delivery in std::mem::take(&mut kept) {
                    ack(&delivery, &ledger);
                }
                if rng.u32(0..20) == 0 {
                    set_prefetch(&consumer, &ledger, &mut rng).await;
                }
                continue;
            }
            Ok(None) => return ledger.fail("a consumer ended".into()),
            Ok(Some(Err(error))) => return ledger.fail(format!("a consumer ended: {error}")),
            Ok(Some(Ok(delivery))) => delivery,
        };
        ledger.received(delivery.message_id().unwrap_or_default(), delivery.redelivered());
        match rng.u32(0..20) {
            0..=13 => ack(&delivery, &ledger),
            14..=17 => kept.push(delivery),
            18 => {
                if let Err(error) = delivery.requeue() {
                    ledger.fail(format!("requeue: {error}"));
                }
            }
            _ => {
                sleep(Duration::from_millis(rng.u64(0..300))).await;
                ack(&delivery, &ledger);
            }
        }
    }
    for delivery in kept {
        ack(&delivery, &ledger);
    }
    let began = Instant::now();
    if let Err(error) = consumer.cancel().await {
        ledger.fail(format!("cancel: {error}"));
    }
    ledger.took("cancel", began.elapsed());
    drop(consumer);
    drop(client);
}

fn ack(delivery: &murano_messaging::Delivery, ledger: &Ledger) {
    ledger.acks(delivery.message_id().unwrap_or_default());
    if let Err(error) = delivery.ack() {
        ledger.fail(format!("ack: {error}"));
    }
}

async fn set_prefetch(consumer: &Consumer, ledger: &Ledger, rng: &mut fastrand::Rng) {
    let began = Instant::now();
    let result = consumer.set_prefetch(rng.u16(1..50)).await;
    ledger.took("set_prefetch", began.elapsed());
    match result {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Timeout => {}
        Err(error) => ledger.fail(format!("set_prefetch: {error}")),
    }
}

/// The queue over whose declaration the broker ends the connection.
const ENDING: &str = "ending";

/// Declares a queue over which the broker ends the connection, and something else at the same time. Returns whether the
/// declaration was refused; otherwise it had no time.
async fn end_the_connection(client: &Client, ledger: &Ledger) -> bool {
    let began = Instant::now();
    let ending = Queue::new(ENDING);
    let (ended, other) = tokio::join!(client.declare_queue(&ending), client.queue_info("full"));
    ledger.took("the operation that ends the connection", began.elapsed());
    if let Err(error) = other
        && error.kind() != ErrorKind::Timeout
    {
        ledger.fail(format!("look up beside the operation that ends the connection: {error}"));
    }
    match ended {
        Ok(_) => ledger.fail("the operation that ends the connection succeeded".into()),
        Err(error) if error.kind() == ErrorKind::Timeout => {}
        Err(error) if error.reply_code() == Some(541) && error.outcome_unknown() => return true,
        Err(error) => ledger.fail(format!("the operation that ends the connection: {error}")),
    }
    false
}

/// Operations of all kinds, which may fail for want of time and for nothing else; some end the connection. Returns how many
/// of those were refused.
async fn churn(
    client: Client,
    ledger: Ledger,
    ending: bool,
    mut rng: fastrand::Rng,
    done: Arc<AtomicBool>,
) -> usize {
    async fn check<T>(
        what: &str,
        ledger: &Ledger,
        operation: impl Future<Output = murano_messaging::Result<T>>,
    ) -> Option<T> {
        let began = Instant::now();
        let result = operation.await;
        ledger.took(what, began.elapsed());
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                ledger.note(&format!("{what}: {:?}", error.kind()));
                if error.kind() != ErrorKind::Timeout {
                    ledger.fail(format!("{what}: {error}"));
                }
                None
            }
        }
    }
    let (mut number, mut ended) = (0, 0);
    while !done.load(Ordering::Relaxed) {
        number += 1;
        if ending && ended < 2 && rng.u32(0..4) == 0 {
            ended += usize::from(end_the_connection(&client, &ledger).await);
        }
        let name = format!("churn-{number}");
        let exchange = murano_messaging::Exchange::fanout(format!("x-{number}"));
        let binding = murano_messaging::Binding::queue(name.as_str(), exchange_name(number).as_str());
        // What timed out may have happened or not: then nothing can be said of it.
        let queue =
            check("declare", &ledger, client.declare_queue(&Queue::new(name.as_str()))).await.is_some();
        let other = check("declare exchange", &ledger, client.declare_exchange(&exchange)).await.is_some();
        if queue {
            check("look up", &ledger, client.queue_info(&name)).await;
        }
        if queue && other {
            check("check exchange", &ledger, client.check_exchange(&exchange_name(number))).await;
            check("bind", &ledger, client.bind(&binding)).await;
        }
        sleep(Duration::from_millis(rng.u64(0..500))).await;
        if queue {
            check("get", &ledger, client.get_no_ack(&name)).await;
        }
        check("delete", &ledger, client.delete_queue(&name)).await;
        check("delete exchange", &ledger, client.delete_exchange(&exchange_name(number))).await;
    }
    ended
}

fn exchange_name(number: u32) -> String {
    format!("x-{number}")
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
