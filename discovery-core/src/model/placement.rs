// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tag of a placement: which function says where a key belongs. Part of what all callers of a service must share.

use super::ModelError;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// The tag of a placement; callers that know another tag must not guess.
///
/// ```
/// use discovery_core::model::Placement;
///
/// assert_eq!("ring".parse(), Ok(Placement::RingV1));
/// assert_eq!(Placement::MaglevV1.to_string(), "maglev/v1");
/// assert!("ring/v2".parse::<Placement>().is_err(), "of a later version: not to be guessed");
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Placement {
    /// `ring/v1`: XXH3-64 identities, SplitMix64 virtual nodes, 512 per ordinary weight. The default.
    #[default]
    RingV1,
    /// `rendezvous/v1`: the highest score wins; exact balance and weights, linear in the number of endpoints.
    RendezvousV1,
    /// `maglev/v1`: a table of 65,537 slots; the flattest cost, and some keys of others move.
    MaglevV1,
    /// `ring/envoy`: the ring of Envoy and gRPC with their defaults, over addresses instead of pod names.
    RingEnvoy,
    /// `maglev/envoy`: the table of Envoy with its default size, over addresses instead of pod names.
    MaglevEnvoy,
}

impl Placement {
    /// Every tag.
    pub const ALL: [Self; 5] = [
        Self::RingV1,
        Self::RendezvousV1,
        Self::MaglevV1,
        Self::RingEnvoy,
        Self::MaglevEnvoy,
    ];

    /// The tag as configuration and logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RingV1 => "ring/v1",
            Self::RendezvousV1 => "rendezvous/v1",
            Self::MaglevV1 => "maglev/v1",
            Self::RingEnvoy => "ring/envoy",
            Self::MaglevEnvoy => "maglev/envoy",
        }
    }

    /// Whether it is a peer's: it then places addresses, and keys are hashed as by
    /// [`HashKey::of_envoy`](crate::hash::HashKey::of_envoy).
    pub fn is_of_envoy(self) -> bool {
        matches!(self, Self::RingEnvoy | Self::MaglevEnvoy)
    }
}

impl FromStr for Placement {
    type Err = ModelError;

    /// Reads a tag, or the name of an algorithm, which means its first version.
    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "ring" | "ring/v1" => Ok(Self::RingV1),
            "rendezvous" | "rendezvous/v1" => Ok(Self::RendezvousV1),
            "maglev" | "maglev/v1" => Ok(Self::MaglevV1),
            "ring/envoy" => Ok(Self::RingEnvoy),
            "maglev/envoy" => Ok(Self::MaglevEnvoy),
            _ => Err(ModelError::new(
                "placement",
                text,
                "the placements are ring/v1, rendezvous/v1, maglev/v1, ring/envoy and maglev/envoy",
            )),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The placement that a service asks for.
///
/// One that this version does not know refuses every keyed pick: to fall back to another would send keys elsewhere than
/// callers that do know it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum PlacementWish {
    /// A placement of this version.
    Known(Placement),
    /// The text of one that it does not know, cut at 63 characters.
    Unknown(Arc<str>),
}

impl PlacementWish {
    /// The placement, when this version knows it.
    pub fn known(&self) -> Option<Placement> {
        match self {
            Self::Known(placement) => Some(*placement),
            Self::Unknown(_) => None,
        }
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(placement) => placement.as_str(),
            Self::Unknown(tag) => tag,
        }
    }
}

impl Default for PlacementWish {
    fn default() -> Self {
        Self::Known(Placement::default())
    }
}

impl From<&str> for PlacementWish {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(
            |_| Self::Unknown(text.chars().take(TAG_CHARS_MAX).collect::<String>().into()),
            Self::Known,
        )
    }
}

impl From<String> for PlacementWish {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

impl From<PlacementWish> for String {
    fn from(wish: PlacementWish) -> Self {
        wish.as_str().to_owned()
    }
}

const TAG_CHARS_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_reads_what_it_prints() {
        for placement in Placement::ALL {
            assert_eq!(placement.to_string().parse(), Ok(placement));
        }
    }

    #[test]
    fn an_unknown_tag_is_kept_and_never_taken_for_another() {
        for text in ["ring/v2", "Ring", "", "maglev/v1 ", &"x".repeat(200)] {
            let wish = PlacementWish::from(text);
            assert_eq!(wish.known(), None, "{text:?}");
            assert_eq!(PlacementWish::from(String::from(wish.clone())), wish);
        }
    }
}
