//! Frames and methods as bytes: a writer that has no opinion on what is valid.

pub const METHOD: u8 = 1;
pub const HEADER: u8 = 2;
pub const BODY: u8 = 3;
pub const HEARTBEAT: &[u8] = &[8, 0, 0, 0, 0, 0, 0, 0xCE];

/// Class and method ids.
pub type Id = (u16, u16);

pub const START: Id = (10, 10);
pub const START_OK: Id = (10, 11);
pub const TUNE: Id = (10, 30);
pub const TUNE_OK: Id = (10, 31);
pub const OPEN: Id = (10, 40);
pub const OPEN_OK: Id = (10, 41);
pub const CLOSE: Id = (10, 50);
pub const CLOSE_OK: Id = (10, 51);
pub const BLOCKED: Id = (10, 60);
pub const UPDATE_SECRET_OK: Id = (10, 71);
pub const CHANNEL_OPEN: Id = (20, 10);
pub const CHANNEL_OPEN_OK: Id = (20, 11);
pub const FLOW: Id = (20, 20);
pub const CHANNEL_CLOSE: Id = (20, 40);
pub const CHANNEL_CLOSE_OK: Id = (20, 41);
pub const DECLARE: Id = (50, 10);
pub const DECLARE_OK: Id = (50, 11);
pub const QOS: Id = (60, 10);
pub const QOS_OK: Id = (60, 11);
pub const CONSUME: Id = (60, 20);
pub const CONSUME_OK: Id = (60, 21);
pub const CANCEL: Id = (60, 30);
pub const CANCEL_OK: Id = (60, 31);
pub const PUBLISH: Id = (60, 40);
pub const RETURN: Id = (60, 50);
pub const DELIVER: Id = (60, 60);
pub const GET: Id = (60, 70);
pub const GET_OK: Id = (60, 71);
pub const ACK: Id = (60, 80);
pub const NACK: Id = (60, 120);
pub const SELECT: Id = (85, 10);
pub const SELECT_OK: Id = (85, 11);

/// A frame whose size field says the truth.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    sized_frame(kind, channel, payload.len() as u32, payload)
}

/// A frame whose size field says what it is told to.
pub fn sized_frame(kind: u8, channel: u16, size: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend(channel.to_be_bytes());
    out.extend(size.to_be_bytes());
    out.extend(payload);
    out.push(0xCE);
    out
}

pub fn method(channel: u16, (class, id): Id, fields: &[u8]) -> Vec<u8> {
    frame(METHOD, channel, &[&class.to_be_bytes(), &id.to_be_bytes(), fields].concat())
}

pub fn short(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut out = vec![u8::try_from(text.len()).expect("a short string is short")];
    out.extend(text);
    out
}

pub fn long(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut out = (text.len() as u32).to_be_bytes().to_vec();
    out.extend(text);
    out
}

/// Tables nested to `levels` levels, with the length in front.
pub fn nested_table(levels: usize) -> Vec<u8> {
    // From the inside out, and reversed at the end: each level would copy all those inside it otherwise.
    let (mut reversed, mut length) = (Vec::new(), 0u32);
    for level in 0..levels {
        reversed.extend(length.to_le_bytes());
        length += 4;
        if level + 1 < levels {
            reversed.extend(*b"Fk\x01");
            length += 3;
        }
    }
    reversed.reverse();
    reversed
}

/// A content header of class basic. `properties` are the flags and the list.
pub fn header(channel: u16, body_size: u64, properties: &[u8]) -> Vec<u8> {
    frame(HEADER, channel, &[&[0, 60, 0, 0][..], &body_size.to_be_bytes(), properties].concat())
}

/// No properties at all.
pub const BARE: &[u8] = &[0, 0];

pub fn body(channel: u16, chunk: &[u8]) -> Vec<u8> {
    frame(BODY, channel, chunk)
}

pub fn deliver(channel: u16, consumer_tag: &str, delivery_tag: u64) -> Vec<u8> {
    let fields =
        [short(consumer_tag), delivery_tag.to_be_bytes().to_vec(), vec![0], short(""), short("q")].concat();
    method(channel, DELIVER, &fields)
}

/// A whole message with an empty list of properties.
pub fn message(channel: u16, consumer_tag: &str, delivery_tag: u64, text: &[u8]) -> Vec<u8> {
    let mut out = deliver(channel, consumer_tag, delivery_tag);
    out.extend(header(channel, text.len() as u64, BARE));
    if !text.is_empty() {
        out.extend(body(channel, text));
    }
    out
}

/// The answer to a `basic.get`: a message of one byte, the last in the queue.
pub fn got(channel: u16, delivery_tag: u64) -> Vec<u8> {
    let fields = [&delivery_tag.to_be_bytes()[..], &[0], &short(""), &short("q"), &[0; 4]].concat();
    [method(channel, GET_OK, &fields), header(channel, 1, BARE), body(channel, b"x")].concat()
}

/// `connection.close` or `channel.close`.
pub fn close(channel: u16, id: Id, code: u16, text: impl AsRef<[u8]>) -> Vec<u8> {
    method(channel, id, &[&code.to_be_bytes()[..], &short(text), &[0, 0, 0, 0]].concat())
}

pub fn start(properties: &[u8], mechanisms: &str) -> Vec<u8> {
    method(0, START, &[&[0, 9], properties, &long(mechanisms), &long("en_US")].concat())
}

pub fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Vec<u8> {
    let fields = [&channel_max.to_be_bytes()[..], &frame_max.to_be_bytes(), &heartbeat.to_be_bytes()];
    method(0, TUNE, &fields.concat())
}
