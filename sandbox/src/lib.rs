//! Processes in containers on this machine.
//!
//! Reads: root file systems (snapshots under `root/snapshots`), container specifications given by the caller.
//! Writes: what lies below [`Config::root`], and, on the host, one bridge, one nftables table, network namespaces, cgroups and
//! mounts, all of which carry the tag of the instance and are gone after [`Sandbox::shutdown`].
//! Never: runs container code in the calling process, spawns `ip`, `nft`, `mount` or any other tool, touches what it did not make.
//!
//! A container is created by a helper process (our own binary, re-executed; see [`helper_main`]) that stays as its monitor: it
//! reaps it, writes its log and records how it ended. A monitor outlives a killed server: containers with [`Lifetime::Kept`] are
//! found again with [`Sandbox::list`] and [`Sandbox::adopt`], all others end with the server.

mod cgroup;
mod check;
mod config;
mod container;
mod error;
mod etc;
mod helper;
mod isolation;
mod leftovers;
pub mod log;
mod mounts;
mod names;
mod network;
mod open;
mod rlimit;
pub mod rootless;
mod snapshots;
mod spec;
mod user;

pub use check::{Missing, check};
pub use config::{Config, NetworkConfig, Subnet};
pub use container::{Container, Exec, Exit, Found, Input, Output, Status, Terminal, Usage};
pub use error::{Error, Result};
pub use helper::helper_main;
pub use isolation::{Isolation, Wanted, chrooted, isolation};
pub use leftovers::leftovers;
pub use network::{Answer, NetNs, Network, Question, Record, RecordKind, Resolver};
pub use open::Sandbox;
pub use snapshots::{Active, Snapshot, Snapshots, View};
pub use spec::{
    ContainerSpec, DEFAULT_CAPABILITIES, Dns, ExecSpec, Lifetime, Limits, LogFile, Mount, MountKind, NetworkMode,
    Rlimit, Seccomp, Stdio,
};
