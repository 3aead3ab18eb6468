//! Murano's documents and signatures, through a broker. The keys here are for these tests and nothing else;
//! `signature.bin` was made by Python's `cryptography`, as Murano's engine makes them.
#![cfg(feature = "murano")]

use std::time::Duration;

use murano_messaging::{
    Client, Delivery, ErrorKind, Message, Value,
    murano::{self, ExecutionPlan, ExecutionResult, SignatureError, SigningKey, VerifyingKey},
};
use murano_testkit::{shared_node, unique, within};
use serde_json::json;

const KEY: &[u8] = include_bytes!("key.pem");
const KEY_PKCS1: &[u8] = include_bytes!("key-pkcs1.pem");
const PUBLIC: &[u8] = include_bytes!("public.pem");
const PUBLIC_PKCS1: &[u8] = include_bytes!("public-pkcs1.pem");
const SHORT_PUBLIC: &[u8] = include_bytes!("short-public.pem");
const OTHER: &[u8] = include_bytes!("other.pem");
const ELLIPTIC: &[u8] = include_bytes!("elliptic.pem");
const ELLIPTIC_PUBLIC: &[u8] = include_bytes!("elliptic-public.pem");
const SIGNATURE: &[u8] = include_bytes!("signature.bin");
const QUEUE: &str = "e7f1c-hweb-0";
const BODY: &str = r#"{"ID": "17", "Name": "naïve"}"#;

async fn next(client: &Client, queue: &str) -> Delivery {
    within("a message", Duration::from_secs(30), client.get_no_ack(queue)).await.unwrap().unwrap()
}

#[test]
fn queues_have_the_names_that_murano_gives_them() {
    assert_eq!(murano::agent_queue("7f1c", "web-0"), QUEUE);
    assert_eq!(murano::agent_queue("7F1c", "Web-0"), QUEUE);
    assert_eq!(murano::results_queue("engine"), "-execution-results-engine");
    assert_eq!(murano::results_queue("RegionOne"), "-execution-results-regionone");
    assert_eq!(murano::QUEUE_TTL.as_millis(), 86_400_000);
}

#[test]
fn a_signature_is_the_one_that_murano_makes() {
    for pem in [KEY, KEY_PKCS1] {
        let key = SigningKey::from_pem(pem).unwrap();
        assert_eq!(key.sign(QUEUE, BODY.as_bytes()).unwrap(), SIGNATURE);
        assert!(key.verifying_key().verify(QUEUE, BODY.as_bytes(), SIGNATURE).is_ok());
        assert_eq!(format!("{key:?}"), "SigningKey(2048 bits)");
    }
    let indented = String::from_utf8(PUBLIC_PKCS1.to_vec()).unwrap().replace('\n', "\r\n    ");
    for pem in [PUBLIC, PUBLIC_PKCS1, indented.as_bytes()] {
        assert!(VerifyingKey::from_pem(pem).unwrap().verify(QUEUE, BODY.as_bytes(), SIGNATURE).is_ok());
    }
}

#[test]
fn what_was_changed_is_not_verified() {
    let key = VerifyingKey::from_pem(PUBLIC).unwrap();
    let wrong = Err(SignatureError::Wrong);
    assert_eq!(key.verify("e7f1c-hweb-1", BODY.as_bytes(), SIGNATURE), wrong);
    assert_eq!(key.verify(QUEUE, b"{}", SIGNATURE), wrong);
    assert_eq!(key.verify(QUEUE, BODY.as_bytes(), &SIGNATURE[1..]), wrong);
    assert_eq!(key.verify(QUEUE, BODY.as_bytes(), b""), wrong);
    for place in 0..SIGNATURE.len() {
        let mut changed = SIGNATURE.to_vec();
        changed[place] ^= 1;
        assert_eq!(key.verify(QUEUE, BODY.as_bytes(), &changed), wrong);
    }
    let other = SigningKey::from_pem(OTHER).unwrap();
    assert_eq!(other.verifying_key().verify(QUEUE, BODY.as_bytes(), SIGNATURE), wrong);
}

#[test]
fn what_is_not_an_rsa_key_is_refused_and_not_repeated() {
    let text = String::from_utf8(KEY.to_vec()).unwrap();
    let cut = text.lines().take(4).chain(["-----END PRIVATE KEY-----"]).collect::<Vec<_>>().join("\n");
    for pem in
        ["", "secret", std::str::from_utf8(PUBLIC).unwrap(), &cut, std::str::from_utf8(ELLIPTIC).unwrap()]
    {
        let error = SigningKey::from_pem(pem).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for pem in [b"", b"secret".as_slice(), KEY, KEY_PKCS1, ELLIPTIC_PUBLIC, SHORT_PUBLIC] {
        let error = VerifyingKey::from_pem(pem).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn a_signed_plan_goes_to_its_agent_and_the_result_comes_back() {
    for uri in [shared_node().await.to_owned(), format!("memory://{}", unique("murano"))] {
        let client = Client::connect(&uri).await.unwrap();
        let queue = murano::agent_queue("7f1c", &unique("web"));
        let results = murano::results_queue(&unique("engine"));
        for name in [&queue, &results] {
            client.declare_queue(&murano::queue(name)).await.unwrap();
        }
        let key = SigningKey::from_pem(KEY).unwrap();
        let plan = ExecutionPlan::new("Deploy", "return args.port").parameter("port", 80);
        client.publish("", &queue, plan.signed_message(&key, &queue).unwrap()).await.unwrap();
        client.publish("", &queue, plan.message().unwrap()).await.unwrap();

        let verifying = VerifyingKey::from_pem(PUBLIC).unwrap();
        let delivery = next(&client, &queue).await;
        assert_eq!(verifying.verify_delivery(&queue, &delivery), Ok(()));
        assert_eq!(verifying.verify_delivery("another", &delivery), Err(SignatureError::Wrong));
        assert_eq!(murano::message_id(&delivery), Some(plan.id.as_str()));
        assert_eq!(ExecutionPlan::from_delivery(&delivery).unwrap(), plan);
        let unsigned = next(&client, &queue).await;
        assert_eq!(verifying.verify_delivery(&queue, &unsigned), Err(SignatureError::Missing));

        let result = ExecutionResult::done(&plan, json!({"port": 80}));
        client.publish("", &results, result.message().unwrap()).await.unwrap();
        let delivery = next(&client, &results).await;
        assert_eq!(murano::message_id(&delivery), Some(plan.id.as_str()));
        assert_eq!(ExecutionResult::from_delivery(&delivery).unwrap(), result);
        for name in [&queue, &results] {
            client.delete_queue(name).await.unwrap();
        }
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn ids_and_signatures_are_read_however_a_generation_writes_them() {
    let client = Client::connect(&format!("memory://{}", unique("murano"))).await.unwrap();
    client.declare_queue(&murano::queue(QUEUE)).await.unwrap();
    let message = || Message::new(BODY);
    for (sent, id) in [
        (message().header("message_id", "in the header").message_id(""), Some("in the header")),
        (message().message_id("in the property"), Some("in the property")),
        (message().header("message_id", "").message_id("in the property"), Some("in the property")),
        (message().header("message_id", 5).message_id("in the property"), Some("in the property")),
        (message().message_id(""), None),
    ] {
        client.publish("", QUEUE, sent).await.unwrap();
        assert_eq!(murano::message_id(&next(&client, QUEUE).await), id);
    }
    let key = VerifyingKey::from_pem(PUBLIC).unwrap();
    let long_string = Value::LongString(SIGNATURE.to_vec().into());
    for (sent, expected) in [
        (message().header("signature", SIGNATURE), Ok(())),
        (message().header("signature", long_string), Ok(())),
        (message().header("signature", ()), Err(SignatureError::Missing)),
        (message().header("signature", 5), Err(SignatureError::Wrong)),
        (message().header("signature", ""), Err(SignatureError::Wrong)),
    ] {
        client.publish("", QUEUE, sent).await.unwrap();
        assert_eq!(key.verify_delivery(QUEUE, &next(&client, QUEUE).await), expected);
    }
}

#[tokio::test]
async fn what_a_document_does_not_say_is_in_the_properties_of_its_message() {
    let client = Client::connect(&format!("memory://{}", unique("murano"))).await.unwrap();
    client.declare_queue(&murano::queue(QUEUE)).await.unwrap();
    // What the engine sends to see whether an agent is there.
    let ready = json!({"Body": "return", "FormatVersion": "2.0.0", "Scripts": {}});
    let says = json!({"ID": "in the plan", "ReplyTo": "named in the plan"});
    for (body, id, reply_to) in
        [(&ready, "in the message", "named in the message"), (&says, "in the plan", "named in the plan")]
    {
        let message =
            Message::json(body).unwrap().message_id("in the message").reply_to("named in the message");
        client.publish("", QUEUE, message).await.unwrap();
        let plan = ExecutionPlan::from_delivery(&next(&client, QUEUE).await).unwrap();
        assert_eq!((plan.id.as_str(), plan.reply_to.as_deref()), (id, Some(reply_to)));
        assert_eq!(ExecutionResult::done(&plan, ()).source_id, id);
    }
    client
        .publish("", QUEUE, Message::json(&ready).unwrap().header("message_id", "in the header"))
        .await
        .unwrap();
    let plan = ExecutionPlan::from_delivery(&next(&client, QUEUE).await).unwrap();
    assert_eq!((plan.id.as_str(), plan.reply_to), ("in the header", None));

    for (body, id) in [
        (json!({"IsException": false, "Result": []}), "in the message"),
        (json!({"FormatVersion": "2.0.0", "SourceID": "in the result"}), "in the result"),
    ] {
        let message = Message::json(&body).unwrap().message_id("in the message");
        client.publish("", QUEUE, message).await.unwrap();
        assert_eq!(ExecutionResult::from_delivery(&next(&client, QUEUE).await).unwrap().source_id, id);
    }
    for body in ["", "[]", "not JSON"] {
        client.publish("", QUEUE, Message::new(body)).await.unwrap();
        let delivery = next(&client, QUEUE).await;
        assert_eq!(ExecutionPlan::from_delivery(&delivery).unwrap_err().kind(), ErrorKind::Json);
        assert_eq!(ExecutionResult::from_delivery(&delivery).unwrap_err().kind(), ErrorKind::Json);
    }
}
