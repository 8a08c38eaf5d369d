//! What a server is told at its start, checked before anything is touched.

use std::{net::SocketAddr, path::PathBuf};

// Everything `shipway up` can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct Config {
    /// Directory that holds everything: records, blobs, repositories, logs, keys
    #[arg(long, value_name = "DIR", env = "SHIPWAY_DATA")]
    pub data: PathBuf,

    /// Address of the UI, the API, git and the registry
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "SHIPWAY_LISTEN")]
    pub listen: SocketAddr,

    /// Address of the node's Kubernetes API; port 0 takes a free one (it is in DIR/kubeconfig)
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", env = "SHIPWAY_NODE_LISTEN")]
    pub node_listen: SocketAddr,

    /// Debian mirror from which base images are assembled
    #[arg(long, value_name = "URL", default_value = "http://deb.debian.org/debian", env = "SHIPWAY_DEBIAN_MIRROR")]
    pub mirror: String,

    /// Directory in which downloaded packages are kept for all servers of this machine [default: DIR/packages]
    #[arg(long, value_name = "DIR", env = "SHIPWAY_PACKAGE_CACHE")]
    pub package_cache: Option<PathBuf>,

    /// Directory with OSV records (JSON) against which images are scanned [default: DIR/osv]
    #[arg(long, value_name = "DIR", env = "SHIPWAY_OSV")]
    pub osv: Option<PathBuf>,

    /// Where content is kept: s3://BUCKET/PREFIX, with the AWS_… variables that S3 clients have [default: DIR/blobs]
    #[arg(long, value_name = "ADDRESS", env = "SHIPWAY_BLOBS")]
    pub blobs: Option<String>,

    /// Largest pack that a push may bring, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512)]
    pub max_push_mib: u64,

    /// Runs that may be under way at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub parallel_runs: usize,
}

impl Config {
    pub fn package_cache(&self) -> PathBuf {
        self.package_cache.clone().unwrap_or_else(|| self.data.join("packages"))
    }

    pub fn osv(&self) -> PathBuf {
        self.osv.clone().unwrap_or_else(|| self.data.join("osv"))
    }
}
