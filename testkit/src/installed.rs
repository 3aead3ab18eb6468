//! Where the programs of `RabbitMQ` are: on this machine, or in a folder that holds another Debian.

use std::process::Command;

/// Names the folder of the other Debian. Inside it, `/tmp` must be this machine's and `/proc` mounted, which
/// `scripts/rabbitmq4.sh` does.
const ROOT: &str = "MURANO_TEST_RABBITMQ_ROOT";

/// A command for a program of `RabbitMQ`, or for one that knows the users of the system it is installed on.
pub(crate) fn command(program: &str) -> Command {
    let Some(root) = std::env::var_os(ROOT) else { return Command::new(program) };
    let mut command = Command::new("chroot");
    command.arg(root).arg(program).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}
