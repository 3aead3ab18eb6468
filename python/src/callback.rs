//! Functions of the application that are called later, from outside of its own threads.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::{PyTraverseError, PyVisit, prelude::*};

/// A function that a client object owns although the core, or a thread, is going to call it.
///
/// An application's function often leads to the client (a bound method of an object that has it). Python's collector
/// sees that cycle through the client, which shows it the function ([`Self::visit`]), and nowhere else; when it takes the
/// client away, the function goes too. A client that is just dropped leaves the function to those who still need it: it may
/// have messages to send, for which it must connect.
pub struct Callback(Mutex<Option<Py<PyAny>>>);

impl Callback {
    pub fn new(function: Py<PyAny>) -> Self {
        Self(Mutex::new(Some(function)))
    }

    fn function(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function; `None` when it was collected with its client.
    pub fn get<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.function().as_ref().map(|function| function.bind(py).clone())
    }

    /// To be called for one owner only: the function has one reference.
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock().as_deref() {
            Ok(Some(function)) => visit.call(function),
            _ => Ok(()),
        }
    }

    pub fn clear(&self) {
        let function = self.function().take();
        // Without the lock: it may run Python code.
        drop(function);
    }
}
