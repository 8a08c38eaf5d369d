//! Links, addresses and routes, as the network needs them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsRawFd, BorrowedFd},
};

use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressMessage},
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    },
};

use super::netlink::Netlink;
use crate::Subnet;

/// The kernel's table of addresses that are its own.
const LOCAL_TABLE: u8 = 255;
const MAIN_TABLE: u8 = 254;

/// The pods' end of their pair.
pub(super) const POD_LINK: &str = "eth0";

fn up() -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

pub(crate) fn index(name: &str) -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex(name)?)
}

/// Names and indices of all links.
pub(super) fn list(netlink: &mut Netlink) -> io::Result<Vec<(String, u32)>> {
    let all = netlink.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(all
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => {
                let index = link.header.index;
                link.attributes.into_iter().find_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some((name, index)),
                    _ => None,
                })
            }
            _ => None,
        })
        .collect())
}

/// The group that the links of a bridge belong to, from its name. One request removes all of them: each by itself would wait for the
/// rest of the kernel to have noticed.
fn group(bridge: &str) -> u32 {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bridge.as_bytes());
    // Never 0, the group of links that are in none.
    sum.as_ref().iter().take(4).fold(0, |group, byte| group << 8 | u32::from(*byte)) | 1
}

/// Removes the bridge and its carrier. Fine when they are not there.
pub(super) fn delete_group(netlink: &mut Netlink, bridge: &str) -> io::Result<()> {
    delete_links(netlink, LinkAttribute::Group(group(bridge)))
}

/// Makes a bridge that is up. Fails when the name is taken.
pub(super) fn add_bridge(netlink: &mut Netlink, name: &str, mtu: u32) -> io::Result<()> {
    let mut link = up();
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Group(group(name)),
        LinkAttribute::Address(hardware_address(name).to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    netlink.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// The bridge's own hardware address, from its name. Without one it takes the lowest of its ports', which changes when pods come and go,
/// and until the others have noticed, their packets to the gateway are lost. Locally administered, unicast.
fn hardware_address(name: &str) -> [u8; 6] {
    let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let mut address = [0x02, 0x53, 0, 0, 0, 0];
    address[2..].copy_from_slice(&sum.as_ref()[..4]);
    address
}

/// Fine when it is not there.
pub(super) fn delete(netlink: &mut Netlink, name: &str) -> io::Result<()> {
    delete_links(netlink, LinkAttribute::IfName(name.into()))
}

fn delete_links(netlink: &mut Netlink, which: LinkAttribute) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes = vec![which];
    match netlink.change(RouteNetlinkMessage::DelLink(link), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        result => result,
    }
}

/// Makes a pair of links: one on the bridge, up; the other as `eth0` in another network namespace.
pub(super) fn add_pair(
    netlink: &mut Netlink,
    name: &str,
    bridge: u32,
    mtu: u32,
    netns: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(POD_LINK.into()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::NetNsFd(netns.as_raw_fd()),
    ];
    let mut link = up();
    link.attributes = vec![
        LinkAttribute::IfName(name.into()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    netlink.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
}

/// A pair of links on this host, one of them on the bridge: with it the bridge always has a carrier. Without one the kernel
/// drops what is sent through it for up to a second after the first pod has come.
pub(super) fn add_carrier(netlink: &mut Netlink, names: [&str; 2], bridge: &str) -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName(names[1].into())];
    let mut link = up();
    link.attributes = vec![
        LinkAttribute::IfName(names[0].into()),
        LinkAttribute::Group(group(bridge)),
        LinkAttribute::Controller(index(bridge)?),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    netlink.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?;
    set_up(netlink, index(names[1])?)
}

/// Waits until the kernel has taken notice, in the background as it does, that a link has its carrier: before that it drops
/// what is sent. Some milliseconds at most; a second means that something is wrong, and is no reason to fail.
pub(super) fn wait_running(netlink: &mut Netlink, name: &str) -> io::Result<()> {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.into())];
    for _ in 0..2000 {
        if let RouteNetlinkMessage::NewLink(found) = netlink.get(RouteNetlinkMessage::GetLink(link.clone()))?
            && found.header.flags.contains(LinkFlags::Running)
        {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    Ok(())
}

pub(crate) fn set_up(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    let mut link = up();
    link.header.index = index;
    netlink.change(RouteNetlinkMessage::NewLink(link), 0)
}

/// Fine when it has the address already.
pub(super) fn add_address(netlink: &mut Netlink, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
        AddressAttribute::Broadcast(Ipv4Addr::from_bits(address.to_bits() | !Subnet::mask(prefix))),
    ];
    netlink.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
}

pub(super) fn add_default_route(netlink: &mut Netlink, gateway: Ipv4Addr) -> io::Result<()> {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.table = MAIN_TABLE;
    route.header.protocol = RouteProtocol::Static;
    route.header.kind = RouteType::Unicast;
    route.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway))];
    netlink.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
}

fn local_route(block: Subnet, loopback: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = block.prefix;
    route.header.table = LOCAL_TABLE;
    route.header.protocol = RouteProtocol::Static;
    route.header.scope = RouteScope::Host;
    route.header.kind = RouteType::Local;
    route.attributes =
        vec![RouteAttribute::Destination(RouteAddress::Inet(block.address)), RouteAttribute::Oif(loopback)];
    route
}

/// Makes every address of a block one of this host's own, as `ip route add local <block> dev lo` does.
pub(super) fn add_local_block(netlink: &mut Netlink, block: Subnet) -> io::Result<()> {
    let route = local_route(block, index("lo")?);
    netlink.change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
}

/// Fine when it is not there.
pub(super) fn delete_local_block(netlink: &mut Netlink, block: Subnet) -> io::Result<()> {
    let route = local_route(block, index("lo")?);
    match netlink.change(RouteNetlinkMessage::DelRoute(route), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// IPv4 blocks that this host has routes to, default routes aside, with the index of the link that each goes out by.
pub(super) fn routes(netlink: &mut Netlink) -> io::Result<Vec<(Subnet, Option<u32>)>> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let all = netlink.dump(RouteNetlinkMessage::GetRoute(message))?;
    Ok(all
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) if route.header.address_family == AddressFamily::Inet => Some(route),
            _ => None,
        })
        .filter(|route| route.header.destination_prefix_length > 0)
        .filter_map(|route| {
            let address = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
                _ => None,
            })?;
            let link = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            });
            Some((Subnet { address, prefix: route.header.destination_prefix_length }, link))
        })
        .collect())
}
