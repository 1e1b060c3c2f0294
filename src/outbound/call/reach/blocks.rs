//! The addresses out of reach: blocks of the IANA special-purpose registries, and where clouds keep their metadata.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Network;

/// First address, length of the prefix in bits (at least 1), and what the block is.
type Block<A> = (A, u32, &'static str);

const LINK_LOCAL: &str = "link-local, where clouds keep their metadata";
const METADATA: &str = "the metadata service of a cloud";
const DOCUMENTATION: &str = "for documentation";

/// Out of reach for every call.
const NEVER_V4: [Block<Ipv4Addr>; 7] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified: no host has it"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    // Alibaba, Azure and Oracle do not use the link-local block, or not alone.
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::new(192, 0, 0, 192), 32, METADATA),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::BROADCAST, 32, "broadcast"),
];

/// As above. AWS, Google, Scaleway and Oracle each keep their metadata in a corner of the unique local block.
const NEVER_V6: [Block<Ipv6Addr>; 8] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified: no host has it"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32, METADATA),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0), 32, METADATA),
    (Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42), 128, METADATA),
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0, 0), 32, METADATA),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    // RFC 8215: the place of the IPv4 address in it is a matter of each network, so it cannot be looked at.
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a local translation to an IPv4 address that it does not show"),
];

/// Out of reach for a target whose `network` is "public".
const PRIVATE_V4: [Block<Ipv4Addr>; 12] = [
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by customers of a carrier"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a relay to IPv6, which is deprecated"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// As above, beside everything outside `GLOBAL_V6`.
const PRIVATE_V6: [Block<Ipv6Addr>; 6] = [
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private (unique local)"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "for protocols, benchmarks and tunnels"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, DOCUMENTATION),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a tunnel over IPv4, which is deprecated"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, DOCUMENTATION),
];

/// All that IANA has given out for hosts of the internet (global unicast).
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What an address is that a call must not connect to, as words that follow "is"; `None` = the call may.
pub(super) fn out_of_reach(address: IpAddr, network: Network) -> Option<String> {
    match address {
        IpAddr::V4(address) => out_of_reach_v4(address, network),
        IpAddr::V6(address) => out_of_reach_v6(address, network),
    }
}

fn out_of_reach_v4(address: Ipv4Addr, network: Network) -> Option<String> {
    let holds = |&(base, bits, _): &Block<Ipv4Addr>| is_inside_v4(address, base, bits);
    if let Some((.., what)) = NEVER_V4.iter().find(|block| holds(block)) {
        return Some((*what).to_owned());
    }
    let (.., what) = PRIVATE_V4.iter().find(|block| holds(block))?;
    not_public(what, network)
}

fn out_of_reach_v6(address: Ipv6Addr, network: Network) -> Option<String> {
    let holds = |&(base, bits, _): &Block<Ipv6Addr>| is_inside_v6(address, base, bits);
    if let Some((.., what)) = NEVER_V6.iter().find(|block| holds(block)) {
        return Some((*what).to_owned());
    }
    let stands_for = stands_for(address);
    if let Some((real, what)) = stands_for.and_then(|real| Some((real, out_of_reach_v4(real, network)?))) {
        return Some(format!("another way to write {real}, which is {what}"));
    }
    if let Some((.., what)) = PRIVATE_V6.iter().find(|block| holds(block)) {
        return not_public(what, network);
    }
    let is_global = is_inside_v6(address, GLOBAL_V6.0, GLOBAL_V6.1) || stands_for.is_some();
    if is_global { None } else { not_public("no address of the internet", network) }
}

fn not_public(what: &str, network: Network) -> Option<String> {
    (network == Network::Public).then(|| format!("{what}, and network is \"public\""))
}

/// The IPv4 address that packets to an IPv6 address end at, by way of the kernel, a translator or a tunnel.
fn stands_for(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match address.segments() {
        // Unspecified and loopback have the form of a compatible address, and are none.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => return None,
        // IPv4-mapped and -compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0xffff | 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => (high, low),
        // Teredo (RFC 4380) hides the address of the client by turning its bits around.
        [0x2001, 0, .., high, low] => (!high, !low),
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

fn is_inside_v4(address: Ipv4Addr, base: Ipv4Addr, bits: u32) -> bool {
    (address.to_bits() ^ base.to_bits()) >> (32 - bits) == 0
}

fn is_inside_v6(address: Ipv6Addr, base: Ipv6Addr, bits: u32) -> bool {
    (address.to_bits() ^ base.to_bits()) >> (128 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(address: &str, network: Network) -> String {
        let address = address.parse().expect("an address");
        out_of_reach(address, network).unwrap_or_default()
    }

    #[test]
    fn metadata_and_nowhere_are_never_reached_in_any_form() {
        for (address, words) in [
            ("169.254.169.254", "link-local"),
            ("169.254.0.0", "link-local"),
            ("169.254.255.255", "link-local"),
            ("169.254.170.2", "link-local"),
            ("100.100.100.200", "metadata"),
            ("168.63.129.16", "metadata"),
            ("192.0.0.192", "metadata"),
            ("0.0.0.0", "unspecified"),
            ("0.1.2.3", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("239.255.255.255", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"),
            ("fe80::1", "link-local"),
            ("febf:ffff::", "link-local"),
            ("fd00:ec2::254", "metadata"),
            ("fd00:ec2::23", "metadata"),
            ("fd20:ce::254", "metadata"),
            ("fd00:42::42", "metadata"),
            ("fd00:c1::a9fe:a9fe", "metadata"),
            ("ff02::1", "multicast"),
            ("64:ff9b:1::a9fe:a9fe", "local translation"),
            // The same through another door.
            ("::ffff:169.254.169.254", "another way to write 169.254.169.254, which is link-local"),
            ("::169.254.169.254", "another way to write 169.254.169.254"),
            ("::ffff:0:169.254.169.254", "another way to write 169.254.169.254"),
            ("64:ff9b::169.254.169.254", "another way to write 169.254.169.254"),
            ("2002:a9fe:a9fe::1", "another way to write 169.254.169.254"),
            ("2001:0:1:2:3:4:5601:5601", "another way to write 169.254.169.254"),
            ("::ffff:100.100.100.200", "another way to write 100.100.100.200"),
            ("::ffff:0.0.0.0", "another way to write 0.0.0.0"),
            ("::2", "another way to write 0.0.0.2"),
        ] {
            for network in [Network::Any, Network::Public] {
                assert!(found(address, network).contains(words), "{address}: {:?}", found(address, network));
            }
        }
    }

    #[test]
    fn what_is_private_is_reached_unless_the_target_is_public() {
        for address in [
            "127.0.0.1",
            "127.255.255.255",
            "10.0.0.1",
            "10.255.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "198.18.0.1",
            "198.19.255.255",
            "192.88.99.1",
            "240.0.0.1",
            "255.255.255.254",
            "::1",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            "100::1",
            "5f00::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "2002:808:808::1",
            "4000::1",
            "64:ff9b::10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:192.168.0.1",
        ] {
            assert_eq!(found(address, Network::Any), "", "{address}");
            assert!(found(address, Network::Public).contains("network is \"public\""), "{address}");
        }
    }

    #[test]
    fn the_internet_is_reached() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2001:4860:4860::8888",
            "2606:4700::1111",
            "2a00::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
        ] {
            for network in [Network::Any, Network::Public] {
                assert_eq!(found(address, network), "", "{address}");
            }
        }
    }
}
