//! The embedded broker beyond the contract that it shares with RabbitMQ: another client, logins, TLS, and the faults
//! that tests have it play.
#![cfg(feature = "broker")]

mod arbitrary;
mod connecting;
mod connectors;
mod faults;
mod lapin_client;
mod login;
mod refusals;
