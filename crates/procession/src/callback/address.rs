//! Which addresses a callback may reach whose URL a client has part in: those of the public
//! Internet. Everything of this machine, of its networks and of its cloud is refused, in every
//! way an address can be written into another.
//!
//! By the registries of special addresses of IANA (RFC 6890). In IPv6 only what is handed out
//! to the public is let through, so what they will add is refused already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is, where it is refused.
pub(super) fn refusal(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => refusal_v4(address),
        IpAddr::V6(address) => refusal_v6(address),
    }
}

/// Network, bits of its prefix, and what it is.
const REFUSED_V4: [([u8; 4], u32, &str); 18] = [
    ([0, 0, 0, 0], 8, "of no network"),
    ([10, 0, 0, 0], 8, "private"),
    ([100, 64, 0, 0], 10, "shared with a provider"),
    ([127, 0, 0, 0], 8, "this machine"),
    ([169, 254, 169, 254], 32, "a cloud's metadata"),
    ([169, 254, 0, 0], 16, "link-local"),
    // Azure's, the one that lies among public addresses.
    ([168, 63, 129, 16], 32, "a cloud's metadata"),
    ([172, 16, 0, 0], 12, "private"),
    ([192, 0, 0, 0], 24, "for protocols"),
    ([192, 0, 2, 0], 24, "for documentation"),
    ([192, 88, 99, 0], 24, "of a relay"),
    ([192, 168, 0, 0], 16, "private"),
    ([198, 18, 0, 0], 15, "for benchmarks"),
    ([198, 51, 100, 0], 24, "for documentation"),
    ([203, 0, 113, 0], 24, "for documentation"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([255, 255, 255, 255], 32, "broadcast"),
    ([240, 0, 0, 0], 4, "reserved"),
];

fn refusal_v4(address: Ipv4Addr) -> Option<&'static str> {
    let bits = address.to_bits();
    let within = |network: [u8; 4], prefix: u32| (bits ^ u32::from_be_bytes(network)) >> (32 - prefix) == 0;
    REFUSED_V4.iter().find(|(network, prefix, _)| within(*network, *prefix)).map(|(.., what)| *what)
}

fn refusal_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("of no network"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("this machine"),
        // ::ffff:0:0/96, IPv4 as a socket of both writes it, and 64:ff9b::/96, IPv4 as it is
        // translated for a network without.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            refusal_v4(joined(high, low))
        }
        // 2002::/16, IPv4 as 6to4 tunnels it.
        [0x2002, high, low, ..] => refusal_v4(joined(high, low)),
        [0xfc00..=0xfdff, ..] => Some("private"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfec0..=0xfeff, ..] => Some("site-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // 2001::/23: tunnels with an IPv4 address in them, benchmarks, overlays.
        [0x2001, 0..=0x1ff, ..] => Some("for protocols"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("for documentation"),
        [0x2000..=0x3fff, ..] => None,
        // With it the old ::a.b.c.d, and translations of one network only (64:ff9b:1::/48).
        _ => Some("of no public network"),
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<&'static str> {
        refusal(text.parse().unwrap_or_else(|_| panic!("{text} is no address")))
    }

    /// The first and the last address of each network, and those beside it.
    #[test]
    fn f37_every_special_network_is_refused_to_its_edges() {
        for (first, last, before, behind) in [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("168.63.129.16", "168.63.129.16", Some("168.63.129.15"), Some("168.63.129.17")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
            ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", None, Some("2000::")),
            ("2001::", "2001:1ff:ffff::", Some("2000:ffff::"), Some("2001:200::")),
            ("2001:db8::", "2001:db8:ffff::", Some("2001:db7::"), Some("2001:db9::")),
            ("3fff::", "3fff:fff:ffff::", Some("3ffe:ffff::"), Some("3fff:1000::")),
            ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some("3fff:ffff::"), None),
        ] {
            assert!(of(first).is_some() && of(last).is_some(), "{first} to {last}");
            for public in [before, behind].into_iter().flatten() {
                assert_eq!(of(public), None, "{public}");
            }
        }
    }

    #[test]
    fn f37_each_is_called_what_it_is() {
        for (address, expected) in [
            ("127.0.0.1", "this machine"),
            ("::1", "this machine"),
            ("169.254.169.254", "a cloud's metadata"),
            ("168.63.129.16", "a cloud's metadata"),
            ("fd00:ec2::254", "private"),
            ("fe80::1", "link-local"),
            ("fec0::1", "site-local"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::127.0.0.1", "of no public network"),
            ("64:ff9b:1::7f00:1", "of no public network"),
        ] {
            assert_eq!(of(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn f37_an_address_within_another_is_judged_by_itself() {
        for inner in ["127.0.0.1", "10.1.2.3", "169.254.169.254", "192.168.0.1", "8.8.8.8", "93.184.216.34"] {
            let bytes = inner.parse::<Ipv4Addr>().expect("an address").octets();
            let [a, b, c, d] = bytes.map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for outer in [
                format!("::ffff:{inner}"),
                format!("::ffff:{high:x}:{low:x}"),
                format!("64:ff9b::{inner}"),
                format!("2002:{high:x}:{low:x}::1"),
            ] {
                assert_eq!(of(&outer), of(inner), "{outer}");
            }
        }
    }

    #[test]
    fn the_public_is_reached() {
        for public in ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001:80b::200e"] {
            assert_eq!(of(public), None, "{public}");
        }
    }
}
