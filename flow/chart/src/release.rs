//! Releases: what Helm writes down about them, and what the next operation does with what is written.

mod plan;
mod record;
mod stored;

pub use plan::{HEARTBEAT, History, Install, OWNER, Rollback, Upgrade, hooks, pending};
pub(crate) use record::stamp;
pub use record::{Claim, Info, Record, Status};
pub use stored::{Access, SECRET_TYPE, SYSTEM_LABELS, decode, encode, key, labels, reserved};
