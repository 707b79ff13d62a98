// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who an endpoint is: the pod, not its address.
//!
//! Two keys for two purposes. The [`Identity`] places the endpoint on the ring and is the same at every caller; a
//! StatefulSet pod keeps it through a restart with a new address. The [`StateKey`] owns what a caller counts about the
//! endpoint (requests in flight); a new pod of the same name starts clean.

use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr, sync::Arc};

/// The pod behind an endpoint, from `targetRef`.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct TargetRef {
    /// The pod's name.
    pub name: Arc<str>,
    /// The pod's UID; empty when a hand-made slice gives none.
    pub uid: Uid,
}

/// The UID of an object.
///
/// One in the form that Kubernetes gives, `8-4-4-4-12` lower-case hexadecimal digits, is kept as its 16 bytes and costs no
/// allocation; any other text is kept as it is.
///
/// ```
/// use discovery_core::model::Uid;
///
/// let uid = Uid::from("7f4d0101-93a1-4c2e-8d5b-0123456789ab");
/// assert_eq!(uid.to_string(), "7f4d0101-93a1-4c2e-8d5b-0123456789ab");
/// assert_eq!(Uid::from("by-hand").to_string(), "by-hand");
/// assert!(Uid::from("").is_empty());
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Uid(UidForm);

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
enum UidForm {
    #[default]
    Empty,
    Packed([u8; 16]),
    Text(Arc<str>),
}

impl Uid {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0 == UidForm::Empty
    }

    /// The bytes of a UID in Kubernetes' form.
    pub fn bytes(&self) -> Option<&[u8; 16]> {
        match &self.0 {
            UidForm::Packed(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl From<[u8; 16]> for Uid {
    fn from(bytes: [u8; 16]) -> Self {
        Self(UidForm::Packed(bytes))
    }
}

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        Self(match pack(text) {
            _ if text.is_empty() => UidForm::Empty,
            Some(bytes) => UidForm::Packed(bytes),
            None => UidForm::Text(text.into()),
        })
    }
}

impl From<String> for Uid {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<Uid> for String {
    fn from(uid: Uid) -> Self {
        uid.to_string()
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UidForm::Empty => Ok(()),
            UidForm::Text(text) => f.write_str(text),
            UidForm::Packed(bytes) => {
                for (position, byte) in bytes.iter().enumerate() {
                    let separator = if DASHES.contains(&(position * 2)) {
                        "-"
                    } else {
                        ""
                    };
                    write!(f, "{separator}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

/// The bytes of the text, when it is exactly what [`Uid`] prints for them.
fn pack(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (text, mut at, mut bytes) = (text.as_bytes(), 0, [0; 16]);
    for (position, byte) in bytes.iter_mut().enumerate() {
        if DASHES.contains(&(position * 2)) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

/// Before which hexadecimal digits a dash stands.
const DASHES: [usize; 4] = [8, 12, 16, 20];

/// What places an endpoint on the ring: the pod's name, else `ip:port` (rule of `ring/v1`).
///
/// Ordered and hashed by its bytes, never by `std::hash::Hash`, so that every caller agrees on every machine.
///
/// ```
/// use discovery_core::model::Identity;
///
/// let pod = Identity::of_pod("web-0");
/// let bare = Identity::of_address("10.0.0.1:8080".parse().unwrap());
/// assert_eq!((pod.as_str(), bare.as_str()), ("web-0", "10.0.0.1:8080"));
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The identity of a pod.
    pub fn of_pod(name: &str) -> Self {
        Self(name.into())
    }

    /// The identity of an endpoint without a pod.
    pub fn of_address(address: SocketAddr) -> Self {
        Self(address.to_string().into())
    }

    /// The text; its UTF-8 bytes are what the placement hashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Identity {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What owns a caller's counters about an endpoint: the pod's UID, else its name, else `ip:port`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct StateKey(Owner);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Owner {
    Pod(Uid),
    Named(Identity),
}

impl StateKey {
    /// The key of an endpoint with the given pod and identity.
    pub fn new(target: Option<&TargetRef>, identity: &Identity) -> Self {
        Self(match target {
            Some(target) if !target.uid.is_empty() => Owner::Pod(target.uid.clone()),
            _ => Owner::Named(identity.clone()),
        })
    }
}

/// `uid/…` or `name/…`, so that the same text is the same owner.
impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Owner::Pod(uid) => write!(f, "uid/{uid}"),
            Owner::Named(identity) => write!(f, "name/{identity}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_prints_what_was_read_whatever_it_was() {
        let canonical = "7f4d0101-93a1-4c2e-8d5b-0123456789ab";
        assert!(Uid::from(canonical).bytes().is_some());
        for text in [
            canonical,
            "",
            "7F4D0101-93a1-4c2e-8d5b-0123456789ab",
            "7f4d010193a14c2e8d5b0123456789ab----",
            "7f4d0101-93a1-4c2e-8d5b-0123456789a",
            "7f4d0101-93a1-4c2e-8d5b--123456789ab",
            "-7f4d010193a1-4c2e-8d5b-0123456789ab",
            "uid-web-0",
        ] {
            let uid = Uid::from(text);
            assert_eq!(uid.to_string(), text);
            assert_eq!(uid.bytes().is_some(), text == canonical, "{text}");
        }
    }
}
