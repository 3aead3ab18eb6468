//! rabbitmq-c: a C program that is compiled when the benchmark starts, so that building it needs no C library.

use std::{
    env,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::plan::Failure;

const SOURCE: &str = include_str!("../peers/rabbitmq_c.c");

/// The compiled program and the version of the library.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// The library's version.
    pub version: String,
}

/// Compiles the program, beside the one that is running; the error is what the report says instead of figures.
pub fn compile() -> Result<Program, String> {
    build().map_err(|failure| failure.to_string())
}

fn build() -> Result<Program, Failure> {
    let header = cc(&["-E", "-x", "c", "-"], "#include <amqp_tcp_socket.h>\n")?;
    if !header.status.success() {
        return Err("not installed: apt-get install librabbitmq-dev".into());
    }
    let path = env::current_exe()?.with_file_name("murano-bench-rabbitmq-c");
    let output = path.to_str().ok_or("the target directory's path is not UTF-8")?;
    let built = cc(&["-O2", "-x", "c", "-", "-lrabbitmq", "-o", output], SOURCE)?;
    if !built.status.success() {
        return Err(format!("does not compile: {}", String::from_utf8_lossy(&built.stderr)).into());
    }
    let version = version(&path)?;
    Ok(Program { path, version })
}

fn cc(arguments: &[&str], source: &str) -> Result<Output, Failure> {
    let started = Command::new("cc")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut compiler = match started {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("no C compiler: apt-get install gcc librabbitmq-dev".into());
        }
        started => started?,
    };
    if let Some(mut stdin) = compiler.stdin.take() {
        // A compiler that stops reading says why on its own.
        let _ = stdin.write_all(source.as_bytes());
    }
    Ok(compiler.wait_with_output()?)
}

fn version(program: &Path) -> Result<String, Failure> {
    let output = Command::new(program).arg("version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
