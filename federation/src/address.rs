//! Decides which addresses this server may connect to for another server's name.
//!
//! The owner of a name can point it anywhere: to this machine, to the network behind it, to a cloud's metadata
//! service. Must be applied to the address that is connected to, not to a name that is resolved again afterwards.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The deny-list of private addresses, with the exceptions of the configuration.
#[derive(Debug, Clone, Default)]
pub struct DenyList {
    exceptions: Vec<IpNet>,
}

impl DenyList {
    /// Denies every address that is not public, except `exceptions`.
    #[must_use]
    pub fn new(exceptions: Vec<IpNet>) -> Self {
        Self { exceptions }
    }

    /// Whether this server may connect to the address.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.is_exception(address) || is_public(plain(address))
    }

    /// Whether there are exceptions.
    #[must_use]
    pub fn has_exceptions(&self) -> bool {
        !self.exceptions.is_empty()
    }

    /// Whether the address is one of the exceptions.
    #[must_use]
    pub fn is_exception(&self, address: IpAddr) -> bool {
        let address = plain(address);
        self.exceptions.iter().any(|net| net.contains(&address))
    }
}

/// Converts an IPv4-mapped IPv6 address to IPv4.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => {
            let carried = v6.to_ipv4_mapped().or_else(|| translated(v6));
            carried.map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        IpAddr::V4(_) => address,
    }
}

/// The IPv4 address in a NAT64 (64:ff9b::/96) or 6to4 (2002::/16) address.
fn translated(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let carried = match address.octets() {
        [0x00, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] | [0x20, 0x02, a, b, c, d, ..] => [a, b, c, d],
        _ => return None,
    };
    Some(Ipv4Addr::from(carried))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

/// IANA IPv4 special-purpose address registry: addresses that are not globally reachable are not public.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, _, _)
    );
    !special
}

/// Only 2000::/3 is allocated; its ranges for documentation, benchmarks and tunnels are not public.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    let global = first & 0xe000 == 0x2000;
    let special = matches!(
        (first, second),
        (0x2001, 0x0000..=0x01ff | 0x0db8) | (0x3fff, 0x0000..=0x0fff)
    );
    global && !special
}

#[cfg(test)]
mod tests {
    use super::DenyList;

    #[test]
    fn non_public_addresses_are_denied() {
        let list = DenyList::default();
        for (address, allowed) in [
            ("1.1.1.1", true),
            ("8.8.8.8", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("100.63.0.1", true),
            ("100.128.0.1", true),
            ("2606:4700::1111", true),
            ("2a00:1450:4001::1", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("100.64.0.1", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.168.1.1", false),
            ("198.18.0.1", false),
            ("203.0.113.7", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2001::1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:8.8.8.8", true),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::", false),
            ("2002:a00:1::", false),
        ] {
            assert_eq!(list.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn exceptions_are_networks_and_apply_to_mapped_addresses_too() {
        let list = DenyList::new(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        for (address, allowed) in [
            ("10.9.9.9", true),
            ("::ffff:10.9.9.9", true),
            ("::1", true),
            ("127.0.0.1", false),
            ("::2", false),
        ] {
            assert_eq!(list.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
