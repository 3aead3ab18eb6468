//! JSON that is not quite JSON, as Python writes it: `NaN`, the infinities, lone surrogates. It is not taken for what it
//! could mean; but whoever waits for an answer to it can be told so.

use serde_json::Value;

/// The value of such a text: `null` for numbers that JSON has not, U+FFFD for surrogates without their other half.
pub(super) fn from_json(body: &[u8]) -> Option<Value> {
    serde_json::from_str(&strict(&String::from_utf8_lossy(body))).ok()
}

fn strict(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(first) = rest.chars().next() {
        let taken = match first {
            '"' => {
                in_string = !in_string;
                out.push('"');
                1
            }
            '\\' if in_string => escape(rest, &mut out),
            'N' | 'I' | '-' if !in_string => match number(rest) {
                Some(name) => {
                    out.push_str("null");
                    name.len()
                }
                None => {
                    out.push(first);
                    1
                }
            },
            other => {
                out.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

fn number(rest: &str) -> Option<&'static str> {
    ["NaN", "Infinity", "-Infinity"].into_iter().find(|name| rest.starts_with(name))
}

/// Writes the escape that `rest` begins with, and returns its length.
fn escape(rest: &str, out: &mut String) -> usize {
    let pair = match unit(rest) {
        Some(0xd800..=0xdbff) => unit(rest.get(6..).unwrap_or_default()),
        Some(0xdc00..=0xdfff) => None,
        // Any other escape; what follows a backslash is a character of any length.
        _ => {
            let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..length]);
            return length;
        }
    };
    if matches!(pair, Some(0xdc00..=0xdfff)) {
        out.push_str(&rest[..12]);
        return 12;
    }
    out.push('\u{fffd}');
    6
}

/// The UTF-16 unit of an escape `\uXXXX`.
fn unit(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        for (text, expected) in [
            (r#"{"a": NaN, "b": [Infinity, -Infinity, -1]}"#, json!({"a": null, "b": [null, null, -1]})),
            (r#"{"NaN": "Infinity \" -Infinity \\"}"#, json!({"NaN": "Infinity \" -Infinity \\"})),
            (r#""\ud83d\ude00 \ud800 \udc00 \ud800\u0041 é\n""#, json!("😀 \u{fffd} \u{fffd} \u{fffd}A é\n")),
            (r#"{"plain": "\u00e9"}"#, json!({"plain": "é"})),
        ] {
            assert_eq!(from_json(text.as_bytes()), Some(expected), "{text}");
        }
        assert_eq!(from_json(b"\"\xff\""), Some(json!("\u{fffd}")));
    }

    #[test]
    fn what_is_no_json_at_all_is_not_read() {
        for text in ["", "{", "\"\\", "\"\\u", "\"\\ud800", "nan", "Nan", "\\u0041", "\"\\é\""] {
            assert_eq!(from_json(text.as_bytes()), None, "{text}");
        }
    }
}
