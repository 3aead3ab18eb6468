//! What the tests beside other codecs run (`ffi-tests/codec`): reads `table HEX`, `header HEX` or `frame HEX` line by line, and
//! prints as JSON what our codec makes of the bytes.

use std::{fmt::Write, io::BufRead};

use murano_messaging::{FieldTable, Properties, Value, fuzzing};
use serde_json::{Map, Value as Json, json};

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A value without the name of its type: integers of all sizes are integers.
fn value(value: &Value) -> Json {
    match value {
        Value::Boolean(value) => json!(value),
        Value::ShortShortInt(number) => json!({"int": number.to_string()}),
        Value::ShortShortUInt(number) => json!({"int": number.to_string()}),
        Value::ShortInt(number) => json!({"int": number.to_string()}),
        Value::ShortUInt(number) => json!({"int": number.to_string()}),
        Value::LongInt(number) => json!({"int": number.to_string()}),
        Value::LongUInt(number) => json!({"int": number.to_string()}),
        Value::LongLongInt(number) => json!({"int": number.to_string()}),
        Value::Float(number) => json!({"float": hex(&f64::from(*number).to_be_bytes())}),
        Value::Double(number) => json!({"float": hex(&number.to_be_bytes())}),
        Value::DecimalValue(decimal) => json!({"decimal": [decimal.scale, decimal.value]}),
        Value::ShortString(text) => json!({"bytes": hex(text.as_str().as_bytes())}),
        Value::LongString(text) => json!({"bytes": hex(text.as_bytes())}),
        Value::ByteArray(bytes) => json!({"bytes": hex(bytes.as_slice())}),
        Value::FieldArray(array) => {
            json!({"array": array.as_slice().iter().map(self::value).collect::<Vec<_>>()})
        }
        Value::Timestamp(seconds) => json!({"time": seconds.to_string()}),
        Value::FieldTable(inner) => table(inner),
        Value::Void => Json::Null,
    }
}

fn table(table: &FieldTable) -> Json {
    let entries: Map<String, Json> =
        table.inner().iter().map(|(key, entry)| (hex(key.as_str().as_bytes()), value(entry))).collect();
    json!({"table": entries})
}

fn properties(properties: &Properties) -> Json {
    let mut found = Map::new();
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
        ("cluster_id", properties.cluster_id()),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            found.insert(name.into(), json!({"bytes": hex(text.as_str().as_bytes())}));
        }
    }
    for (name, number) in [("delivery_mode", properties.delivery_mode()), ("priority", properties.priority())]
    {
        if let Some(number) = number {
            found.insert(name.into(), json!({"int": number.to_string()}));
        }
    }
    if let Some(seconds) = properties.timestamp() {
        found.insert("timestamp".into(), json!({"time": seconds.to_string()}));
    }
    if let Some(headers) = properties.headers() {
        found.insert("headers".into(), table(headers));
    }
    Json::Object(found)
}

fn main() {
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let (what, digits) = line.split_once(' ').expect("what, and hex digits");
        let bytes = bytes(digits);
        let found = match what {
            "table" => match fuzzing::table(&bytes) {
                Err(reason) => json!({"refused": reason}),
                Ok((length, _)) => match fuzzing::read_table(&bytes) {
                    Some(found) => json!({"read": table(&found), "length": length}),
                    None => json!({"refused": "a key is not UTF-8"}),
                },
            },
            "header" => match fuzzing::header(&bytes) {
                Err(reason) => json!({"refused": reason}),
                Ok(header) => match header.defect {
                    Some(defect) => json!({"refused": defect.reason}),
                    None => {
                        json!({"read": properties(&header.properties), "size": header.body_size.to_string()})
                    }
                },
            },
            "frame" => {
                let stream = fuzzing::frames(&bytes, bytes.len());
                match (stream.frames.first(), stream.violation) {
                    (Some(frame), _) => json!({"read": frame.text, "length": frame.length}),
                    (None, Some((code, text))) => json!({"refused": text, "code": code}),
                    (None, None) => json!({"more": true}),
                }
            }
            other => panic!("{other} is no kind of bytes"),
        };
        println!("{found}");
    }
}
