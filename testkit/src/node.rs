//! One private `RabbitMQ` node: its own ports, folders, cookie and name.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::sync::OnceCell;

use crate::{Certs, free_port, installed, unique};

/// How long a node may take to answer on its AMQP port.
const START: Duration = Duration::from_secs(120);

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct NodeBuilder {
    tls: bool,
    client_certificates: bool,
    config: String,
    plugins: Vec<String>,
    cookie: Option<String>,
}

impl NodeBuilder {
    /// Listens for TLS too, with certificates made on the spot.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Listens for TLS and wants a client certificate.
    pub fn client_certificates(mut self) -> Self {
        self.tls = true;
        self.client_certificates = true;
        self
    }

    /// Adds a line to `rabbitmq.conf`.
    pub fn config(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// Enables a plugin.
    pub fn plugin(mut self, name: &str) -> Self {
        self.plugins.push(name.to_owned());
        self
    }

    pub(crate) fn cookie(mut self, cookie: &str) -> Self {
        self.cookie = Some(cookie.to_owned());
        self
    }

    /// Starts the node and waits until it answers.
    pub async fn start(self) -> Node {
        tokio::task::spawn_blocking(move || Node::launch(&self))
            .await
            .expect("starting a node does not panic")
    }
}

/// A private node; it is killed, and its folder removed, when this is dropped or the process ends.
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    dist_port: u16,
    certs: Option<Certs>,
    wrapper: Option<Child>,
    watchdog: Child,
}

impl Node {
    /// A node without anything special.
    pub async fn start() -> Self {
        NodeBuilder::default().start().await
    }

    /// A node with options.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    fn launch(options: &NodeBuilder) -> Self {
        let name = unique("t");
        let folder = std::env::temp_dir().join(format!("murano-testkit-{name}"));
        for part in ["", "home", "mnesia", "log"] {
            fs::create_dir_all(folder.join(part)).expect("the folder for temporary files can be written");
        }
        let (port, dist_port) = (free_port(), free_port());
        let tls_port = options.tls.then(free_port);
        let certs = tls_port.map(|_| Certs::generate(&folder).expect("certificates can be made"));

        let mut config = String::from("loopback_users = none\nlog.file.level = warning\n");
        config.push_str(&options.config);
        if let (Some(port), Some(certs)) = (tls_port, &certs) {
            let verify = if options.client_certificates { "verify_peer" } else { "verify_none" };
            write!(
                config,
                "listeners.ssl.default = {port}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = {verify}\n\
                 ssl_options.fail_if_no_peer_cert = {}\n",
                certs.ca.display(),
                certs.server.display(),
                certs.server_key.display(),
                options.client_certificates,
            )
            .expect("writing to a String succeeds");
        }
        fs::write(folder.join("rabbitmq.conf"), config).expect("the node's folder can be written");
        fs::write(folder.join("plugins"), format!("[{}].", options.plugins.join(",")))
            .expect("the node's folder can be written");
        // `su` puts the limit back to 1024, which is some 800 connections.
        fs::write(folder.join("env"), "ulimit -n 4096 2>/dev/null || true\n")
            .expect("the node's folder can be written");
        let cookie = options.cookie.clone().unwrap_or_else(|| unique("cookie"));
        let cookie_file = folder.join("home/.erlang.cookie");
        fs::write(&cookie_file, cookie).expect("the node's folder can be written");
        set_mode(&cookie_file, "400");
        if is_root() {
            run(installed::command("chown").arg("-R").arg("rabbitmq:rabbitmq").arg(&folder));
        }
        let mut node = Self {
            name,
            watchdog: watchdog(&folder),
            folder,
            port,
            tls_port,
            dist_port,
            certs,
            wrapper: None,
        };
        node.start_again_blocking();
        node
    }

    /// Environment of the server and its tools.
    fn command(&self, program: &str) -> Command {
        let mut command = installed::command(program);
        command
            .env("RABBITMQ_NODENAME", self.node_name())
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.dist_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", self.folder.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.folder.join("log"))
            .env("RABBITMQ_CONFIG_FILE", self.folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.folder.join("plugins"))
            .env("RABBITMQ_PID_FILE", self.pid_file())
            .env("RABBITMQ_CONF_ENV_FILE", self.folder.join("env"))
            // One scheduler: several nodes share two cores here.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 2:2 +sbwt none")
            .env("HOME", self.folder.join("home"))
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    fn start_again_blocking(&mut self) {
        // A pid that is not true any more must not be taken for the new one.
        let _ = fs::remove_file(self.pid_file());
        let out = fs::File::create(self.folder.join("log/out")).expect("the node's folder can be written");
        let err = out.try_clone().expect("a file handle can be duplicated");
        let wrapper = self
            .command("rabbitmq-server")
            .stdout(out)
            .stderr(err)
            .spawn()
            .expect("rabbitmq-server is installed: run `scripts/setup.sh rabbitmq`, or apt-get install rabbitmq-server");
        self.wrapper = Some(wrapper);
        let until = Instant::now() + START;
        while !(answers(self.port) && self.read_pid().is_some()) {
            let gone = self.wrapper.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(
                gone.is_none() && Instant::now() < until,
                "the node {} did not start ({gone:?}):\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let pid = self.read_pid().unwrap_or_default();
        // For the watchdog, which ends the node if this process cannot.
        fs::write(self.folder.join("watched"), pid.to_string()).expect("the node's folder can be written");
    }

    fn log(&self) -> String {
        let mut text = fs::read_to_string(self.folder.join("log/out")).unwrap_or_default();
        let log = self.folder.join(format!("log/{}.log", self.node_name()));
        text.push_str(&fs::read_to_string(log).unwrap_or_default());
        let tail: Vec<&str> = text.lines().rev().take(40).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("mnesia/pid")
    }

    fn read_pid(&self) -> Option<u32> {
        fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()
    }

    /// The Erlang node's name.
    pub fn node_name(&self) -> String {
        format!("{}@localhost", self.name)
    }

    /// `amqp://` URI of the node, as the user guest.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.port)
    }

    /// `amqps://` URI of the node, by the name in its certificate.
    pub fn tls_uri(&self) -> String {
        format!("amqps://guest:guest@localhost:{}", self.tls_port.expect("the node was started with tls()"))
    }

    /// [`Self::tls_uri`] and [`Self::certs`] of a node with TLS.
    pub fn tls(&self) -> Option<(String, &Certs)> {
        self.certs.as_ref().map(|certs| (self.tls_uri(), certs))
    }

    /// The AMQP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificates of a node with TLS.
    pub fn certs(&self) -> &Certs {
        self.certs.as_ref().expect("the node was started with tls()")
    }

    /// The process id of the Erlang machine.
    pub fn pid(&self) -> u32 {
        self.read_pid().expect("a node that runs has a pid file")
    }

    /// Runs `rabbitmqctl` against this node; `Err` with what it printed when it fails.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
        command.arg("-q").arg("-n").arg(self.node_name()).args(arguments).kill_on_drop(true);
        let output = command.output().await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    /// Runs an Erlang expression in the node.
    pub async fn eval(&self, expression: &str) -> Result<String, String> {
        self.ctl(&["eval", expression]).await
    }

    /// SIGKILL to the Erlang machine.
    pub fn kill(&mut self) {
        if let Some(pid) = self.read_pid() {
            signal("KILL", pid);
        }
        if let Some(mut wrapper) = self.wrapper.take() {
            // The shell around it ends with it.
            let _ = wrapper.wait();
        }
    }

    /// Stops the node in order.
    pub async fn stop(&mut self) {
        let pid = self.pid();
        signal("TERM", pid);
        if let Some(mut wrapper) = self.wrapper.take() {
            let _ = tokio::task::spawn_blocking(move || wrapper.wait()).await;
        }
    }

    /// Starts the node again on the same ports and data.
    pub fn start_again(&mut self) {
        tokio::task::block_in_place(|| self.start_again_blocking());
    }

    /// SIGSTOP: the node keeps its sockets and answers nothing, from the moment this returns.
    pub fn freeze(&self) {
        let pid = self.pid();
        signal("STOP", pid);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_stopped(pid) {
            assert!(Instant::now() < deadline, "process {pid} does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        signal("CONT", self.pid());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        // The watchdog has nothing left to do.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A shell that ends the node and removes its folder when this process is gone without having done so.
fn watchdog(folder: &Path) -> Child {
    let script = r#"
        while kill -0 "$0" 2>/dev/null; do sleep 0.5; done
        kill -9 "$(cat "$1/watched")" 2>/dev/null
        sleep 0.2
        rm -rf "$1"
    "#;
    Command::new("setsid")
        .args(["sh", "-c", script, &std::process::id().to_string()])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell can be started")
}

/// Whether an AMQP broker answers on `port`.
fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut first = [0];
    stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
        && stream.write_all(b"AMQP\0\0\x09\x01").is_ok()
        && stream.read_exact(&mut first).is_ok()
        && first == [1]
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn signal(name: &str, pid: u32) {
    // A process that is gone has what it was to get.
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// Whether all threads of a process have stopped: each does when it comes to see the signal, one after the other.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses and may have any character in it.
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

fn set_mode(path: &Path, mode: &str) {
    run(Command::new("chmod").arg(mode).arg(path));
}

fn run(command: &mut Command) {
    let status = command.status();
    assert!(status.as_ref().is_ok_and(std::process::ExitStatus::success), "{command:?}: {status:?}");
}

/// The URI of a node that tests share if they do not disturb it: the one in `MURANO_TEST_AMQP`, or one for this process.
pub async fn shared_node() -> &'static str {
    static SHARED: OnceCell<(String, Option<Node>)> = OnceCell::const_new();
    let (uri, _) = SHARED
        .get_or_init(|| async {
            if let Ok(uri) = std::env::var("MURANO_TEST_AMQP") {
                (uri, None)
            } else {
                let node = Node::start().await;
                (node.uri(), Some(node))
            }
        })
        .await;
    uri
}
