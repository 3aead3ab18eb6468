//! A URI and keyword arguments as the options of the core.

use std::sync::Arc;

use murano_messaging::{Mechanism, Options, Recovery};
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyDict, PyString, PyType},
};

use super::{
    hosts::hosts,
    tls::{self, Tls},
};
use crate::{
    arguments::{self, flag, number, one_of, text},
    errors::{self, OrPyErr},
    service::{self, Source},
    time, value,
    wait::Api,
};

const MECHANISMS: [(&str, Mechanism); 3] =
    [("plain", Mechanism::Plain), ("amqplain", Mechanism::AmqPlain), ("external", Mechanism::External)];

fn recovery(given: &Bound<'_, PyAny>) -> PyResult<Recovery> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    if let Ok(enabled) = given.cast::<PyBool>() {
        return Ok(Recovery { enabled: enabled.is_true(), ..Recovery::default() });
    }
    if !given.is_instance(CLASS.import(given.py(), "murano_messaging._types", "Recovery")?)? {
        return Err(errors::wrong_type("recovery", "a bool or a Recovery", given));
    }
    let duration = |name: &str| time::duration(name, &given.getattr(name)?);
    let flag = |name: &str| flag(name, &given.getattr(name)?);
    let max_elapsed = given.getattr("max_elapsed")?;
    let max_attempts = given.getattr("max_attempts")?;
    Ok(Recovery {
        enabled: flag("enabled")?,
        retry_initial: flag("retry_initial")?,
        max_attempts: (!max_attempts.is_none()).then(|| number("max_attempts", &max_attempts)).transpose()?,
        max_elapsed: (!max_elapsed.is_none())
            .then(|| time::duration("max_elapsed", &max_elapsed))
            .transpose()?,
        initial_delay: duration("initial_delay")?,
        max_delay: duration("max_delay")?,
        refused_for: duration("refused_for")?,
        republish: flag("republish")?,
    })
}

/// The options, and the function that knows the credentials if one was given.
pub fn options(
    py: Python<'_>,
    api: Api,
    uri: Option<&Bound<'_, PyAny>>,
    given: Option<&Bound<'_, PyDict>>,
) -> PyResult<(Options, Option<Arc<Source>>)> {
    let mut options = match uri {
        Some(uri) => Options::from_uri(&text("uri", uri)?).or_py(py)?,
        None => Options::new(),
    };
    let mut tls = Tls::default();
    let mut listed = None;
    let mut source = None;
    let mut user: (Option<String>, Option<String>) = (None, None);
    let mut window = (1000, 64 << 20);
    let mut recover = Recovery::default();
    let mut retry_initial = false;
    for option in arguments::given(given) {
        let (key, given) = option?;
        options = match key.as_str() {
            "hosts" => {
                listed = Some(given.clone());
                options
            }
            "username" => {
                user.0 = Some(text(&key, &given)?);
                options
            }
            "password" => {
                user.1 = Some(text(&key, &given)?);
                options
            }
            "credentials" => {
                let known = source.insert(Source::new(&given, api)?).clone();
                options.credentials_from(move || service::credentials(known.clone()))
            }
            "vhost" => options.vhost(text(&key, &given)?),
            "mechanism" => {
                let lower = PyString::new(py, &text(&key, &given)?.to_ascii_lowercase());
                options.mechanism(one_of(&key, &lower, &MECHANISMS)?)
            }
            "connection_name" => options.connection_name(text(&key, &given)?),
            "client_properties" => (&value::table(&key, &given)?)
                .into_iter()
                .fold(options, |options, (key, value)| options.client_property(key.as_str(), value.clone())),
            "heartbeat" => options.heartbeat(time::duration(&key, &given)?),
            "frame_max" => options.frame_max(number(&key, &given)?),
            "channel_max" => options.channel_max(number(&key, &given)?),
            "connect_timeout" => options.connect_timeout(time::duration(&key, &given)?),
            "timeout" => options.operation_timeout(time::duration(&key, &given)?),
            "window_messages" => {
                window.0 = number(&key, &given)?;
                options
            }
            "window_bytes" => {
                window.1 = number(&key, &given)?;
                options
            }
            "mandatory" => options.mandatory(flag(&key, &given)?),
            "delivery_buffer" => options.delivery_buffer(number(&key, &given)?),
            "max_body_size" => options.max_body_size(number(&key, &given)?),
            "discard_oversize" => options.discard_oversize(flag(&key, &given)?),
            "recovery" => {
                recover = recovery(&given)?;
                options
            }
            "retry_initial" => {
                retry_initial = flag(&key, &given)?;
                options
            }
            "separate_publish_connection" => options.separate_publish_connection(flag(&key, &given)?),
            "short_lived" => options.short_lived(flag(&key, &given)?),
            "seed" => options.seed(number(&key, &given)?),
            _ => {
                tls::take(&mut tls, &key, &given)?;
                options
            }
        };
    }
    recover.retry_initial |= retry_initial;
    options = options.window(window.0, window.1).recovery(recover);
    options = match user {
        (None, None) => options,
        _ if source.is_some() => {
            return Err(errors::invalid("username and password are given, or credentials, not both"));
        }
        (Some(name), Some(password)) => options.credentials(name, password),
        _ => return Err(errors::invalid("username and password are given together")),
    };
    options = tls.apply(options, uri.is_some())?;
    if let Some(listed) = listed {
        let port = if options.tls_options().is_some() { 5671 } else { 5672 };
        options = options.hosts(hosts(&listed, port)?);
    }
    Ok((options, source))
}
