//! A client whose server sends the bytes. The first byte: whether an opened connection comes before them, and how many bytes
//! come at once; the next eight: how the client is used.

use std::sync::Arc;

use murano_messaging::{Connecting, Connector, Host, Stream, TlsOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Rng,
    bytes::{OPEN_OK, method, start, tune},
    case, converse,
};

struct Server {
    bytes: Vec<u8>,
    at_once: usize,
}

impl Connector for Server {
    fn connect<'a>(&'a self, _: &'a Host, _: Option<&'a TlsOptions>) -> Connecting<'a> {
        Box::pin(async move {
            let (ours, theirs) = tokio::io::duplex(self.at_once);
            let bytes = self.bytes.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(theirs);
                let mut heard = [0; 4096];
                let mut left = bytes.as_slice();
                // It listens all the time, so that what the client does not read is the only thing to hold it up.
                loop {
                    tokio::select! {
                        biased;
                        count = write.write(left), if !left.is_empty() => match count {
                            Ok(count) => left = &left[count..],
                            Err(_) => return,
                        },
                        count = read.read(&mut heard) => if !matches!(count, Ok(1..)) { return },
                    }
                }
            });
            Ok(Stream::new(ours, "fuzzer"))
        })
    }
}

pub fn run(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (choices, rest) = rest.split_at(rest.len().min(24));
    let opened = [start(&[0; 4], "PLAIN"), tune(3, 4096, 0), method(0, OPEN_OK, &[0])].concat();
    let bytes = if first & 1 == 1 { [&opened, rest].concat() } else { rest.to_vec() };
    let at_once = [65_536, 4096, 7, 1][usize::from(first >> 1) % 4];
    converse(case::run(Arc::new(Server { bytes, at_once }), Rng::of(choices)));
}
