//! The rows of the table "What each fault does in both" in `docs/from-lapin.md`, on the embedded broker, which lapin reaches
//! over TCP.

use std::time::Duration;

use lapin::{Confirmation, ConnectionProperties, options::QueueDeclareOptions, types::FieldTable};
use murano_messaging::{Broker, Client, ErrorKind, Message, Queue, broker::Listening};
use murano_testkit::{eventually, within};

use super::{Lapin, STEP, next};

const QUEUE: &str = "tasks";

struct Side {
    broker: Broker,
    _listening: Listening,
    ours: Client,
    lapin: Lapin,
}

/// Both on one broker, with a queue each: what one consumes the other does not get.
async fn side_by_side(properties: ConnectionProperties) -> Side {
    let broker = Broker::new();
    let listening = broker.listen(("127.0.0.1", 0)).await.unwrap();
    let uri = format!("amqp://guest:guest@{}", listening.address());
    let ours = within("connecting", STEP, Client::connect(&uri)).await.unwrap();
    ours.declare_queue(&Queue::new(QUEUE)).await.unwrap();
    let lapin = Lapin::connect(&uri, properties).await;
    lapin.declare("lapins").await;
    Side { broker, _listening: listening, ours, lapin }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_connection_ends_lapins_consumer_and_not_ours() {
    let side = side_by_side(ConnectionProperties::default()).await;
    let mut theirs = side.lapin.consume("lapins").await;
    let mine = side.ours.consume(QUEUE).start().await.unwrap();
    side.broker.drop_connections();
    side.ours.publish("", QUEUE, "after the cut").await.unwrap();
    let delivery = within("ours goes on", STEP, mine.next()).await.unwrap().unwrap();
    assert_eq!(delivery.body(), "after the cut");
    delivery.ack().unwrap();
    assert!(next(&mut theirs).await.unwrap().is_err());
    assert!(next(&mut theirs).await.is_none());
    assert!(side.lapin.publish("", "lapins").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_waits_for_its_confirm_fails_in_lapin_and_is_sent_again_by_ours() {
    for recovers in [false, true] {
        let properties = ConnectionProperties::default();
        let properties = if recovers { properties.enable_auto_recover() } else { properties };
        let side = side_by_side(properties).await;
        side.broker.hold_confirms(true);
        let theirs = side.lapin.start_publish("", "lapins").await.unwrap();
        let mine = side.ours.publisher("", QUEUE).publish_deferred(Message::text("ours")).await.unwrap();
        eventually("both are there, unconfirmed", STEP, || async {
            [QUEUE, "lapins"]
                .iter()
                .all(|queue| side.broker.queue_depth(queue).is_some_and(|depth| depth.ready == 1))
        })
        .await;
        side.broker.drop_connections();
        side.broker.hold_confirms(false);
        within("ours is confirmed", STEP, mine).await.unwrap();
        let theirs = within("lapin's confirm", STEP, theirs).await;
        assert!(theirs.is_err(), "with recovery {recovers}: {theirs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unroutable_message_is_ok_in_lapin_and_an_error_here() {
    let side = side_by_side(ConnectionProperties::default()).await;
    assert!(matches!(side.lapin.publish("", "nothing").await.unwrap(), Confirmation::Ack(Some(_))));
    let error = side.ours.publish("", "nothing", "x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unroutable);
    assert_eq!(error.returned().unwrap().message.body(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_exchange_fails_lapins_channel_and_one_publish_here() {
    let side = side_by_side(ConnectionProperties::default()).await;
    // All three are on their way before the first is answered.
    side.broker.hold_confirms(true);
    let before = side.lapin.start_publish("", "lapins").await.unwrap();
    let mine = side.ours.publisher("", QUEUE).publish_deferred("before").await.unwrap();
    let missing = side.ours.publisher("nowhere", "").publish_deferred("missing").await.unwrap();
    let mine_after = side.ours.publisher("", QUEUE).publish_deferred("after").await.unwrap();
    assert!(side.lapin.publish("nowhere", "").await.is_err());
    side.broker.hold_confirms(false);
    assert!(within("lapin's other publish", STEP, before).await.is_err());
    assert!(side.lapin.publish("", "lapins").await.is_err());
    assert_eq!(within("ours", STEP, missing).await.unwrap_err().kind(), ErrorKind::NotFound);
    within("ours before it", STEP, mine).await.unwrap();
    within("ours after it", STEP, mine_after).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_declare_ends_lapins_channel_with_its_consumers_and_none_of_ours() {
    let side = side_by_side(ConnectionProperties::default()).await;
    let mut theirs = side.lapin.consume("lapins").await;
    let mine = side.ours.consume(QUEUE).start().await.unwrap();
    let transient = QueueDeclareOptions::default();
    let declare = side.lapin.channel.queue_declare("lapins".into(), transient, FieldTable::default());
    assert!(within("lapin's declare", STEP, declare).await.is_err());
    assert!(next(&mut theirs).await.is_none_or(|end| end.is_err()));
    let error = side.ours.declare_queue(&Queue::new(QUEUE).durable(false)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PreconditionFailed);
    side.ours.publish("", QUEUE, "still there").await.unwrap();
    assert_eq!(within("ours", STEP, mine.next()).await.unwrap().unwrap().body(), "still there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_an_alarm_lapin_waits_for_its_end_and_ours_until_the_deadline() {
    let side = side_by_side(ConnectionProperties::default()).await;
    let mine = side.ours.consume(QUEUE).start().await.unwrap();
    side.ours.publish("", QUEUE, "before").await.unwrap();
    let delivery = within("a delivery", STEP, mine.next()).await.unwrap().unwrap();
    // The broker tells those that publish.
    side.lapin.publish("", "lapins").await.unwrap();
    side.broker.block("low on memory");
    eventually("lapin hears of it", STEP, || async { side.lapin.connection.status().blocked() }).await;
    let mut theirs = Box::pin(async {
        let confirm = side.lapin.start_publish("", "lapins").await?;
        confirm.await
    });
    let short = side.ours.with_timeout(Duration::from_millis(200));
    // Polled along with ours: if lapin had a deadline of that length, it would be the first to end.
    tokio::select! {
        biased;
        ended = &mut theirs => panic!("lapin's publish has ended: {ended:?}"),
        failed = short.publish("", QUEUE, "under the alarm") => {
            assert_eq!(failed.unwrap_err().kind(), ErrorKind::Blocked);
        }
    }
    // Acks go on meanwhile.
    delivery.ack().unwrap();
    eventually("the ack arrives", STEP, || async {
        side.broker.queue_depth(QUEUE).is_some_and(|depth| depth.unacked == 0)
    })
    .await;
    side.broker.unblock();
    within("lapin's publish", STEP, theirs).await.unwrap();
}
