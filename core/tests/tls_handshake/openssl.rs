//! `openssl s_server`: another implementation than ours at the other end.

use std::{
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::Directory;

/// What the server shows, in PEM.
pub struct Shown {
    pub certificate: String,
    pub key: String,
    /// What it sends along, in this order.
    pub chain: Vec<String>,
}

/// A server on a port of its own, ended when it is dropped.
pub struct OpenSsl {
    pub port: u16,
    _child: Child,
    /// It ends with its input.
    _input: ChildStdin,
    /// It is told of a reader that is gone by a signal.
    _output: Lines<BufReader<ChildStdout>>,
    _folder: Directory,
}

impl OpenSsl {
    pub async fn start(shown: &Shown, arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let folder = Directory::new(&format!("s_server-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let write = |name: &str, text: &str| -> PathBuf { folder.write(name, text) };
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-accept", "127.0.0.1:0", "-naccept", "100"])
            .arg("-cert")
            .arg(write("cert.pem", &shown.certificate))
            .arg("-key")
            .arg(write("key.pem", &shown.key))
            .args(arguments);
        if !shown.chain.is_empty() {
            command.arg("-cert_chain").arg(write("chain.pem", &shown.chain.concat()));
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("openssl is installed: run `scripts/setup.sh openssl`");
        let input = child.stdin.take().expect("it is piped");
        let mut output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let port = loop {
            let Some(line) = output.next_line().await.expect("readable") else {
                let mut why = String::new();
                let mut stderr = child.stderr.take().expect("it is piped");
                stderr.read_to_string(&mut why).await.expect("readable");
                panic!("s_server ended: {why}");
            };
            if let Some(address) = line.strip_prefix("ACCEPT ") {
                break address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
            }
        };
        Self { port, _child: child, _input: input, _output: output, _folder: folder }
    }
}
