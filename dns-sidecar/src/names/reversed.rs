// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of addresses, below `in-addr.arpa` and `ip6.arpa`: RFC 1035 3.5 and RFC 3596 2.5.

use super::Asked;
use crate::wire::LowerName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of an address, or of a block of them.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Reversed {
    /// A whole address.
    Address(IpAddr),
    /// The first octets of IPv4 addresses, or the first nibbles of IPv6 ones.
    Block { is_v4: bool, digits: Vec<u8> },
}

impl Reversed {
    fn new(is_v4: bool, digits: Vec<u8>) -> Self {
        if let (true, Ok(octets)) = (is_v4, <[u8; 4]>::try_from(&*digits)) {
            return Self::Address(Ipv4Addr::from(octets).into());
        }
        if !is_v4 && digits.len() == 32 {
            let bits = digits
                .iter()
                .fold(0_u128, |bits, digit| bits << 4 | u128::from(*digit));
            return Self::Address(Ipv6Addr::from_bits(bits).into());
        }
        Self::Block { is_v4, digits }
    }

    /// The first and the last address of the block.
    pub(crate) fn range(is_v4: bool, digits: &[u8]) -> (IpAddr, IpAddr) {
        if is_v4 {
            let mut bounds = [[0; 4], [255; 4]];
            for bound in &mut bounds {
                bound[..digits.len()].copy_from_slice(digits);
            }
            return (bounds[0].into(), bounds[1].into());
        }
        let fold = |fill: u128| {
            (0..32).fold(0_u128, |bits, at| {
                bits << 4 | digits.get(at).map_or(fill, |digit| u128::from(*digit))
            })
        };
        (
            Ipv6Addr::from_bits(fold(0)).into(),
            Ipv6Addr::from_bits(fold(15)).into(),
        )
    }
}

/// What stands before `arpa`.
pub(super) fn read_reverse(name: &LowerName, end: usize) -> Asked<'_> {
    if end == 0 {
        return Asked::Reverse(Reversed::Block {
            is_v4: true,
            digits: Vec::new(),
        });
    }
    let labels = (0..end - 1).rev().map(|at| name.label(at));
    let (is_v4, digits): (bool, Option<Vec<u8>>) = match name.label(end - 1) {
        b"in-addr" => (true, labels.map(octet).collect()),
        b"ip6" => (false, labels.map(nibble).collect()),
        _ => return Asked::Nothing,
    };
    match digits {
        Some(digits) if digits.len() <= if is_v4 { 4 } else { 32 } => {
            Asked::Reverse(Reversed::new(is_v4, digits))
        }
        _ => Asked::Nothing,
    }
}

fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let is_canonical =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_canonical)
}

fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit)
        .to_digit(16)
        .and_then(|value| value.try_into().ok())
}
