//! Network namespaces of pods.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use super::{Fabric, HALF, gateway, links, netlink::Netlink};
use crate::{Error, Lifetime, Result, Subnet, helper::record, mounts, names::Tag, open::directories, spec::check_name};

/// A network namespace that containers join. Clones are the same.
#[derive(Clone)]
pub struct NetNs(Arc<Inner>);

struct Inner {
    fabric: Arc<Fabric>,
    name: String,
    path: PathBuf,
    ip: Ipv4Addr,
    lifetime: Lifetime,
    removed: AtomicBool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    number: u32,
    ip: Ipv4Addr,
    lifetime: Lifetime,
}

impl std::fmt::Debug for NetNs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetNs").field("name", &self.0.name).field("ip", &self.0.ip).finish()
    }
}

impl NetNs {
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.0.ip
    }

    /// The host on the bridge; also the name server.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(self.0.fabric.pods)
    }

    /// A file that stands for the namespace, for `setns`.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Removes it now, whoever else has a handle.
    pub async fn remove(self) -> Result<()> {
        self.0.removed.store(true, Ordering::Release);
        let inner = self.0.clone();
        tokio::task::spawn_blocking(move || inner.fabric.remove(&inner.name)).await.map_err(|_| Error::Closed)?
    }

    pub(super) fn create(fabric: &Arc<Fabric>, name: &str, lifetime: Lifetime) -> Result<Self> {
        let number = fabric.reserve(name)?;
        let made = make(fabric, name, number, lifetime);
        if made.is_err() {
            let _ = fabric.remove(name);
        }
        let (path, ip) = made?;
        Ok(Self(Arc::new(Inner {
            fabric: fabric.clone(),
            name: name.into(),
            path,
            ip,
            lifetime,
            removed: AtomicBool::new(false),
        })))
    }

    pub(super) fn adopt(fabric: &Arc<Fabric>, name: &str) -> Option<Self> {
        check_name("name of a network namespace", name).ok()?;
        if !fabric.used().numbers.contains_key(name) {
            return None;
        }
        let directory = fabric.root.join("ns").join(name);
        let kept: Kept = record::read(&directory.join("netns.json")).ok()??;
        (kept.lifetime == Lifetime::Kept).then(|| {
            Self(Arc::new(Inner {
                fabric: fabric.clone(),
                name: name.into(),
                path: directory.join("net"),
                ip: kept.ip,
                lifetime: kept.lifetime,
                removed: AtomicBool::new(false),
            }))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Kept || self.removed.load(Ordering::Acquire) {
            return;
        }
        // Removing a link waits for the kernel some tens of milliseconds: not here.
        let (fabric, name) = (self.fabric.clone(), std::mem::take(&mut self.name));
        let remove = move || {
            if let Err(error) = fabric.remove(&name) {
                tracing::warn!(%error, "a network namespace stays until the next start");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Fabric {
    /// Takes an address. They are given out in turn, so that one is not used again at once.
    fn reserve(&self, name: &str) -> Result<u32> {
        let mut used = self.used();
        if used.numbers.contains_key(name) {
            return Err(Error::Exists { what: "network namespace", name: name.into() });
        }
        // The first address is the network's, the second the bridge's, the last for broadcasts.
        let last = self.pods.size() - 2;
        let taken: HashSet<u32> = used.numbers.values().copied().collect();
        let after = used.last;
        let number = (after + 1..=last).chain(2..=after.min(last)).find(|n| !taken.contains(n));
        let Some(number) = number else {
            return Err(Error::NoSubnet { range: self.pods.to_string() });
        };
        used.last = number;
        used.numbers.insert(name.into(), number);
        Ok(number)
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let Some(number) = self.used().numbers.get(name).copied() else { return Ok(()) };
        let mut netlink = Netlink::route().map_err(Error::net("open a netlink socket"))?;
        discard(&mut netlink, &self.root.join("ns").join(name), &self.tag, Some(number))?;
        // Only now: the address must not be given out while its link is still there.
        self.used().numbers.remove(name);
        Ok(())
    }
}

fn make(fabric: &Fabric, name: &str, number: u32, lifetime: Lifetime) -> Result<(PathBuf, Ipv4Addr)> {
    let directory = fabric.root.join("ns").join(name);
    fs::create_dir(&directory).map_err(Error::io("make", &directory))?;
    let ip = Ipv4Addr::from_bits(fabric.pods.address.to_bits() + number);
    let file = directory.join("netns.json");
    record::write(&file, &Kept { number, ip, lifetime }).map_err(Error::io("write", &file))?;
    let path = directory.join("net");
    File::create(&path).map_err(Error::io("make", &path))?;
    let bridge = fabric.tag.bridge();
    let bridge = links::index(&bridge).map_err(Error::net(format!("find the bridge {bridge}")))?;
    let (link, mtu, at, gateway) = (fabric.tag.veth(number), fabric.mtu, path.clone(), gateway(fabric.pods));
    // A thread of its own enters the new namespace and ends there.
    let thread = std::thread::Builder::new().name("netns".into()).spawn(move || -> io::Result<()> {
        let mut host = Netlink::route()?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        let own = Path::new("/proc/thread-self/ns/net");
        mounts::bind_file(own, &at)?;
        links::add_pair(&mut host, &link, bridge, mtu, File::open(own)?.as_fd())?;
        let mut inside = Netlink::route()?;
        let eth0 = links::index(links::POD_LINK)?;
        links::set_up(&mut inside, links::index("lo")?)?;
        links::add_address(&mut inside, eth0, ip, HALF)?;
        links::set_up(&mut inside, eth0)?;
        links::add_default_route(&mut inside, gateway)?;
        // As Docker and Kubernetes do: every user may listen on every port, and may ping.
        for (key, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
            let _ = fs::write(format!("/proc/sys/net/ipv4/{key}"), value);
        }
        links::wait_running(&mut inside, links::POD_LINK)?;
        links::wait_running(&mut host, &link)?;
        Ok(())
    });
    let joined = thread.map(std::thread::JoinHandle::join).map_err(Error::net("start a thread"))?;
    joined
        .unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        .map_err(Error::net(format!("make the network of `{name}`")))?;
    Ok((path, ip))
}

fn discard(netlink: &mut Netlink, directory: &Path, tag: &Tag, number: Option<u32>) -> Result<()> {
    if let Some(number) = number {
        let link = tag.veth(number);
        links::delete(netlink, &link).map_err(Error::net(format!("remove the link {link}")))?;
    }
    let path = directory.join("net");
    mounts::unmount(&path).map_err(Error::io("unmount", &path))?;
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", directory)(error)),
        _ => Ok(()),
    }
}

/// Removes what nothing uses any more, and tells names and numbers of what stays.
pub(super) fn sweep(
    netlink: &mut Netlink,
    namespaces: &Path,
    tag: &Tag,
    pods: Subnet,
    used: &HashSet<PathBuf>,
) -> Result<BTreeMap<String, u32>> {
    let mounted: HashSet<PathBuf> =
        mounts::below(namespaces).map_err(Error::io("read mounts of", namespaces))?.into_iter().collect();
    let mut stay = BTreeMap::new();
    for directory in directories(namespaces)? {
        let kept: Option<Kept> = record::read(&directory.join("netns.json")).unwrap_or(None);
        let name = directory.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let path = directory.join("net");
        match kept {
            Some(kept)
                if (used.contains(&path) || kept.lifetime == Lifetime::Kept)
                    && mounted.contains(&path)
                    && pods.contains(kept.ip) =>
            {
                stay.insert(name, kept.number);
            }
            kept => discard(netlink, &directory, tag, kept.map(|k| k.number))?,
        }
    }
    let wanted: HashSet<String> = stay.values().map(|number| tag.veth(*number)).collect();
    for (link, _) in links::list(netlink).map_err(Error::net("list the links of this host"))? {
        if link.starts_with(&tag.veth_prefix()) && !wanted.contains(&link) {
            links::delete(netlink, &link).map_err(Error::net(format!("remove the link {link}")))?;
        }
    }
    Ok(stay)
}
