//! The API as its clients see it: the real `kubectl`, the `kube` crate and bare HTTP, against a server on loopback.
//!
//! `kubectl` is looked for on the path; the variable `SHIPWAY_TEST_KUBECTL` names others, with colons between them, which are then
//! tested too. Without any, those tests say so and pass.

mod client;
mod collect;
mod harness;
mod http;
mod kubectl;
mod rollout;
mod streams;
