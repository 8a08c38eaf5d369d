//! The network of pods: a bridge with NAT to the outside, a network namespace a pod, names through DNS.

mod claim;
mod dns;
mod firewall;
pub(crate) mod links;
pub(crate) mod netlink;
mod netns;
mod nftables;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use dns::{Answer, Question, Record, RecordKind, Resolver};
pub use netns::NetNs;

use crate::{Error, Lifetime, Missing, NetworkConfig, Result, Subnet, names::Tag, spec::check_name};
use netlink::Netlink;

/// Prefix of the pods' block, and of the services' block beside it.
const HALF: u8 = 22;

/// The network of an open sandbox. Cheap to clone.
#[derive(Clone)]
pub struct Network(Arc<Fabric>);

pub(crate) struct Fabric {
    root: PathBuf,
    tag: Tag,
    pods: Subnet,
    services: Subnet,
    mtu: u32,
    /// Addresses in use, by the name of their network namespace. The number is the place of the address in the block.
    used: Mutex<Used>,
    dns: dns::Server,
}

#[derive(Default)]
struct Used {
    numbers: BTreeMap<String, u32>,
    last: u32,
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Network").field("bridge", &self.bridge()).field("pods", &self.0.pods).finish()
    }
}

impl Network {
    /// Finds the network that an earlier process left, or makes a new one. Network namespaces in `used` stay, and those that
    /// were made to be kept.
    pub(crate) async fn open(root: &Path, tag: Tag, config: NetworkConfig, used: &HashSet<PathBuf>) -> Result<Self> {
        let (root, used) = (root.to_path_buf(), used.clone());
        let upstream = config.upstream.clone();
        // What pods still use is never torn down because of a failed start.
        let ours = used.is_empty().then(|| tag.clone());
        let blocking = tokio::task::spawn_blocking(move || {
            let namespaces = root.join("ns");
            fs::create_dir_all(&namespaces).map_err(Error::io("make", &namespaces))?;
            let forward = Path::new("/proc/sys/net/ipv4/ip_forward");
            fs::write(forward, "1").map_err(Error::io("write", forward))?;
            let mtu = config.mtu.unwrap_or(1500);
            let mut netlink = Netlink::route().map_err(Error::net("open a netlink socket"))?;
            let bridge = tag.bridge();
            let pods = claim::claim(&mut netlink, &root.join("network.json"), &bridge, &config.ranges, mtu)?;
            let services = claim::services(pods);
            links::add_local_block(&mut netlink, services)
                .map_err(Error::net(format!("make {services} addresses of this host")))?;
            nftables::install(&tag.table(), &bridge, pods)
                .map_err(Error::net("install the nftables rules of the bridge"))?;
            firewall::open(&tag.table(), &bridge).map_err(Error::net("let the bridge through this host's firewall"))?;
            let found = netns::sweep(&mut netlink, &namespaces, &tag, pods, &used)?;
            Ok((root, tag, pods, services, mtu, found))
        });
        let made = blocking.await.map_err(|_| Error::Closed)?;
        let (root, tag, pods, services, mtu, found) = made.inspect_err(|_| undo(&ours, None))?;
        let last = found.values().copied().max().unwrap_or(1);
        let dns = dns::Server::start(gateway(pods), upstream).await;
        let dns = dns.inspect_err(|_| undo(&ours, Some(services)))?;
        let used = Mutex::new(Used { numbers: found, last });
        Ok(Self(Arc::new(Fabric { root, tag, pods, services, mtu, used, dns })))
    }

    pub fn bridge(&self) -> String {
        self.0.tag.bridge()
    }

    /// The host on the bridge; also the pods' name server.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.0.pods)
    }

    /// Addresses of pods.
    pub fn pods(&self) -> Subnet {
        self.0.pods
    }

    /// Addresses that the host answers to itself: bind them for services. Reachable from the host and from pods.
    pub fn services(&self) -> Subnet {
        self.0.services
    }

    /// Who answers names before they are asked outside.
    pub fn set_resolver(&self, resolver: Arc<dyn Resolver>) {
        self.0.dns.set_resolver(resolver);
    }

    /// Makes a network namespace with its own address. With [`Lifetime::Server`] it is gone when the last handle is dropped (a
    /// running container is one) or at the next open; with [`Lifetime::Kept`] when it is removed.
    pub async fn create(&self, name: &str, lifetime: Lifetime) -> Result<NetNs> {
        check_name("name of a network namespace", name)?;
        let (fabric, name) = (self.0.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || NetNs::create(&fabric, &name, lifetime)).await.map_err(|_| Error::Closed)?
    }

    /// Finds a kept one by its name.
    pub fn adopt(&self, name: &str) -> Option<NetNs> {
        NetNs::adopt(&self.0, name)
    }

    /// Names of all, sorted.
    pub fn list(&self) -> Vec<String> {
        self.0.used().numbers.keys().cloned().collect()
    }

    /// Removes one whoever has it. Fine when it is not there.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let (fabric, name) = (self.0.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || fabric.remove(&name)).await.map_err(|_| Error::Closed)?
    }

    pub(crate) async fn close(&self) -> Result<()> {
        self.0.dns.stop();
        let fabric = self.0.clone();
        let blocking = tokio::task::spawn_blocking(move || {
            let names: Vec<String> = fabric.used().numbers.keys().cloned().collect();
            for name in names {
                fabric.remove(&name)?;
            }
            teardown(&fabric.tag, Some(fabric.services))?;
            fs::remove_dir_all(&fabric.root).map_err(Error::io("remove", &fabric.root))
        });
        blocking.await.map_err(|_| Error::Closed)?
    }
}

fn undo(tag: &Option<Tag>, services: Option<Subnet>) {
    if let Some(tag) = tag
        && let Err(error) = teardown(tag, services)
    {
        tracing::warn!(%error, "what was made of the network stays until the next start");
    }
}

/// Removes what belongs to the whole network. What is not there is fine.
fn teardown(tag: &Tag, services: Option<Subnet>) -> Result<()> {
    let mut netlink = Netlink::route().map_err(Error::net("open a netlink socket"))?;
    if let Some(services) = services {
        links::delete_local_block(&mut netlink, services)
            .map_err(Error::net(format!("remove the route to {services}")))?;
    }
    let table = tag.table();
    let rules = std::thread::spawn(move || {
        nftables::remove(&table).map_err(Error::net("remove the nftables rules of the bridge"))?;
        firewall::close(&table).map_err(Error::net("take the bridge out of this host's firewall"))
    });
    // The kernel lets both wait.
    let links = remove_links(&mut netlink, tag);
    let joined = rules.join().map_err(|_| Error::Closed)?;
    links.and(joined)
}

fn remove_links(netlink: &mut Netlink, tag: &Tag) -> Result<()> {
    let bridge = tag.bridge();
    links::delete_group(netlink, &bridge).map_err(Error::net(format!("remove the links of {bridge}")))?;
    // Those of an earlier version are in no group.
    for link in [&claim::carrier(&bridge)[0], &bridge] {
        links::delete(netlink, link).map_err(Error::net(format!("remove the link {link}")))?;
    }
    Ok(())
}

fn gateway(pods: Subnet) -> Ipv4Addr {
    Ipv4Addr::from_bits(pods.address.to_bits() + 1)
}

impl Fabric {
    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of an instance's network is still on this host.
pub(crate) fn leftovers(tag: &Tag) -> std::io::Result<Vec<String>> {
    let mut netlink = Netlink::route()?;
    let mut found: Vec<String> = links::list(&mut netlink)?
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with(&tag.bridge()) || name.starts_with(&tag.veth_prefix()))
        .map(|name| format!("link {name}"))
        .collect();
    if nftables::exists(&tag.table())? {
        found.push(format!("nftables table ip {}", tag.table()));
    }
    Ok(found)
}

/// Tries, in a network namespace of its own that is gone afterwards, what the network is made of.
pub(crate) fn check(found: &mut Vec<Missing>) {
    let tried = std::thread::spawn(|| -> std::result::Result<(), (&'static str, std::io::Error)> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| ("network namespaces", e.into()))?;
        let mut netlink = Netlink::route().map_err(|e| ("netlink", e))?;
        links::add_bridge(&mut netlink, "check", 1500).map_err(|e| ("bridges", e))?;
        let bridge = links::index("check").map_err(|e| ("bridges", e))?;
        let own = fs::File::open("/proc/thread-self/ns/net").map_err(|e| ("/proc", e))?;
        links::add_pair(&mut netlink, "check1", bridge, 1500, std::os::fd::AsFd::as_fd(&own))
            .map_err(|e| ("veth", e))?;
        let block = Subnet { address: Ipv4Addr::new(10, 0, 0, 0), prefix: 24 };
        nftables::install("check", "check", block).map_err(|e| ("nftables with masquerading", e))
    })
    .join();
    if let Ok(Err((what, error))) = tried {
        found.push(Missing {
            what: format!("{what} in the kernel"),
            why: format!("a try failed: {error}"),
            fix: "use a kernel with bridge, veth and nf_tables (nft_masq), or open the sandbox without a network"
                .into(),
        });
    }
}
