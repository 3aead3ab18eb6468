//! What one client got, the other takes.

use std::time::Duration;

use lapin::{
    ConnectionProperties, ExchangeKind,
    options::{BasicAckOptions, BasicGetOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use murano_messaging::{Client, Error, ErrorKind, Message, Returned, lapin as convert};
use murano_testkit::{shared_node, unique, within};

use super::{Lapin, STEP};

async fn both() -> (Client, Lapin) {
    let uri = shared_node().await;
    let ours = within("connecting", STEP, Client::connect(uri)).await.unwrap();
    (ours, Lapin::connect(uri, ConnectionProperties::default()).await)
}

/// What a broker keeps for a minute without use.
fn for_a_minute() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("x-expires".into(), AMQPValue::LongInt(60_000));
    table
}

#[tokio::test]
async fn what_came_through_lapin_is_published_as_it_was() {
    let (ours, lapin) = both().await;
    let queue = convert::queue(&unique("lapin"), QueueDeclareOptions::default(), &for_a_minute());
    let queue = ours.declare_queue(&queue).await.unwrap().name;
    let sent = Message::text("hello")
        .persistent(false)
        .message_id("17")
        .correlation_id("plan")
        .expiration(Duration::from_secs(60))
        .header("attempt", 3);
    ours.publish("", &queue, sent.clone()).await.unwrap();
    let got =
        lapin.channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    got.delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
    assert_eq!(Message::from(&got.delivery).properties(), sent.properties());
    let message = Message::from(got.delivery);
    assert!(!message.is_persistent());
    ours.publish("", &queue, message).await.unwrap();
    let again = ours.get_no_ack(&queue).await.unwrap().unwrap();
    assert_eq!((again.body(), again.properties()), (sent.body(), sent.properties()));
    ours.delete_queue(&queue).await.unwrap();
}

#[tokio::test]
async fn a_handler_for_lapin_takes_deliveries_of_ours() {
    let (ours, _lapin) = both().await;
    let queue = convert::queue(&unique("lapin"), QueueDeclareOptions::default(), &for_a_minute());
    let queue = ours.declare_queue(&queue).await.unwrap().name;
    ours.publish("", &queue, Message::text("hello").message_id("17").header("attempt", 3)).await.unwrap();
    let delivery = ours.get_with_ack(&queue).await.unwrap().unwrap();
    let theirs = convert::delivery(&delivery);
    assert_eq!(theirs.data, b"hello");
    assert_eq!(theirs.routing_key.as_str(), queue);
    assert_eq!(theirs.properties, *delivery.properties());
    assert_eq!((theirs.delivery_tag, theirs.redelivered), (delivery.delivery_tag(), delivery.redelivered()));
    // It settles nothing, and does not complain: the one it was made of does.
    assert!(theirs.acker.ack(BasicAckOptions::default()).await.unwrap());
    delivery.ack().unwrap();
    assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::AlreadySettled);
    ours.delete_queue(&queue).await.unwrap();
}

#[tokio::test]
async fn a_queue_and_an_exchange_declared_by_both_are_the_same() {
    let (ours, lapin) = both().await;
    for options in [
        QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() },
        QueueDeclareOptions { auto_delete: true, ..QueueDeclareOptions::default() },
    ] {
        let name = unique("lapin");
        let mut arguments = for_a_minute();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(10));
        lapin.channel.queue_declare(name.as_str().into(), options, arguments.clone()).await.unwrap();
        ours.declare_queue(&convert::queue(&name, options, &arguments)).await.unwrap();
        ours.delete_queue(&name).await.unwrap();
    }
    for kind in [ExchangeKind::Direct, ExchangeKind::Topic, ExchangeKind::Fanout, ExchangeKind::Headers] {
        let name = unique("lapin");
        let options = ExchangeDeclareOptions { auto_delete: true, ..ExchangeDeclareOptions::default() };
        lapin
            .channel
            .exchange_declare(name.as_str().into(), kind.clone(), options, FieldTable::default())
            .await
            .unwrap();
        ours.declare_exchange(&convert::exchange(&name, &kind, options, &FieldTable::default()))
            .await
            .unwrap();
        ours.delete_exchange(&name).await.unwrap();
    }
    let named = ours
        .declare_queue(&convert::queue("", QueueDeclareOptions::default(), &for_a_minute()))
        .await
        .unwrap();
    assert!(named.name.starts_with("amq.gen"));
    ours.delete_queue(&named.name).await.unwrap();
}

#[tokio::test]
async fn a_message_that_came_back_to_lapin_is_one_of_ours() {
    let (_ours, lapin) = both().await;
    let missing = unique("nothing");
    let lapin::Confirmation::Ack(Some(returned)) = lapin.publish("", &missing).await.unwrap() else {
        panic!("the confirmation holds the message")
    };
    let returned = Returned::from(returned);
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("", missing.as_str()));
    assert_eq!(returned.message.body(), "lapin's");
}

#[tokio::test]
async fn an_error_of_lapin_has_a_kind_of_ours_and_is_its_source() {
    async fn mixed(lapin: &Lapin, queue: &str) -> murano_messaging::Result<()> {
        lapin.channel.queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default()).await?;
        Ok(())
    }
    let (_ours, lapin) = both().await;
    let error = mixed(&lapin, &unique("nothing")).await.unwrap_err();
    assert_eq!((error.kind(), error.reply_code()), (ErrorKind::NotFound, Some(404)));
    assert!(!error.outcome_unknown());
    assert!(std::error::Error::source(&error).unwrap().is::<lapin::Error>());
    // The channel has gone with it.
    let error = mixed(&lapin, &unique("nothing")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let lost = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let error = Error::from(lapin::Error::from(lost));
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::ConnectionLost, true));
}

/// The service that moves: one handler is on lapin, the other on ours, and each answers the other.
#[tokio::test]
async fn both_clients_serve_in_one_process() {
    let (ours, lapin) = both().await;
    let [first, second] = [unique("lapin"), unique("ours")];
    for queue in [&first, &second] {
        ours.declare_queue(&convert::queue(queue, QueueDeclareOptions::default(), &for_a_minute()))
            .await
            .unwrap();
    }
    let mut theirs = lapin.consume(&first).await;
    let mine = ours.consume(second.as_str()).start().await.unwrap();
    ours.publish("", &first, Message::text("around")).await.unwrap();
    for _ in 0..100 {
        let delivery = super::next(&mut theirs).await.unwrap().unwrap();
        let message = Message::from(&delivery);
        ours.publish("", &second, message).await.unwrap();
        delivery.acker.ack(BasicAckOptions::default()).await.unwrap();
        let delivery = within("ours", STEP, mine.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body(), "around");
        ours.publish("", &first, Message::new(delivery.body().clone())).await.unwrap();
        delivery.ack().unwrap();
    }
    for queue in [&first, &second] {
        ours.delete_queue(queue).await.unwrap();
    }
    lapin.connection.close(200, "done".into()).await.unwrap();
    ours.close().await.unwrap();
}
