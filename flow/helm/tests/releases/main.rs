//! Releases against the API of this workspace's own node, on loopback: what an operation does to the cluster and to the
//! stored revisions, what becomes of one that was cut short, and, with the real `helm`, that either goes on from the other.
//!
//! `helm` is looked for on the path; the variable `SHIPWAY_TEST_HELM` names others, with colons between them, which are then
//! tested too. Without any, those tests say so and pass.

mod harness;
mod interrupted;
mod life;
mod real;
