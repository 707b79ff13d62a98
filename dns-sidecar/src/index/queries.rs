// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prepared queries by their names: exact ones first, then the template with the longest prefix.

use crate::{Config, names::tag_key};
use std::collections::HashMap;

/// The names under `query`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queries {
    exact: HashMap<Box<[u8]>, Query>,
    /// The longest prefix first.
    templates: Vec<(Box<[u8]>, Query)>,
}

/// Which instances a prepared query stands for.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// None in a template: the rest of the name.
    service: Option<Box<[u8]>>,
    pub(super) only_passing: bool,
    pub(super) ttl_seconds: Option<u32>,
}

impl Queries {
    pub(crate) fn new(config: &Config) -> Self {
        let mut queries = Self::default();
        for query in &config.queries {
            let service = query.service.as_deref().map(str::to_ascii_lowercase);
            let made = Query {
                service: service.map(|service| service.into_bytes().into()),
                only_passing: query.only_passing,
                ttl_seconds: query.ttl_seconds,
            };
            match tag_key(&query.name) {
                Some(key) if made.service.is_some() => drop(queries.exact.insert(key, made)),
                Some(key) => queries.templates.push((key, made)),
                None => {}
            }
        }
        queries
            .templates
            .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        queries
    }

    /// The query of a name, and the service that it asks for.
    pub(super) fn get<'q>(&'q self, key: &'q [u8]) -> Option<(&'q Query, &'q [u8])> {
        if let Some(query) = self.exact.get(key) {
            return Some((query, query.service.as_deref()?));
        }
        let mut templates = self.templates.iter();
        templates.find_map(|(prefix, query)| Some((query, key.strip_prefix(&**prefix)?)))
    }
}
