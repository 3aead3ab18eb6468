//! What goes wrong, and the answer to it, on a real `RabbitMQ`: each test is named after a fault. Messages are counted:
//! sent, confirmed, received.

mod alarms;
mod broker;
mod cluster;
mod connecting;
mod consumers;
mod load;
mod network;
mod refusals;
mod topology;
