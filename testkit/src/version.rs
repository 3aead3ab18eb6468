//! The version that a broker says it is.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Major and minor version of the broker at an `amqp://` URI with a user and a port, from the server properties of its
/// `connection.start`.
pub fn broker_version(uri: &str) -> (u16, u16) {
    let address = uri.rsplit('@').next().and_then(|rest| rest.split(['/', ',']).next()).unwrap_or_default();
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a deadline above zero is valid");
    stream.write_all(b"AMQP\0\0\x09\x01").expect("the broker reads");
    let mut head = [0; 7];
    stream.read_exact(&mut head).expect("the broker answers with a frame");
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload).expect("the frame is whole");
    parse(&payload).unwrap_or_else(|| panic!("no version in {}", String::from_utf8_lossy(&payload)))
}

/// Finds the long string `version` in the table of properties.
fn parse(payload: &[u8]) -> Option<(u16, u16)> {
    const KEY: &[u8] = b"\x07versionS";
    let at = payload.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let length = u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?) as usize;
    let text = std::str::from_utf8(payload.get(at + 4..at + 4 + length)?).ok()?;
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}
