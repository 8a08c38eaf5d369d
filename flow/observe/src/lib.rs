//! What was seen of a release while it rolled out.
//!
//! Reads what a proxy measured, writes an `Observation` record. Pure: counting takes no clock and no lock.

mod histogram;
mod window;

pub use histogram::Histogram;
pub use window::Window;
