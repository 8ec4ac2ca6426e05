//! Ranges of IP addresses.

use std::{fmt, net::IpAddr, str::FromStr};

use sinew_plane::ConfigError;

/// A range of IP addresses: `10.0.0.0/8`, `fd00::/8`, or one address. An IPv4 address in IPv6 form
/// counts as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The range of all addresses that share their first `prefix` bits with `address`; `None` if
    /// the address has fewer bits.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let (address, prefix) = match (address, address.to_canonical()) {
            // The first 96 bits say that it is IPv4.
            (IpAddr::V6(_), IpAddr::V4(v4)) if prefix >= 96 => (v4.into(), prefix - 96),
            _ => (address, prefix),
        };
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= longest).then_some(Self { address, prefix })
    }

    /// True when the address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.prefix);
                (net.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.prefix);
                (net.to_bits() ^ address.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }

    /// True for the first and the last address of an IPv4 range, which stand for the network and
    /// for all of its hosts. A range of two or fewer has none of these.
    pub(crate) fn is_edge(&self, address: IpAddr) -> bool {
        let (IpAddr::V4(_), IpAddr::V4(address)) = (self.address, address.to_canonical()) else {
            return false;
        };
        let hosts = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        let host = address.to_bits() & hosts;
        hosts > 1 && (host == 0 || host == hosts)
    }

    /// True when the range holds link-local addresses and no others.
    pub(crate) fn is_link_local(&self) -> bool {
        match self.address {
            IpAddr::V4(ip) => ip.is_link_local() && self.prefix >= 16,
            IpAddr::V6(ip) => ip.is_unicast_link_local() && self.prefix >= 10,
        }
    }
}

impl FromStr for Network {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let fault = ConfigError {
            field: "allowed_networks",
            reason: "must be an IP address with or without a prefix length, as 10.0.0.0/8",
        };
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| fault.clone())?;
        let prefix = match prefix {
            // A sign is none of a length.
            Some(digits) if digits.bytes().all(|it| it.is_ascii_digit()) => {
                digits.parse().map_err(|_| fault.clone())?
            }
            Some(_) => return Err(fault),
            None if address.is_ipv4() => 32,
            None => 128,
        };
        Self::new(address, prefix).ok_or(fault)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses() {
        let net = |text: &str| text.parse::<Network>().unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(net("10.0.0.0/8").contains(ip("10.200.3.4")));
        assert!(!net("10.0.0.0/8").contains(ip("11.0.0.1")));
        assert!(net("10.0.0.0/8").contains(ip("::ffff:10.1.1.1")));
        assert!(net("::ffff:10.0.0.0/104").contains(ip("10.1.1.1")));
        assert!(!net("::ffff:10.0.0.0/104").contains(ip("11.1.1.1")));
        assert!(net("0.0.0.0/0").contains(ip("8.8.8.8")));
        assert!(!net("0.0.0.0/0").contains(ip("::1")));
        assert!(net("192.0.2.7").contains(ip("192.0.2.7")));
        assert!(!net("192.0.2.7").contains(ip("192.0.2.6")));
        assert!(net("fd00::/8").contains(ip("fd12::1")));
        for bad in
            ["", "10.0.0.0/33", "fd00::/129", "x/8", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        assert_eq!(net("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }
}
