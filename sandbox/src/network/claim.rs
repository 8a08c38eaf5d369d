//! Claims a block of addresses that nobody on this host uses: the bridge's own route is the claim.

use std::{fs, io, os::fd::AsRawFd, path::Path};

use serde::{Deserialize, Serialize};

use super::{HALF, gateway, links, netlink::Netlink};
use crate::{Error, Result, Subnet, helper::record};

#[derive(Serialize, Deserialize)]
struct Claimed {
    pods: Subnet,
}

/// The other half of the /21.
pub(super) fn services(pods: Subnet) -> Subnet {
    Subnet { address: std::net::Ipv4Addr::from_bits(pods.address.to_bits() | 1 << (32 - HALF)), prefix: HALF }
}

/// Gives the pods' block. The bridge is there, up, and has the block's first address.
pub(super) fn claim(netlink: &mut Netlink, file: &Path, bridge: &str, ranges: &[Subnet], mtu: u32) -> Result<Subnet> {
    // Between looking and taking nobody else of us may do the same.
    let _turn = turn().map_err(Error::net("wait for other instances"))?;
    let before: Option<Claimed> = record::read(file).unwrap_or(None);
    let own = links::index(bridge).ok();
    let routes = links::routes(netlink).map_err(Error::net("list the routes of this host"))?;
    let taken: Vec<Subnet> = routes
        .into_iter()
        // Our own, left by an earlier process, are no obstacle.
        .filter(|(block, link)| {
            !(own.is_some() && *link == own) && before.as_ref().is_none_or(|b| *block != services(b.pods))
        })
        .map(|(block, _)| block)
        .collect();
    let free = |pods: &Subnet| {
        let whole = Subnet { address: pods.address, prefix: HALF - 1 };
        !taken.iter().any(|block| block.overlaps(&whole))
    };
    let again = before.map(|b| b.pods).filter(free);
    let pods = match again {
        Some(pods) => pods,
        None => ranges.iter().flat_map(candidates).find(free).ok_or_else(|| Error::NoSubnet {
            range: ranges.iter().map(Subnet::to_string).collect::<Vec<_>>().join(", "),
        })?,
    };
    if again.is_none() && own.is_some() {
        // It has an address of a block that is not ours any more.
        links::delete(netlink, &carrier(bridge)[0]).map_err(Error::net(format!("remove the carrier of {bridge}")))?;
        links::delete(netlink, bridge).map_err(Error::net(format!("remove the old bridge {bridge}")))?;
    }
    if again.is_none() || own.is_none() {
        links::add_bridge(netlink, bridge, mtu).map_err(Error::net(format!("make the bridge {bridge}")))?;
    }
    let index = links::index(bridge).map_err(Error::net(format!("find the bridge {bridge}")))?;
    links::set_up(netlink, index).map_err(Error::net(format!("bring up the bridge {bridge}")))?;
    links::add_address(netlink, index, gateway(pods), HALF)
        .map_err(Error::net(format!("give {} to the bridge {bridge}", gateway(pods))))?;
    let carrier = carrier(bridge);
    if links::index(&carrier[0]).is_err() {
        links::add_carrier(netlink, [&carrier[0], &carrier[1]], bridge)
            .map_err(Error::net(format!("give a carrier to the bridge {bridge}")))?;
    }
    record::write(file, &Claimed { pods }).map_err(Error::io("write", file))?;
    Ok(pods)
}

/// Names of the pair that keeps the bridge running while no pod is there.
pub(super) fn carrier(bridge: &str) -> [String; 2] {
    [format!("{bridge}a"), format!("{bridge}b")]
}

/// Every /22 that begins a /21 of the range.
fn candidates(range: &Subnet) -> impl Iterator<Item = Subnet> + use<> {
    let step = 1u32 << (32 - (HALF - 1));
    let (first, size) = (range.address.to_bits(), range.size());
    (0..size / step).map(move |n| Subnet { address: std::net::Ipv4Addr::from_bits(first + n * step), prefix: HALF })
}

/// A lock on a directory that every machine has: nothing is left behind.
fn turn() -> io::Result<fs::File> {
    let file = fs::File::open("/run").or_else(|_| fs::File::open("/"))?;
    // SAFETY: a plain system call on an open descriptor.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_in_pairs() {
        let range: Subnet = "10.192.0.0/19".parse().unwrap();
        let all: Vec<String> = candidates(&range).map(|b| format!("{b} {}", services(b))).collect();
        assert_eq!(
            all,
            [
                "10.192.0.0/22 10.192.4.0/22",
                "10.192.8.0/22 10.192.12.0/22",
                "10.192.16.0/22 10.192.20.0/22",
                "10.192.24.0/22 10.192.28.0/22"
            ]
        );
    }
}
