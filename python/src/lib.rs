//! The native module `murano_messaging._native`.
//!
//! | module | what it is |
//! |---|---|
//! | `process` | forks, and the end of the interpreter |
//! | `engine` | the one thread that drives all clients |
//! | `wait` | waiting as a thread, an asyncio task or a green thread |
//! | `outcome` | results, and the two ways to run an operation |
//! | `connect`, `client` | clients |
//! | `confirmation`, `consumer`, `delivery`, `events` | what clients give out |
//! | `message`, `topology`, `value`, `time` | arguments and results |
//! | `errors` | exceptions |
//! | `puka` | the native half of the drop-in for Puka |
//! | `service`, `logging`, `exit` | what Python does for the core, and what is done at the end |

mod client;
mod confirmation;
mod connect;
mod consumer;
mod delivery;
mod engine;
mod errors;
mod events;
mod exit;
mod logging;
mod message;
mod outcome;
mod process;
mod puka;
mod service;
mod time;
mod topology;
mod value;
mod wait;

/// The native half of `murano_messaging`.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::{
        client::{BaseClient, Client},
        confirmation::{Confirmation, wait_all},
        connect::connect,
        consumer::{BaseConsumer, Consumer},
        delivery::Delivery,
        events::{BaseEvents, Events},
        exit::_at_exit,
        process::_after_fork_in_child,
        puka::calls::PukaClient,
        service::{Reply, next_job, pending_job},
        wait::completions::Completions,
    };
    use pyo3::prelude::*;

    /// The classes and functions of `murano_messaging.aio`.
    #[pymodule]
    mod aio {
        #[pymodule_export]
        use crate::{
            client::AioClient,
            confirmation::{AioConfirmation, wait_all_asyncio},
            connect::{Connecting, connect_asyncio},
            consumer::AioConsumer,
            delivery::{AioDelivery, Done},
            events::AioEvents,
            wait::operation::{Operation, Ready},
        };
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::wait::note_main_thread(module.py())?;
        crate::logging::begin()
    }
}
