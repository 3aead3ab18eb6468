use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::*;
use crate::ErrorKind;

fn long() -> String {
    "x".repeat(256)
}

fn table(value: Value) -> FieldTable {
    BTreeMap::from([(ShortString::from("k"), value)]).into()
}

fn refused(message: &Message) {
    assert_eq!(message.check().unwrap_err().kind(), ErrorKind::InvalidArgument, "{message:?}");
}

fn value(from: impl IntoValue) -> Value {
    from.into_value().unwrap()
}

#[test]
fn all_fourteen_properties_are_set() {
    let message = Message::new("b")
        .content_type("a")
        .content_encoding("b")
        .priority(3)
        .correlation_id("c")
        .reply_to("d")
        .expiration(Duration::from_millis(1500))
        .message_id("e")
        .timestamp_secs(17)
        .kind("f")
        .user_id("g")
        .app_id("h")
        .cluster_id("i")
        .header("k", "v");
    let properties = Properties::default()
        .with_content_type("a".into())
        .with_content_encoding("b".into())
        .with_headers(table(Value::LongString("v".into())))
        .with_delivery_mode(2)
        .with_priority(3)
        .with_correlation_id("c".into())
        .with_reply_to("d".into())
        .with_expiration("1500".into())
        .with_message_id("e".into())
        .with_timestamp(17)
        .with_type("f".into())
        .with_user_id("g".into())
        .with_app_id("h".into())
        .with_cluster_id("i".into());
    assert_eq!(*message.properties(), properties);
    message.check().unwrap();
}

#[test]
fn messages_are_persistent_unless_said_otherwise() {
    assert!(Message::new("").is_persistent());
    assert!(!Message::new("").persistent(false).is_persistent());
    assert!(Message::new("").persistent(false).persistent(true).is_persistent());
    assert!(!Message::new("").with_properties(Properties::default()).is_persistent());
}

#[test]
fn mandatory_is_left_to_the_publisher_unless_set() {
    assert_eq!(Message::new("").is_mandatory(), None);
    assert_eq!(Message::new("").mandatory(false).is_mandatory(), Some(false));
}

#[test]
fn json_goes_both_ways() {
    let message = Message::json(&["a", "b"]).unwrap();
    assert_eq!(message.properties().content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(message.json_body::<Vec<String>>().unwrap(), ["a", "b"]);
    assert_eq!(message.json_body::<u8>().unwrap_err().kind(), ErrorKind::Json);
    // A JSON object has text for keys.
    let unserializable = BTreeMap::from([((1, 2), 3)]);
    assert_eq!(Message::json(&unserializable).unwrap_err().kind(), ErrorKind::Json);
}

#[test]
fn text_is_utf_8() {
    let message = Message::text("grüß");
    assert_eq!(message.body(), "grüß".as_bytes());
    assert_eq!(message.properties().content_encoding().as_ref().unwrap().as_str(), "utf-8");
}

#[test]
fn debug_shows_no_body() {
    let shown = format!("{:?}", Message::new("the secret plan"));
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("15"), "{shown}");
}

#[test]
fn short_strings_over_255_bytes_are_refused() {
    let new = || Message::new("");
    for message in [
        new().content_type(long()),
        new().content_encoding(long()),
        new().correlation_id(long()),
        new().reply_to(long()),
        new().message_id(long()),
        new().kind(long()),
        new().user_id(long()),
        new().app_id(long()),
        new().cluster_id(long()),
        new().header(long(), 1),
    ] {
        refused(&message);
    }
    new().message_id("x".repeat(255)).header("x".repeat(255), 1).check().unwrap();
}

#[test]
fn short_strings_made_past_their_constructor_are_refused() {
    let text: ShortString = serde_json::from_value(long().into()).unwrap();
    refused(&Message::new("").with_properties(Properties::default().with_app_id(text.clone())));
    let inner: FieldTable = BTreeMap::from([(text, Value::Void)]).into();
    refused(&Message::new("").headers(inner.clone()));
    refused(&Message::new("").header("k", inner));
}

#[test]
fn the_first_defect_is_reported() {
    let message = Message::new("").kind(long()).header("k", u64::MAX);
    assert!(message.check().unwrap_err().to_string().starts_with("kind "));
}

#[test]
fn expiration_is_whole_milliseconds_rounded_up() {
    let text = |ttl| {
        let message = Message::new("").expiration(ttl);
        message.check().unwrap();
        message.properties().expiration().as_ref().unwrap().as_str().to_owned()
    };
    assert_eq!(text(Duration::ZERO), "0");
    assert_eq!(text(Duration::from_nanos(1)), "1");
    assert_eq!(text(Duration::from_millis(7)), "7");
    assert_eq!(text(Duration::from_micros(7001)), "8");
    assert_eq!(text(Duration::from_millis(MAX_TTL_MS)), MAX_TTL_MS.to_string());
}

#[test]
fn expirations_the_broker_cannot_wait_are_refused() {
    refused(&Message::new("").expiration(Duration::from_millis(MAX_TTL_MS + 1)));
    refused(&Message::new("").expiration(Duration::MAX));
    for raw in ["", "abc", "-1", "1.5", "1 ", " 1", "315360000001", "9999999999999999999999"] {
        refused(&Message::new("").with_properties(Properties::default().with_expiration(raw.into())));
    }
    for raw in ["0", "007", "+5", "315360000000"] {
        let properties = Properties::default().with_expiration(raw.into());
        Message::new("").with_properties(properties).check().unwrap();
    }
}

#[test]
fn delivery_modes_other_than_1_and_2_are_refused() {
    for mode in [0, 3, 255] {
        refused(&Message::new("").with_properties(Properties::default().with_delivery_mode(mode)));
    }
}

#[test]
fn timestamps_before_1970_are_refused() {
    let early = UNIX_EPOCH - Duration::from_secs(1);
    refused(&Message::new("").timestamp(early));
    refused(&Message::new("").header("k", early));
    let message = Message::new("").timestamp(UNIX_EPOCH + Duration::from_millis(1900));
    assert_eq!(*message.properties().timestamp(), Some(1));
}

#[test]
fn every_rust_type_has_its_field() {
    assert_eq!(value(true), Value::Boolean(true));
    assert_eq!(value(-1i8), Value::ShortShortInt(-1));
    assert_eq!(value(-1i16), Value::ShortInt(-1));
    assert_eq!(value(-1i32), Value::LongInt(-1));
    assert_eq!(value(-1i64), Value::LongLongInt(-1));
    assert_eq!(value(1u8), Value::ShortShortUInt(1));
    assert_eq!(value(1u16), Value::ShortUInt(1));
    assert_eq!(value(1u32), Value::LongUInt(1));
    assert_eq!(value(1u64), Value::LongLongInt(1));
    assert_eq!(value(1usize), Value::LongLongInt(1));
    assert_eq!(value(1.5f32), Value::Float(1.5));
    assert_eq!(value(1.5f64), Value::Double(1.5));
    let text = Value::LongString("t".into());
    assert_eq!(value("t"), text);
    assert_eq!(value("t".to_owned()), text);
    let owned = "t".to_owned();
    assert_eq!(value(&owned), text);
    assert_eq!(owned, "t");
    assert_eq!(value(LongString::from("t")), text);
    let bytes = Value::ByteArray(vec![1, 2].into());
    assert_eq!(value(&[1u8, 2][..]), bytes);
    assert_eq!(value(b"\x01\x02"), bytes);
    assert_eq!(value(vec![1u8, 2]), bytes);
    assert_eq!(value(Bytes::from_static(b"\x01\x02")), bytes);
    assert_eq!(value(ByteArray::from(vec![1, 2])), bytes);
    assert_eq!(value(UNIX_EPOCH + Duration::from_secs(9)), Value::Timestamp(9));
    let decimal = DecimalValue { scale: 2, value: 314 };
    assert_eq!(value(decimal), Value::DecimalValue(decimal));
    let array = Value::FieldArray(vec![Value::Void].into());
    assert_eq!(value(vec![Value::Void]), array);
    assert_eq!(value(FieldArray::from(vec![Value::Void])), array);
    assert_eq!(value(table(Value::Void)), Value::FieldTable(table(Value::Void)));
    assert_eq!(value(()), Value::Void);
    assert_eq!(value(None::<i32>), Value::Void);
    assert_eq!(value(Some(5i32)), Value::LongInt(5));
    assert_eq!(value(Value::Boolean(false)), Value::Boolean(false));
    assert_eq!(value(SystemTime::UNIX_EPOCH), Value::Timestamp(0));
}

#[test]
fn unsigned_64_bit_headers_are_refused_where_they_do_not_fit() {
    let most = i64::MAX.unsigned_abs();
    assert_eq!(value(most), Value::LongLongInt(i64::MAX));
    assert_eq!((most + 1).into_value().unwrap_err().kind(), ErrorKind::InvalidArgument);
    refused(&Message::new("").header("k", most + 1));
    refused(&Message::new("").header("k", Some(u64::MAX)));
    refused(&Message::new("").header("k", usize::MAX));
}

#[test]
fn numbers_the_broker_dies_of_are_refused() {
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused(&Message::new("").header("k", number));
        refused(&Message::new("").header("k", number as f32));
        refused(&Message::new("").headers(table(Value::Double(number))));
        refused(&Message::new("").headers(table(Value::Float(number as f32))));
        refused(&Message::new("").header("k", vec![Value::Double(number)]));
    }
}

#[test]
fn short_string_fields_are_refused() {
    refused(&Message::new("").headers(table(Value::ShortString("s".into()))));
    refused(&Message::new("").header("k", table(Value::ShortString("s".into()))));
}

#[test]
fn extra_routes_must_be_arrays() {
    for key in ["CC", "BCC"] {
        refused(&Message::new("").header(key, "route"));
        Message::new("").header(key, vec![value("route")]).check().unwrap();
    }
}

#[test]
fn headers_nest_at_most_32_deep() {
    let array = |inner| Value::FieldArray(vec![inner].into());
    let nested = |levels, wrap: &dyn Fn(Value) -> Value| {
        let inner = (1..levels).fold(Value::Void, |inner, _| wrap(inner));
        Message::new("").headers(table(inner))
    };
    for wrap in [&array as &dyn Fn(Value) -> Value, &|inner| Value::FieldTable(table(inner))] {
        nested(32, wrap).check().unwrap();
        refused(&nested(33, wrap));
        refused(&nested(500, wrap));
    }
}

#[test]
fn headers_accumulate_and_replace() {
    let message = Message::new("").header("a", 1).header("b", 2).header("a", 3);
    assert_eq!(message.header_value("a"), Some(&Value::LongInt(3)));
    assert_eq!(message.header_value("b"), Some(&Value::LongInt(2)));
    assert_eq!(message.header_value("c"), None);
    let message = message.headers(table(Value::Void));
    assert_eq!(message.header_value("a"), None);
}

#[test]
fn check_short_takes_255_bytes_and_no_more() {
    check_short("x", &"x".repeat(255)).unwrap();
    assert_eq!(check_short("x", &long()).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // Bytes count, not characters.
    assert!(check_short("x", &"ü".repeat(128)).is_err());
}
