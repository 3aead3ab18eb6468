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
//! | `arguments`, `message`, `topology`, `value`, `time` | arguments and results |
//! | `errors` | exceptions |
//! | `broker` | the embedded broker |
//! | `puka` | the native half of the drop-in for Puka |
//! | `service`, `callback`, `logging`, `exit` | what Python does for the core, and what is done at the end |

mod arguments;
mod broker;
mod callback;
mod client;
mod confirmation;
mod connect;
mod consumer;
mod delivery;
mod errors;
mod events;
mod exit;
mod logging;
mod message;
mod outcome;
mod process;
mod puka;
mod runtime;
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
        broker::Broker,
        client::{BaseClient, Client},
        confirmation::{Confirmation, wait_all},
        connect::connect,
        consumer::{BaseConsumer, Consumer},
        delivery::Delivery,
        events::{BaseEvents, Events, Heard},
        exit::_at_exit,
        logging::{log_level_is_old, set_log_level},
        process::_after_fork_in_child,
        puka::{client::PukaBase, messages::PukaClient, topology::PukaTopology},
        runtime::_driven_waits,
        service::{Reply, end_server, new_server, next_job, pause, pending_job},
        wait::{completions::Completions, in_main_thread, operation::Operation},
    };
    use pyo3::prelude::*;

    use crate::{
        client::AioClient, confirmation::AioConfirmation, connect::Connecting, consumer::AioConsumer,
        delivery::AioDelivery, events::AioEvents,
    };

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::process::check_interpreter(module.py())?;
        // They are called the same as their blocking counterparts, in the module `aio`.
        module.add("AioClient", module.py().get_type::<AioClient>())?;
        module.add("AioConfirmation", module.py().get_type::<AioConfirmation>())?;
        module.add("AioConnecting", module.py().get_type::<Connecting>())?;
        module.add("AioConsumer", module.py().get_type::<AioConsumer>())?;
        module.add("AioDelivery", module.py().get_type::<AioDelivery>())?;
        module.add("AioEvents", module.py().get_type::<AioEvents>())?;
        module.add("aio_connect", wrap_pyfunction!(crate::connect::connect_asyncio, module)?)?;
        module.add("aio_wait_all", wrap_pyfunction!(crate::confirmation::wait_all_asyncio, module)?)?;
        crate::wait::note_main_thread(module.py())?;
        crate::logging::begin()
    }
}
