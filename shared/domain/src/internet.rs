//! Which addresses are public: those that anybody on the internet may have, and that nobody has for himself alone.
//!
//! This file must not know who asks there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is not public of IPv4, as network and length of its prefix: whatever the registry does not call globally reachable, its few exceptions
/// within such ranges included, and multicast.
/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, <https://www.iana.org/assignments/multicast-addresses>
const NOT_PUBLIC_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private use
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // behind a carrier's NAT
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local: the metadata of clouds
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private use
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // relays of 6to4, no longer in use
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private use
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, and limited broadcast
];

/// All that is given out of IPv6 for the public; beyond it are loopback, unique local, link-local and multicast addresses, and what is
/// reserved: <https://www.iana.org/assignments/ipv6-address-space>.
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is not public within it, the registry's few exceptions within such ranges included:
/// <https://www.iana.org/assignments/iana-ipv6-special-registry>.
const NOT_PUBLIC_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocol assignments: Teredo, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// May anybody be asked there? Where an address of IPv6 stands for one of IPv4, that one decides.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => meant_of_v4(ip).map_or_else(|| is_public_v6(ip), is_public_v4),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let is_in = |(network, length): &(Ipv4Addr, u32)| (ip.to_bits() ^ network.to_bits()).leading_zeros() >= *length;
    !NOT_PUBLIC_V4.iter().any(is_in)
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let is_in = |(network, length): &(Ipv6Addr, u32)| (ip.to_bits() ^ network.to_bits()).leading_zeros() >= *length;
    is_in(&PUBLIC_V6) && !NOT_PUBLIC_V6.iter().any(is_in)
}

/// The address of IPv4 that is reached by one of IPv6: mapped, translated (<https://www.rfc-editor.org/rfc/rfc6052>) or tunnelled
/// (<https://www.rfc-editor.org/rfc/rfc3056>).
fn meant_of_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => of(high, low),
        _ => None,
    }
}

/// Is the text an https link that leads to the public, as far as can be seen without asking where its name leads? Neither user nor
/// white space stands in it, and its host is a name with a dot or a public address.
#[must_use]
pub fn is_public_link(link: &str) -> bool {
    let Some(rest) = link.strip_prefix("https://") else { return false };
    // What some readers take for a slash, and what none should see, stand in no link.
    if !rest.chars().all(|it| !it.is_whitespace() && !it.is_control() && it != '\\') {
        return false;
    }
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = match place.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((host, port)) => (host, port),
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let is_port = |it: &str| it.is_empty() || it.strip_prefix(':').is_some_and(|it| it.parse::<u16>().is_ok());
    is_port(port)
        && if place.starts_with('[') { host.parse::<Ipv6Addr>().is_ok_and(|it| is_public(it.into())) } else { is_public_host(host) }
}

/// A host whose last part is a number is an address, and not all readers agree on which unless it is written in full:
/// <https://url.spec.whatwg.org/#ends-in-a-number-checker>.
fn is_public_host(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|it| it.is_ascii_digit()) || last.starts_with("0x") {
        return host.parse::<Ipv4Addr>().is_ok_and(|it| is_public(it.into()));
    }
    // What other characters lead to is for a reader of names to say: some are digits and dots to it.
    let is_name = host.is_ascii() && host.contains('.') && host.split('.').all(|it| !it.is_empty()) && !host.contains(['@', '%', '[', ']']);
    is_name && last != "localhost"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_the_public() {
        for link in [
            "https://example.com/a.pdf",
            "https://files.example.com:8443/a?b=c#d",
            "https://example.com",
            "https://EXAMPLE.com./a",
            "https://xn--bcher-kva.example/a",
            "https://8.8.8.8/a",
            "https://[2606:4700::1111]/a",
            "https://[2606:4700::1111]:443/a",
            "https://a.0x.example/a",
        ] {
            assert!(is_public_link(link), "{link}");
        }
    }

    #[test]
    fn a_link_to_what_is_near_or_nobodys_is_none() {
        for link in [
            "",
            "http://example.com/a",
            "https://",
            "https:///a",
            "https://a/b",
            "https://localhost/a",
            "https://localhost./a",
            "https://files.localhost/a",
            "https://example..com/a",
            "https://.example.com/a",
            "https://127.0.0.1/a",
            "https://10.1.2.3/a",
            "https://100.64.0.1/a",
            "https://169.254.169.254/latest/meta-data",
            "https://192.168.0.1:443/a",
            "https://2130706433/a",
            "https://0x7f000001/a",
            "https://0x7f.0.0.1/a",
            "https://0177.0.0.1/a",
            "https://127.0x1/a",
            "https://127.1/a",
            "https://127.0.0.１/a",
            "https://127.0.0.①/a",
            "https://a.localhost。/a",
            "https://bücher.example/a",
            "https://127.0.0.1./a",
            "https://1.2.3.4.5/a",
            "https://[::1]/a",
            "https://[::ffff:10.0.0.1]/a",
            "https://[fd00::1]/a",
            "https://[fe80::1%25eth0]/a",
            "https://[::1/a",
            "https://8.8.8.8@10.0.0.1/a",
            "https://user:word@example.com/a",
            "https://example.com:port/a",
            "https://example.com:99999/a",
            "https://example.com\\@10.0.0.1/a",
            "https://exa mple.com/a",
            "https://example.com/a\nb",
        ] {
            assert!(!is_public_link(link), "{link}");
        }
    }
}
