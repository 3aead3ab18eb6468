//! Calls and casts.

use murano_messaging::oslo::{Target, rpc::Client};
use pyo3::{prelude::*, types::PyDict};
use serde_json::Value;

use super::{
    RpcTransport,
    errors::Outcome,
    in_runtime,
    json::{self, Json},
};
use crate::{
    arguments::{given, text, unexpected},
    errors,
    outcome::run,
    process::Owned,
    time,
    wait::Api,
};

/// What calls the methods of a target.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct RpcCaller {
    core: Owned<Client>,
    api: Api,
}

/// The target that keyword arguments describe, without those that are none of its fields.
pub fn target<'py>(
    options: Option<&Bound<'py, PyDict>>,
    mut other: impl FnMut(&str, Bound<'py, PyAny>) -> PyResult<()>,
) -> PyResult<Target> {
    let mut target = Target::topic("");
    for option in given(options) {
        let (key, value) = option?;
        match key.as_str() {
            "topic" => target.topic = text(&key, &value)?,
            "exchange" => target.exchange = Some(text(&key, &value)?),
            "server" => target.server = Some(text(&key, &value)?),
            "namespace" => target.namespace = Some(text(&key, &value)?),
            "version" => target.version = Some(text(&key, &value)?),
            _ => other(&key, value)?,
        }
    }
    if target.topic.is_empty() {
        return Err(errors::invalid("the topic is empty"));
    }
    Ok(target)
}

#[pymethods]
impl RpcTransport {
    /// Prepares calls and casts to a target.
    #[pyo3(signature = (**options))]
    fn caller(&self, options: Option<&Bound<'_, PyDict>>) -> PyResult<RpcCaller> {
        let (mut timeout, mut monitor, mut cap) = (None, None, None);
        let target = target(options, |key, value| {
            match key {
                "timeout" => timeout = Some(time::duration(key, &value)?),
                "monitor" => monitor = Some(time::duration(key, &value)?),
                "version_cap" => cap = Some(text(key, &value)?),
                _ => return Err(unexpected("rpc", key)),
            }
            Ok(())
        })?;
        let mut core = Client::new(self.core.get()?, target);
        if let Some(timeout) = timeout {
            core = core.timeout(timeout);
        }
        if let Some(monitor) = monitor {
            core = core.monitor(monitor);
        }
        if let Some(cap) = cap {
            core = core.version_cap(cap);
        }
        Ok(RpcCaller { core: Owned::new(core), api: self.api })
    }
}

#[pymethods]
impl RpcCaller {
    /// Calls a method and waits for its result.
    fn call<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyAny>,
        args: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (core, method) = (self.core.get()?.clone(), text("method", method)?);
        let (args, context) = (json::map("an argument", args)?, json::context(context)?);
        let work = in_runtime(py, async move {
            Ok(Outcome(core.call::<Value>(&context, &method, args).await.map(Json)))
        })?;
        run(py, self.api, work)
    }

    /// Sends a request that nobody answers, to one server or with `fanout` to all of them.
    #[pyo3(signature = (method, args, context, fanout=false))]
    fn cast<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyAny>,
        args: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        fanout: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (mut core, method) = (self.core.get()?.clone(), text("method", method)?);
        if fanout {
            core = core.with_target(|target| target.fanout(true));
        }
        let (args, context) = (json::map("an argument", args)?, json::context(context)?);
        let work = in_runtime(py, async move { Ok(Outcome(core.cast(&context, &method, args).await)) })?;
        run(py, self.api, work)
    }

    /// Whether a version is within the cap.
    fn can_send_version(&self, version: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.core.get()?.can_send_version(&text("version", version)?))
    }
}
