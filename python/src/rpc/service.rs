//! The requests of a server, for Python to answer.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use murano_messaging::{
    Event,
    events::Role,
    oslo::{
        Context, Failure, Target, Transport,
        rpc::{AckOn, Endpoint, RunningServer, Server},
    },
};
use pyo3::{prelude::*, types::PyDict};
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};

use super::{RpcTransport, caller::target, errors::Outcome, in_runtime, json};
use crate::{
    arguments::{number, one_of, unexpected},
    outcome::{IntoPython, run, run_fair},
    process::Owned,
    runtime, time,
    wait::Api,
};

const ACK_ON: [(&str, AckOn); 2] = [("dispatch", AckOn::Dispatch), ("done", AckOn::Done)];

type Answer = Result<Value, Failure>;

/// A request that was dispatched, on its way to a worker in Python.
struct Job {
    endpoint: usize,
    method: String,
    context: Context,
    args: Value,
    answer: oneshot::Sender<Answer>,
}

/// The requests that wait for a worker. One permit for each, so that one worker is woken for each.
struct Jobs {
    queue: Mutex<VecDeque<Job>>,
    ready: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    /// Has a worker answer a request. Without workers the server has ended.
    async fn answer(&self, endpoint: usize, method: String, context: Context, args: Value) -> Answer {
        let (answer, answered) = oneshot::channel();
        lock(&self.queue).push_back(Job { endpoint, method, context, args, answer });
        self.ready.add_permits(1);
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new("RuntimeError", "the server ended before the method did")),
        }
    }

    /// The next request; `None` when the server has ended.
    async fn next(&self) -> Option<Job> {
        self.ready.acquire().await.ok()?.forget();
        lock(&self.queue).pop_front()
    }

    fn close(&self) {
        self.ready.close();
        // Those who wait for their answers are told.
        lock(&self.queue).clear();
    }
}

/// The methods of an endpoint in Python: its namespaces, its version, its methods' names.
type Methods = (Vec<Option<String>>, String, Vec<String>);

fn endpoint(number: usize, (namespaces, version, methods): Methods, jobs: &Arc<Jobs>) -> Endpoint {
    let mut endpoint = Endpoint::new().version(version);
    let mut namespaces = namespaces.into_iter();
    if let Some(Some(first)) = namespaces.next() {
        endpoint = endpoint.namespace(first);
    }
    for legacy in namespaces {
        endpoint = endpoint.legacy_namespace(legacy.as_deref());
    }
    for method in methods {
        let (jobs, name) = (jobs.clone(), method.clone());
        endpoint = endpoint.method(method, move |context: Context, args: Value| {
            let (jobs, name) = (jobs.clone(), name.clone());
            async move { jobs.answer(number, name, context, args).await }
        });
    }
    endpoint
}

/// A server whose methods are in Python.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct RpcService {
    running: Owned<Arc<Mutex<Option<RunningServer>>>>,
    jobs: Owned<Arc<Jobs>>,
    api: Api,
}

impl IntoPython for RpcService {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, self)?.into_any())
    }
}

async fn start(
    transport: Transport,
    target: Target,
    methods: Vec<Methods>,
    concurrency: u16,
    ack_on: AckOn,
    api: Api,
) -> murano_messaging::oslo::Result<RpcService> {
    let jobs = Arc::new(Jobs { queue: Mutex::default(), ready: Semaphore::new(0) });
    let mut server = Server::new(&transport, target).concurrency(concurrency).ack_on(ack_on);
    for (number, methods) in methods.into_iter().enumerate() {
        server = server.endpoint(endpoint(number, methods, &jobs));
    }
    let mut events = transport.client().events();
    let running = server.start().await?;
    // Workers end with the client.
    let waiting = Arc::downgrade(&jobs);
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if matches!(event, Event::Closed { role: Role::Main, .. }) {
                break;
            }
        }
        if let Some(jobs) = waiting.upgrade() {
            jobs.close();
        }
    });
    let running = Owned::new(Arc::new(Mutex::new(Some(running))));
    Ok(RpcService { running, jobs: Owned::new(jobs), api })
}

#[pymethods]
impl RpcTransport {
    /// Starts a server: one tuple for each endpoint.
    #[pyo3(signature = (endpoints, concurrency, ack_on, **options))]
    fn serve<'py>(
        &self,
        py: Python<'py>,
        endpoints: Vec<Methods>,
        concurrency: &Bound<'py, PyAny>,
        ack_on: &Bound<'py, PyAny>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let target = target(options, |key, _| Err(unexpected("rpc_server", key)))?;
        let concurrency = number("concurrency", concurrency)?;
        let ack_on = one_of("ack_on", ack_on, &ACK_ON)?;
        let (transport, api) = (self.core.get()?.clone(), self.api);
        let start = start(transport, target, endpoints, concurrency, ack_on, api);
        let work = in_runtime(py, async move { Ok(Outcome(start.await)) })?;
        run(py, api, work)
    }
}

#[pymethods]
impl RpcService {
    /// The next request; `None` when the server has ended.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let jobs = self.jobs.get()?.clone();
        run_fair(py, self.api, async move { Ok(jobs.next().await) })
    }

    /// Takes no more requests, waits until those that were begun are answered, for `timeout` at most, and ends.
    fn stop<'py>(&self, py: Python<'py>, timeout: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let timeout = time::duration("timeout", timeout)?;
        let (running, jobs) = (self.running.get()?.clone(), self.jobs.get()?.clone());
        let work = in_runtime(py, async move {
            let running = lock(&running).take();
            if let Some(running) = running
                && tokio::time::timeout(timeout, running.stop()).await.is_err()
            {
                tracing::warn!(target: "murano_messaging::rpc", "methods have not ended {} s after the stop of their server", timeout.as_secs_f64());
            }
            jobs.close();
            Ok(())
        })?;
        run(py, self.api, work)
    }
}

impl IntoPython for Job {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let job = RpcJob {
            endpoint: self.endpoint,
            method: self.method,
            context: self.context,
            args: self.args,
            answer: Owned::new(Mutex::new(Some(self.answer))),
        };
        Ok(Bound::new(py, job)?.into_any())
    }
}

/// A request to answer.
#[pyclass(frozen, module = "murano_messaging._native")]
pub struct RpcJob {
    #[pyo3(get)]
    endpoint: usize,
    #[pyo3(get)]
    method: String,
    context: Context,
    args: Value,
    answer: Owned<Mutex<Option<oneshot::Sender<Answer>>>>,
}

impl RpcJob {
    fn answer(&self, py: Python<'_>, answer: Answer) -> PyResult<()> {
        if let Some(sender) = lock(self.answer.get()?).take() {
            // A server that was stopped does not wait any more.
            let _ = sender.send(answer);
            runtime::call_back(py);
        }
        Ok(())
    }
}

#[pymethods]
impl RpcJob {
    /// The context that the caller gave.
    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        json::map_to_python(py, self.context.entries())
    }

    /// The arguments.
    #[getter]
    fn args<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::to_python(py, &self.args)
    }

    /// The method returned this.
    fn done(&self, py: Python<'_>, result: &Bound<'_, PyAny>) -> PyResult<()> {
        let result = json::from_python("the result", result)?;
        self.answer(py, Ok(result))
    }

    /// The method raised this.
    fn failed(
        &self,
        py: Python<'_>,
        class_name: String,
        module: String,
        message: String,
        traceback: Vec<String>,
        args: &Bound<'_, PyAny>,
        kwargs: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Value::Array(args) = json::from_python("args", args)? else {
            return Err(crate::errors::wrong_type("args", "a list", args));
        };
        let mut failure = Failure::new(class_name, message).module(module).args(args);
        failure.traceback = traceback;
        failure.kwargs = json::map("kwargs", kwargs)?;
        self.answer(py, Err(failure))
    }
}
