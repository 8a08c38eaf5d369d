//! What every backend must do: run these on a new, empty one. They panic on the first thing that does not hold, so they are for
//! tests only.

mod blobs;
mod log;

pub use self::{blobs::blobs, log::log};
