//! An AMQP URI: every one is taken or refused with a reason, and a password is in no reason and no debug output.

use murano_messaging::Options;

/// Long enough that it stands nowhere by chance.
const PASSWORD: &str = "hunter2hunter2";

pub fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    look_at(&text);
    let with_password = match text.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://u:{PASSWORD}@{rest}"),
        None => format!("amqps://u:{PASSWORD}@{text}"),
    };
    // Where the text itself has none of it.
    if !text.contains("hunter2") {
        let said = look_at(&with_password);
        assert!(!said.contains(PASSWORD), "the password is in {said}");
    }
}

fn look_at(uri: &str) -> String {
    match Options::from_uri(uri) {
        Ok(options) => {
            assert!(!options.host_list().is_empty() || uri.starts_with("memory"), "{uri} has no host");
            format!("{options:?}")
        }
        Err(error) => format!("{error} {error:?}"),
    }
}
