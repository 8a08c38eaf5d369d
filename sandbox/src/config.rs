//! What a [`Sandbox`](crate::Sandbox) is opened with.

use std::{ffi::OsString, fmt, net::Ipv4Addr, net::SocketAddr, path::PathBuf, str::FromStr};

use crate::{Error, Result};

#[derive(Debug, Clone)]
pub struct Config {
    /// Where containers, snapshots and network state live. One process at a time owns it.
    pub root: PathBuf,
    /// How the helper is started: a program and its first arguments; the process must call [`helper_main`](crate::helper_main)
    /// before it does anything else. Usually `["/proc/self/exe", "sandbox-helper"]`.
    pub helper: Vec<OsString>,
    /// Names this installation on the host (bridge, cgroups, table), together with `root`.
    pub instance: String,
    pub network: NetworkConfig,
}

#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Without it there is no bridge, and every container has its own loopback only.
    pub enabled: bool,
    /// Where a free /21 is looked for: its lower half (/22, 1,021 pods) is for pods, its upper half (/22) for services.
    pub ranges: Vec<Subnet>,
    /// DNS servers that names outside the cluster are asked from. Empty: those of the host's `/etc/resolv.conf`.
    pub upstream: Vec<SocketAddr>,
    /// `None`: 1500.
    pub mtu: Option<u32>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ranges: vec![
                Subnet { address: Ipv4Addr::new(10, 192, 0, 0), prefix: 11 },
                Subnet { address: Ipv4Addr::new(172, 24, 0, 0), prefix: 14 },
                Subnet { address: Ipv4Addr::new(100, 96, 0, 0), prefix: 12 },
            ],
            upstream: Vec::new(),
            mtu: None,
        }
    }
}

/// An IPv4 block, for example `10.192.0.0/22`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Subnet {
    /// The first address.
    pub address: Ipv4Addr,
    pub prefix: u8,
}

impl Subnet {
    pub(crate) fn mask(prefix: u8) -> u32 {
        if prefix == 0 { 0 } else { u32::MAX << (32 - u32::from(prefix.min(32))) }
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & Self::mask(self.prefix) == self.address.to_bits()
    }

    pub fn overlaps(&self, other: &Subnet) -> bool {
        let mask = Self::mask(self.prefix.min(other.prefix));
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }

    /// How many addresses it has.
    pub fn size(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.prefix.min(32))).unwrap_or(u32::MAX)
    }

    /// The address `n` places after the first.
    pub fn nth(&self, n: u32) -> Option<Ipv4Addr> {
        (n < self.size()).then(|| Ipv4Addr::from_bits(self.address.to_bits() + n))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::Invalid(format!("`{text}` is not a block of addresses; expected for example 10.192.0.0/11"));
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 32 || address.to_bits() & !Self::mask(prefix) != 0 {
            return Err(wrong());
        }
        Ok(Self { address, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_parsed_compared_and_counted() {
        let block: Subnet = "10.192.8.0/21".parse().unwrap();
        assert_eq!((block.to_string(), block.size()), ("10.192.8.0/21".into(), 2048));
        assert_eq!(block.nth(1025), Some(Ipv4Addr::new(10, 192, 12, 1)));
        assert_eq!(block.nth(2048), None);
        assert!(block.contains(Ipv4Addr::new(10, 192, 15, 255)) && !block.contains(Ipv4Addr::new(10, 192, 16, 0)));
        assert!(block.overlaps(&"10.0.0.0/8".parse().unwrap()) && block.overlaps(&"10.192.9.7/32".parse().unwrap()));
        assert!(!block.overlaps(&"10.192.16.0/21".parse().unwrap()));
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().overlaps(&block));
        for bad in ["10.192.8.1/21", "10.0.0.0", "x/8", "10.0.0.0/33", ""] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
