// SPDX-License-Identifier: MIT OR Apache-2.0
//! Addresses that are written in a label, as in `0a000001.addr`: 8 or 32 hexadecimal digits.

use super::Asked;
use crate::wire::LowerName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a name asks for whose label number `at` is `addr`.
pub(super) fn read_address(name: &LowerName, at: usize, is_compat: bool) -> Asked<'_> {
    if at != 1 {
        return if at == 0 && !is_compat {
            Asked::Stem
        } else {
            Asked::Nothing
        };
    }
    let digits = name.label(0);
    match read_hex(digits) {
        Some(address) => Asked::Address(address),
        None if is_compat && !matches!(digits.len() / 2, 4 | 16) => Asked::NoAddress,
        None => Asked::Nothing,
    }
}

/// The address of a label of 8 or 32 hexadecimal digits.
pub(super) fn read_hex(label: &[u8]) -> Option<IpAddr> {
    let digits = |digits: &[u8]| {
        digits.iter().try_fold(0_u128, |value, digit| {
            let digit = char::from(*digit).to_digit(16)?;
            Some(value << 4 | u128::from(digit))
        })
    };
    match label.len() {
        8 => u32::try_from(digits(label)?)
            .ok()
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        32 => digits(label).map(|bits| Ipv6Addr::from_bits(bits).into()),
        _ => None,
    }
}

/// The label of an address, with its length octet.
pub(crate) fn hex_label(address: IpAddr) -> Vec<u8> {
    let (length, octets) = match &address {
        IpAddr::V4(v4) => (8, &v4.octets()[..]),
        IpAddr::V6(v6) => (32, &v6.octets()[..]),
    };
    let digit = |number: u8| b"0123456789abcdef"[usize::from(number)];
    let digits = octets.iter().flat_map(|octet| [octet >> 4, octet & 15]);
    std::iter::once(length).chain(digits.map(digit)).collect()
}
