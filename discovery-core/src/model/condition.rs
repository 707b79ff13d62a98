// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the control plane says of an endpoint, and the one closed list of reasons why it is in or out.

use super::AddressClass;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The conditions of an EndpointSlice endpoint with their defaults applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Conditions {
    /// Ready for new traffic.
    pub ready: bool,
    /// Answers, whether or not it is terminating.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
}

impl Conditions {
    /// Applies the defaults of the API: `ready` absent means true, `serving` absent means as `ready`, `terminating`
    /// absent means false.
    pub fn from_api(ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> Self {
        let ready = ready.unwrap_or(true);
        Self {
            ready,
            serving: serving.unwrap_or(ready),
            terminating: terminating.unwrap_or(false),
        }
    }

    /// In which order of preference the endpoint stands (KEP-1669).
    pub fn standing(self) -> Standing {
        match self {
            // A controller that is told to publish what is not ready says `ready` of everything, and the truth in the other
            // two.
            Self {
                ready: true,
                serving: true,
                terminating: false,
            } => Standing::Ready,
            Self {
                serving: true,
                terminating: true,
                ..
            } => Standing::ServingTerminating,
            _ => Standing::Out,
        }
    }
}

/// The preference among endpoints by their conditions (KEP-1669).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Standing {
    /// Ready: the first choice.
    Ready,
    /// Terminating and still serving: used only where nothing is ready.
    ServingTerminating,
    /// Neither: never used.
    Out,
}

/// Why an endpoint is in or out: one closed list for the command line, the page, metrics and logs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Reason {
    /// In: of our zone.
    OwnZone,
    /// In: on our node, which the service asks for.
    OwnNode,
    /// In: of our zone as its slice states it, since nodes cannot be read.
    OwnZoneAsStated,
    /// In: it names no node, and the configuration includes such endpoints.
    UnlocatedIncluded,
    /// In: the control plane hints that it is for us, and the policy is `prefer`.
    Hinted,
    /// In: the policy is `any`, and the endpoint is of another zone.
    PolicyAny,
    /// In: the policy is `prefer`, our zone has nothing usable, and the endpoint is of another zone.
    SpilledIn,
    /// In: terminating and still serving, and nothing of its tier is ready.
    LastServing,
    /// Out: of another zone.
    OtherZone,
    /// Out: on another node, and the service is for callers of the same node.
    OtherNode,
    /// Out: the service asks for a label of our own node that it does not carry, or for something that cannot be read.
    NoOwnZone,
    /// Out: the service prefers others, and they can serve.
    LessPreferred,
    /// Out: its slice names no node, so that its zone is unknown.
    NoZoneOnEndpoint,
    /// Out: not ready.
    NotReady,
    /// Out: terminating.
    Terminating,
    /// Out: the service gives it the weight 0.
    ZeroWeight,
    /// Out: its address is of a class that no endpoint may have.
    BadAddress(AddressClass),
    /// Out: another endpoint has the same address and port.
    Duplicate,
    /// Out: a service holds more endpoints than the limit.
    OverLimit,
}

impl Reason {
    /// The word that metrics, JSON and the command line use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnZone => "own-zone",
            Self::OwnNode => "own-node",
            Self::OwnZoneAsStated => "own-zone-as-stated",
            Self::UnlocatedIncluded => "unlocated-included",
            Self::Hinted => "hinted",
            Self::PolicyAny => "policy-any",
            Self::SpilledIn => "spilled-in",
            Self::LastServing => "last-serving",
            Self::OtherZone => "other-zone",
            Self::OtherNode => "other-node",
            Self::NoOwnZone => "no-own-zone",
            Self::LessPreferred => "less-preferred",
            Self::NoZoneOnEndpoint => "no-zone-on-endpoint",
            Self::NotReady => "not-ready",
            Self::Terminating => "terminating",
            Self::ZeroWeight => "zero-weight",
            Self::BadAddress(class) => class.reason(),
            Self::Duplicate => "duplicate",
            Self::OverLimit => "over-limit",
        }
    }

    /// Whether the endpoint may be picked.
    pub fn is_in(self) -> bool {
        matches!(
            self,
            Self::OwnZone
                | Self::OwnNode
                | Self::OwnZoneAsStated
                | Self::UnlocatedIncluded
                | Self::Hinted
                | Self::PolicyAny
                | Self::SpilledIn
                | Self::LastServing
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_conditions_take_the_defaults_of_the_api() {
        let nothing = Conditions::from_api(None, None, None);
        assert_eq!(
            nothing,
            Conditions {
                ready: true,
                serving: true,
                terminating: false
            }
        );
        assert!(!Conditions::from_api(Some(false), None, None).serving);
    }

    #[test]
    fn standing_follows_kep_1669() {
        let standing = |r, s, t| Conditions::from_api(Some(r), Some(s), Some(t)).standing();
        assert_eq!(standing(true, true, false), Standing::Ready);
        assert_eq!(standing(false, true, true), Standing::ServingTerminating);
        assert_eq!(standing(false, false, true), Standing::Out);
        assert_eq!(standing(false, true, false), Standing::Out);
        // publishNotReadyAddresses forces ready=true on a terminating pod: serving tells the truth.
        assert_eq!(standing(true, true, true), Standing::ServingTerminating);
        assert_eq!(standing(true, false, true), Standing::Out);
        assert_eq!(standing(true, false, false), Standing::Out);
    }
}
