//! The one spelling of network addresses: what PostgreSQL, MariaDB and an application's text column write differently.

// Addresses alone: nothing in `core` talks to anybody.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::logical::Network;

/// The canonical spelling, or why the text is no such address.
pub fn canonical(kind: Network, text: &str) -> Result<String, String> {
    let spelled = match kind {
        Network::Mac => mac(text),
        Network::Ip4 => text.parse::<Ipv4Addr>().ok().map(|a| a.to_string()),
        Network::Ip6 => text.parse::<Ipv6Addr>().ok().map(|a| a.to_string()),
        Network::Inet => address(text).map(|(a, prefix)| match prefix {
            Some(prefix) if prefix != widest(&a) => format!("{a}/{prefix}"),
            _ => a.to_string(),
        }),
        Network::Cidr => address(text).map(|(a, prefix)| format!("{a}/{}", prefix.unwrap_or(widest(&a)))),
    };
    spelled.ok_or_else(|| format!("`{text}` is no {}", super::LogicalType::Network(kind)))
}

fn widest(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn address(text: &str) -> Option<(IpAddr, Option<u8>)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    prefix
        .is_none_or(|prefix| prefix <= widest(&address))
        .then_some((address, prefix))
}

/// Six pairs of hexadecimal digits between colons or hyphens.
fn mac(text: &str) -> Option<String> {
    let pairs: Vec<&str> = text.split([':', '-']).collect();
    let fine = pairs.len() == 6
        && pairs
            .iter()
            .all(|pair| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit()));
    fine.then(|| pairs.join(":").to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_spelling() {
        for (kind, text, expected) in [
            (Network::Inet, "10.1.2.3/32", "10.1.2.3"),
            (Network::Inet, "10.1.2.3/8", "10.1.2.3/8"),
            (Network::Inet, "FE80:0:0::1/128", "fe80::1"),
            (Network::Ip6, "::FFFF:1.2.3.4", "::ffff:1.2.3.4"),
            (Network::Cidr, "10.1.2.3", "10.1.2.3/32"),
            (Network::Mac, "08-00-2B-01-02-03", "08:00:2b:01:02:03"),
        ] {
            assert_eq!(canonical(kind, text).as_deref(), Ok(expected));
        }
        for (kind, text) in [
            (Network::Inet, "10.1.2"),
            (Network::Inet, "10.1.2.3/33"),
            (Network::Ip4, "::1"),
            (Network::Ip6, "1.2.3.4"),
            (Network::Mac, "0:1:2:3:4:5"),
            (Network::Mac, ""),
        ] {
            assert!(canonical(kind, text).is_err(), "{text}");
        }
    }
}
