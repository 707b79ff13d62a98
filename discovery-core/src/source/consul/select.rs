// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which of Consul's services are watched: those that the configuration names, up to a limit. Pure.

use super::translate::Dictionary;
use crate::{
    model::ServiceName,
    store::{Kind, Problem, fits_stars},
};
use std::collections::{BTreeMap, btree_map::Entry};

/// Which services to read.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Names, with `*` for any text; none means all but Consul itself.
    pub(super) patterns: Vec<String>,
    /// Only services with this tag.
    pub(super) tag: Option<String>,
    pub(super) services_max: usize,
}

/// The services to watch, and what a person should know of the others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Selection {
    /// Our name by Consul's name.
    pub(super) services: BTreeMap<String, ServiceName>,
    pub(super) problems: Vec<Problem>,
}

impl Filter {
    /// The selection when the configuration alone decides, so that the catalog need not be read.
    pub(super) fn fixed(&self, dictionary: &Dictionary) -> Option<Selection> {
        let is_plain = |name: &String| !name.contains('*');
        let fixed = !self.patterns.is_empty() && self.patterns.iter().all(is_plain);
        fixed.then(|| self.take(self.patterns.iter(), dictionary))
    }

    /// The selection from the catalog.
    pub(super) fn select(
        &self,
        catalog: &BTreeMap<String, Vec<String>>,
        dictionary: &Dictionary,
    ) -> Selection {
        let wanted = catalog.iter().filter(|(name, tags)| self.wants(name, tags));
        self.take(wanted.map(|(name, _)| name), dictionary)
    }

    fn wants(&self, name: &str, tags: &[String]) -> bool {
        let by_name = match &self.patterns[..] {
            [] => name != CONSUL_ITSELF,
            patterns => patterns.iter().any(|pattern| fits_stars(pattern, name)),
        };
        by_name && self.tag.as_ref().is_none_or(|tag| tags.contains(tag))
    }

    fn take<'n>(
        &self,
        names: impl Iterator<Item = &'n String>,
        dictionary: &Dictionary,
    ) -> Selection {
        let mut selection = Selection::default();
        let mut taken: BTreeMap<ServiceName, &str> = BTreeMap::new();
        let (mut over, mut first_over) = (0, None);
        for name in names {
            let refusal = match dictionary.service(name) {
                Err(error) => error.to_string(),
                Ok(_) if taken.len() >= self.services_max => {
                    over += 1;
                    first_over.get_or_insert(name);
                    continue;
                }
                Ok(service) => match taken.entry(service) {
                    Entry::Occupied(other) if *other.get() == name.as_str() => continue,
                    Entry::Occupied(other) => {
                        format!("{:?} reads the same and is in force", other.get())
                    }
                    Entry::Vacant(place) => {
                        selection.services.insert(name.clone(), place.key().clone());
                        place.insert(name);
                        continue;
                    }
                },
            };
            if selection.problems.len() < PROBLEMS_MAX {
                selection.problems.push(problem(
                    &format!("Consul service {:?}", short(name)),
                    "name",
                    refusal,
                ));
            }
        }
        if let Some(first) = first_over {
            let reason = format!(
                "{over} services more than services_max = {} are not read, {:?} the first",
                self.services_max,
                short(first),
            );
            selection
                .problems
                .push(problem("Consul catalog", "services_max", reason));
        }
        selection
    }
}

pub(super) fn problem(object: &str, place: &str, reason: String) -> Problem {
    Problem {
        kind: Kind::Services,
        object: object.to_owned(),
        place: place.to_owned(),
        reason,
    }
}

fn short(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// The servers register themselves under this name; nobody calls them through us unless asked for.
const CONSUL_ITSELF: &str = "consul";
const SHOWN_CHARS_MAX: usize = 80;
/// Refused names that are told.
const PROBLEMS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str], tag: Option<&str>, services_max: usize) -> Filter {
        Filter {
            patterns: patterns.iter().map(ToString::to_string).collect(),
            tag: tag.map(Into::into),
            services_max,
        }
    }

    fn dictionary() -> Dictionary {
        Dictionary {
            namespace: "default".into(),
            zone_from: super::super::ZoneFrom::Datacenter,
            tag: None,
        }
    }

    fn catalog() -> BTreeMap<String, Vec<String>> {
        let services = [
            ("consul", ""),
            ("web", "v1"),
            ("pay-a", "v1"),
            ("pay-b", "v2"),
            ("Web", "v1"),
            ("a_b", ""),
        ];
        services
            .map(|(name, tag)| (name.to_owned(), vec![tag.to_owned()]))
            .into()
    }

    fn names(selection: &Selection) -> Vec<&str> {
        selection.services.keys().map(String::as_str).collect()
    }

    #[test]
    fn all_services_but_consul_itself_are_read_by_default() {
        let selection = filter(&[], None, 10).select(&catalog(), &dictionary());
        assert_eq!(names(&selection), ["Web", "pay-a", "pay-b"]);
        let told: Vec<_> = selection
            .problems
            .iter()
            .map(|p| p.object.as_str())
            .collect();
        assert_eq!(
            told,
            [r#"Consul service "a_b""#, r#"Consul service "web""#],
            "never silently"
        );
    }

    #[test]
    fn patterns_and_tags_narrow_the_choice() {
        let select =
            |patterns: &[&str], tag| filter(patterns, tag, 10).select(&catalog(), &dictionary());
        assert_eq!(names(&select(&["pay-*"], None)), ["pay-a", "pay-b"]);
        assert_eq!(
            names(&select(&["pay-*", "web"], Some("v1"))),
            ["pay-a", "web"]
        );
        assert_eq!(names(&select(&["consul"], None)), ["consul"]);
        assert_eq!(names(&select(&["nothing"], None)), [""; 0]);
    }

    #[test]
    fn plain_names_need_no_catalog() {
        let fixed = filter(&["web", "api", "web"], None, 10)
            .fixed(&dictionary())
            .unwrap();
        assert_eq!(names(&fixed), ["api", "web"]);
        assert_eq!(fixed.problems, []);
        assert!(
            filter(&["web", "pay-*"], None, 10)
                .fixed(&dictionary())
                .is_none()
        );
        assert!(filter(&[], None, 10).fixed(&dictionary()).is_none());
    }

    #[test]
    fn what_is_beyond_the_limit_is_told() {
        let selection = filter(&["pay-*", "web"], None, 2).select(&catalog(), &dictionary());
        assert_eq!(names(&selection), ["pay-a", "pay-b"]);
        assert!(
            selection.problems[0]
                .reason
                .starts_with("1 services more than services_max = 2")
        );
    }
}
