//! Private `RabbitMQ` nodes, certificates and a TCP proxy for the tests, benchmarks and the demo.
