// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which source's statement about a service is in force when several state it.
//!
//! In: the service and the sources that state it. Out: those in force and those overruled. A pure function of what is
//! stated, so that neither the order of events nor a source that is away changes the outcome: a source that breaks takes
//! nothing back and stays in force; one that says that it has the service no more makes room for the next.

use super::{Kind, Problem, SourceId};
use crate::model::{ModelError, ServiceName};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What is done where several sources state one service.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergePolicy {
    /// The first source of the precedence is in force, the others are overruled. The default.
    #[default]
    PreferFirst,
    /// The endpoints of all sources count; what the service asks for is read from the first.
    Union,
}

impl FromStr for MergePolicy {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text {
            "prefer-first" => Ok(Self::PreferFirst),
            "union" => Ok(Self::Union),
            _ => Err(ModelError::new(
                "merge policy",
                text,
                "the policies are prefer-first and union",
            )),
        }
    }
}

/// The order of sources and what is done with more than one.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct MergeRule {
    /// Sources, the one in force first; those not named come after them, in the order of [`SourceId`].
    pub precedence: Vec<SourceId>,
    /// What is done with more than one.
    pub policy: MergePolicy,
}

/// The rule of every service: those of patterns in their order, then the rule of all others.
///
/// ```
/// use discovery_core::store::{MergeRule, MergeRules, SourceId::{Consul, Kube}};
///
/// let migrated = MergeRule { precedence: vec![Consul, Kube], ..MergeRule::default() };
/// let rules = MergeRules::default().service("shop/pay-*".parse().unwrap(), migrated);
/// let web = rules.choose(&"shop/web".parse().unwrap(), &[Kube, Consul]);
/// assert_eq!((web.in_force, web.overruled), (vec![Kube], vec![Consul]));
/// let pay = rules.choose(&"shop/pay-card".parse().unwrap(), &[Kube, Consul]);
/// assert_eq!(pay.in_force, [Consul]);
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MergeRules {
    others: MergeRule,
    services: Vec<(ServicePattern, MergeRule)>,
}

impl MergeRules {
    /// The rule of services for which no pattern has one; Kubernetes first by default.
    #[must_use]
    pub fn others(mut self, rule: MergeRule) -> Self {
        self.others = rule;
        self
    }

    /// Adds a rule for the services of a pattern; the first pattern that fits decides.
    #[must_use]
    pub fn service(mut self, pattern: ServicePattern, rule: MergeRule) -> Self {
        self.services.push((pattern, rule));
        self
    }

    /// Sorts the sources that state the service into those in force and those overruled.
    pub fn choose(&self, service: &ServiceName, stated_by: &[SourceId]) -> Choice {
        let rule = self.rule(service);
        let mut in_force = stated_by.to_vec();
        in_force.sort_by_key(|source| rule.rank(*source));
        let overruled = match rule.policy {
            MergePolicy::PreferFirst => in_force.split_off(in_force.len().min(1)),
            MergePolicy::Union => Vec::new(),
        };
        Choice {
            in_force,
            overruled,
        }
    }

    /// The place of a source among others for what belongs to no service: nodes.
    pub(super) fn rank(&self, source: SourceId) -> impl Ord + use<> {
        self.others.rank(source)
    }

    fn rule(&self, service: &ServiceName) -> &MergeRule {
        let own = self
            .services
            .iter()
            .find(|(pattern, _)| pattern.fits(service));
        own.map_or(&self.others, |(_, rule)| rule)
    }
}

impl MergeRule {
    fn rank(&self, source: SourceId) -> impl Ord + use<> {
        let place = self.precedence.iter().position(|named| *named == source);
        (place.unwrap_or(usize::MAX), source)
    }
}

/// The sources that state a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Choice {
    /// Those whose statements count, in the order of the precedence.
    pub in_force: Vec<SourceId>,
    /// Those that are overruled, in the order of the precedence.
    pub overruled: Vec<SourceId>,
}

/// A service that more than one source states, some of them in vain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overruled {
    /// The service.
    pub service: ServiceName,
    /// Who states it.
    pub choice: Choice,
}

impl Overruled {
    /// The same for a person to decide on.
    pub(super) fn problem(&self) -> Problem {
        let (overruled, in_force) = (list(&self.choice.overruled), list(&self.choice.in_force));
        Problem {
            kind: Kind::Services,
            object: format!("Service {}", self.service),
            place: format!("source {overruled}"),
            reason: format!(
                "{in_force} states it too and is in force by precedence; what {overruled} says is overruled"
            ),
        }
    }
}

fn list(sources: &[SourceId]) -> String {
    let words: Vec<_> = sources.iter().map(|source| source.as_str()).collect();
    words.join(", ")
}

/// Services by name: `namespace/name` or `name` in the namespace `default`, with `*` for any text in either part.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServicePattern {
    namespace: String,
    name: String,
}

impl ServicePattern {
    /// Whether the service is one of them. Costs O(pattern × name).
    pub fn fits(&self, service: &ServiceName) -> bool {
        fits_stars(&self.namespace, service.namespace()) && fits_stars(&self.name, service.name())
    }
}

impl TryFrom<String> for ServicePattern {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<ServicePattern> for String {
    fn from(pattern: ServicePattern) -> Self {
        pattern.to_string()
    }
}

impl FromStr for ServicePattern {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-*".contains(c);
        for part in [namespace, name] {
            if !matches!(part.len(), 1..=PATTERN_BYTES_MAX) || !part.chars().all(allowed) {
                let why = "it is not namespace/name of lower-case letters, digits, '-' and '*'";
                return Err(ModelError::new("service pattern", text, why));
            }
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether the text is the pattern with any text for each `*`.
///
/// The pieces between stars stand in their order: the first at the start, the last at the end, the others as early as
/// possible.
pub(crate) fn fits_stars(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in middle.split('*') {
        match text.find(piece) {
            Some(at) => text = &text[at + piece.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

/// A label of 63 bytes, and a star around each of some pieces.
const PATTERN_BYTES_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use SourceId::{Consul, Kube, Manifest};
    use proptest::prelude::*;

    fn web() -> ServiceName {
        "web".parse().unwrap()
    }

    #[test]
    fn kubernetes_is_in_force_unless_the_precedence_says_otherwise() {
        let rules = MergeRules::default();
        assert_eq!(rules.choose(&web(), &[Consul, Kube]).in_force, [Kube]);
        let rules = rules.others(MergeRule {
            precedence: vec![Consul],
            policy: MergePolicy::PreferFirst,
        });
        let choice = rules.choose(&web(), &[Kube, Manifest, Consul]);
        assert_eq!(choice.in_force, [Consul]);
        assert_eq!(choice.overruled, [Kube, Manifest]);
    }

    #[test]
    fn a_lone_source_is_in_force_wherever_it_stands() {
        let rules = MergeRules::default().others(MergeRule {
            precedence: vec![Kube, Consul],
            policy: MergePolicy::PreferFirst,
        });
        let choice = rules.choose(&web(), &[Consul]);
        assert_eq!((choice.in_force, choice.overruled), (vec![Consul], vec![]));
        assert_eq!(rules.choose(&web(), &[]).in_force, []);
    }

    #[test]
    fn union_holds_nothing_back() {
        let union = MergeRule {
            precedence: vec![Consul, Kube],
            policy: MergePolicy::Union,
        };
        let rules = MergeRules::default().service("*/web".parse().unwrap(), union);
        assert_eq!(
            rules.choose(&web(), &[Kube, Consul]).in_force,
            [Consul, Kube]
        );
        let other = "api".parse().unwrap();
        assert_eq!(rules.choose(&other, &[Kube, Consul]).overruled, [Consul]);
    }

    #[test]
    fn the_first_pattern_that_fits_decides() {
        let first = |source| MergeRule {
            precedence: vec![source],
            ..MergeRule::default()
        };
        let rules = MergeRules::default()
            .service("shop/web".parse().unwrap(), first(Kube))
            .service("shop/*".parse().unwrap(), first(Consul));
        let in_force = |name: &str| {
            rules
                .choose(&name.parse().unwrap(), &[Kube, Consul])
                .in_force
        };
        assert_eq!(in_force("shop/web"), [Kube]);
        assert_eq!(in_force("shop/pay"), [Consul]);
        assert_eq!(in_force("web"), [Kube]);
    }

    #[test]
    fn stars_stand_for_any_text() {
        let fit = |pattern: &str, name: &str| {
            let pattern: ServicePattern = pattern.parse().unwrap();
            pattern.fits(&name.parse().unwrap())
        };
        for (pattern, name) in [
            ("*/*", "shop/web"),
            ("web", "default/web"),
            ("shop/web*", "shop/web"),
            ("shop/*-*-x", "shop/a-b-c-x"),
            ("*", "default/anything"),
            ("shop/*b*", "shop/abc"),
        ] {
            assert!(fit(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("web", "shop/web"),
            ("shop/web-*", "shop/web"),
            ("shop/a*a", "shop/a"),
            ("shop/*-*-x", "shop/a-x"),
        ] {
            assert!(!fit(pattern, name), "{pattern} {name}");
        }
        for bad in ["", "/", "a/b/c", "Web", "a b", &"x".repeat(81)] {
            assert!(bad.parse::<ServicePattern>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        /// The outcome does not hang on the order in which sources are named as stating.
        #[test]
        fn the_choice_is_a_function_of_the_set(order in Just(vec![Kube, Manifest, Consul]).prop_shuffle(),
                                               precedence in Just(vec![Kube, Manifest, Consul]).prop_shuffle(),
                                               named in 0..4_usize) {
            let precedence = precedence[..named].to_vec();
            let rule = MergeRule { precedence, policy: MergePolicy::PreferFirst };
            let rules = MergeRules::default().others(rule);
            prop_assert_eq!(rules.choose(&web(), &order), rules.choose(&web(), &[Kube, Manifest, Consul]));
        }
    }
}
