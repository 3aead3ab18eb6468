//! Faults of a real `RabbitMQ` and of the network, by their numbers in `docs/faults.md`. Messages are counted: sent,
//! confirmed, received.

mod alarms;
mod broker;
mod cluster;
mod connecting;
mod consumers;
mod load;
mod network;
mod record;
mod refusals;
mod topology;
