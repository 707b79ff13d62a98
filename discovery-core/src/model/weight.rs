// SPDX-License-Identifier: MIT OR Apache-2.0
//! How much of the traffic an endpoint takes: absolute integers, so that a change of one moves nobody else's keys.

use super::ModelError;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// A weight in hundredths of an ordinary endpoint.
///
/// Absolute: 50 is half an endpoint whatever the others have. 0 takes nothing (drained by weight).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

impl Weight {
    /// An ordinary endpoint.
    pub const ORDINARY: Self = Self(100);
    /// Nothing at all.
    pub const ZERO: Self = Self(0);
    /// 16 ordinary endpoints: a mistaken number must not eat memory, since a ring holds virtual nodes by weight.
    pub const MAX: Self = Self(1_600);

    /// A weight in hundredths; none above [`Weight::MAX`].
    pub fn new(hundredths: u32) -> Option<Self> {
        (hundredths <= Self::MAX.0).then_some(Self(hundredths))
    }

    /// In hundredths of an ordinary endpoint.
    #[inline]
    pub fn hundredths(self) -> u32 {
        self.0
    }

    /// Whether it takes nothing.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ORDINARY
    }
}

impl TryFrom<u32> for Weight {
    type Error = String;

    fn try_from(hundredths: u32) -> Result<Self, String> {
        Self::new(hundredths).ok_or_else(|| format!("weight {hundredths} is above 1600"))
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The weights of a service's endpoints, by the pod's name or `ip:port`; a `*` at the end stands for any rest. The first
/// rule that fits counts, and whom none fits has the ordinary weight.
///
/// EndpointSlices carry no weight, so that a service states them itself: a fact that every caller reads alike.
///
/// ```
/// use discovery_core::model::{Weight, Weights};
///
/// let weights: Weights = "web-canary-*=10, web-0=0".parse().unwrap();
/// assert_eq!(weights.of("web-canary-7d9f").hundredths(), 10);
/// assert_eq!(weights.of("web-1"), Weight::ORDINARY);
/// assert!("web=4294967296".parse::<Weights>().is_err());
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Weights(Option<Arc<[Rule]>>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Rule {
    /// A name, or its beginning.
    name: Arc<str>,
    is_prefix: bool,
    weight: Weight,
}

impl Weights {
    /// How many rules one service may have.
    pub const RULES_MAX: usize = 64;

    /// The weight of the endpoint with this identity.
    pub fn of(&self, identity: &str) -> Weight {
        let mut rules = self.0.iter().flat_map(|rules| rules.iter());
        rules
            .find(|rule| rule.fits(identity))
            .map_or(Weight::ORDINARY, |rule| rule.weight)
    }

    /// Whether every endpoint has the ordinary weight.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Rule {
    fn fits(&self, identity: &str) -> bool {
        if self.is_prefix {
            identity.starts_with(&*self.name)
        } else {
            identity == &*self.name
        }
    }
}

impl FromStr for Weights {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let rules: Vec<Rule> = parts
            .take(Self::RULES_MAX + 1)
            .map(rule)
            .collect::<Result<_, _>>()?;
        if rules.len() > Self::RULES_MAX {
            return Err(refused(text, "it has more than 64 rules"));
        }
        Ok(Self((!rules.is_empty()).then(|| rules.into())))
    }
}

fn rule(text: &str) -> Result<Rule, ModelError> {
    let (name, weight) = text
        .split_once('=')
        .ok_or_else(|| refused(text, "a rule is NAME=WEIGHT"))?;
    let (name, weight) = (name.trim(), weight.trim());
    let is_prefix = name.ends_with('*');
    let name = name.strip_suffix('*').unwrap_or(name);
    let is_name = name.len() <= 253 && !name.contains('*') && (is_prefix || !name.is_empty());
    if !is_name {
        return Err(refused(
            text,
            "the name is a pod's or ip:port, or its beginning and a *",
        ));
    }
    let weight = weight
        .parse()
        .ok()
        .and_then(Weight::new)
        .ok_or_else(|| refused(text, "a weight is a number from 0 to 1600; 100 is ordinary"))?;
    Ok(Rule {
        name: name.into(),
        is_prefix,
        weight,
    })
}

fn refused(text: &str, why: &'static str) -> ModelError {
    ModelError::new("list of weights", text, why)
}

impl TryFrom<String> for Weights {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<Weights> for String {
    fn from(weights: Weights) -> Self {
        weights.to_string()
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, rule) in self.0.iter().flat_map(|rules| rules.iter()).enumerate() {
            let separator = if position == 0 { "" } else { "," };
            let star = if rule.is_prefix { "*" } else { "" };
            write!(f, "{separator}{}{star}={}", rule.name, rule.weight)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_counts() {
        let weights: Weights = "a-1=7,a-*=50,*=200".parse().unwrap();
        let of = |name| weights.of(name).hundredths();
        assert_eq!((of("a-1"), of("a-2"), of("b")), (7, 50, 200));
        assert_eq!(weights.to_string().parse(), Ok(weights));
    }

    #[test]
    fn absurd_weights_are_refused_with_the_rule_that_they_break() {
        for bad in [
            "a",
            "=5",
            "a=",
            "a=-1",
            "a=1601",
            "a=4294967296",
            "a*b=1",
            "a=1=2",
            &"a=1,".repeat(65),
            &format!("{}=1", "a".repeat(254)),
        ] {
            assert!(bad.parse::<Weights>().is_err(), "{bad:?}");
        }
        assert!("".parse::<Weights>().unwrap().is_empty());
    }
}
