//! How traffic gets to pods: a table of who answers for which Service, a proxy for connections, and a router for HTTP.

pub mod l4;
pub mod load;
mod page;
pub mod route;
pub mod stats;
pub mod table;

pub use l4::Proxies;
pub use route::{Router, RouterConfig};
pub use stats::{Histogram, PodTraffic, ServiceTraffic};
pub use table::{Port, Protocol, ServiceKey, ServiceView, Table};
