//! Hosts as they may be given.

use murano_messaging::Host;
use pyo3::{
    exceptions::PyTypeError,
    prelude::*,
    types::{PyInt, PyString, PyTuple},
};

use crate::{
    arguments::{self, utf8},
    errors,
};

/// What cannot be a host, or cannot be one alone: a URI, or several names in one.
fn not_a_host(text: &str) -> PyErr {
    // What is before an @ may be a password.
    let shown = text.rsplit('@').next().unwrap_or_default();
    errors::invalid(format!(
        "'{shown}' is not a host: name, name:port, [IPv6]:port or (name, port); several are a list, and a URI is the \
         first argument"
    ))
}

fn host(given: &Bound<'_, PyAny>, port: u16) -> PyResult<Host> {
    let (text, name, port) = if let Ok(pair) = given.cast::<PyTuple>() {
        let (name, port) = pair.extract::<(String, u16)>().map_err(|_| {
            PyTypeError::new_err("a host that is a pair must be a str and an int up to 65535")
        })?;
        (name.clone(), name, port)
    } else if let Ok(text) = given.cast::<PyString>() {
        let text = utf8("a host", text)?;
        let (name, after) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(|| not_a_host(&text))?,
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match after.strip_prefix(':') {
            Some(number) => number.parse().map_err(|_| not_a_host(&text))?,
            None if after.is_empty() => port,
            None => return Err(not_a_host(&text)),
        };
        let name = name.to_owned();
        (text, name, port)
    } else {
        return Err(errors::wrong_type("a host", "a str or a pair of str and int", given));
    };
    if name.is_empty() || text.contains([',', '/', '@', ' ']) {
        return Err(not_a_host(&text));
    }
    Ok(Host::new(name, port))
}

/// One host, or several.
pub fn hosts(given: &Bound<'_, PyAny>, port: u16) -> PyResult<Vec<Host>> {
    let is_pair = given.cast::<PyTuple>().is_ok_and(|pair| {
        pair.len() == 2 && pair.get_item(1).is_ok_and(|port| port.is_instance_of::<PyInt>())
    });
    if is_pair || given.is_instance_of::<PyString>() {
        return Ok(vec![host(given, port)?]);
    }
    let each = arguments::items("hosts", "a str, a pair of str and int, or a list of them", given)?;
    let hosts = each.map(|given| host(&given?, port)).collect::<PyResult<Vec<_>>>()?;
    if hosts.is_empty() {
        return Err(errors::invalid("hosts is empty: give one at least, or leave it out"));
    }
    Ok(hosts)
}
