// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a manifest says: the objects that could be read, and what is wrong with the others. Pure.
//!
//! A document, an item of a list, an endpoint or a port that cannot be read costs only itself and is named with its line.
//! What is unknown because it could not be read counts as unchanged when a manifest follows another: an object that is
//! refused keeps its last good version, and after a document of which nothing can be read nothing is taken back.

use super::{documents::documents, tree::Tree};
use crate::{
    model::{NodeName, ZoneKeys},
    source::object::{Format, Names, Reading, read_value},
    store::{Kind, Object, ObjectKey, Problem, SourceId, Update},
};
use std::collections::{BTreeMap, BTreeSet};

/// The objects of a manifest and its problems.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ManifestContent {
    own_node: NodeName,
    objects: BTreeMap<ObjectKey, Object>,
    problems: Vec<Problem>,
    ignored: usize,
    documents: usize,
    /// Objects that stand in the manifest and were refused.
    refused: BTreeSet<ObjectKey>,
    /// Something in the manifest could not be read so far as to name it.
    has_unknown: bool,
}

impl ManifestContent {
    /// Reads the text of a manifest: YAML documents or JSON, single objects or lists; `name` stands for it in problems.
    ///
    /// ```
    /// use discovery_core::{model::{NodeName, ZoneKeys}, source::ManifestContent};
    ///
    /// let text = "kind: Service\nmetadata: {name: web}\nspec:\n  ports:\n  - port: 80\n  - port: 0\n    name: bad\n";
    /// let node = NodeName::parse("host-a").unwrap();
    /// let content = ManifestContent::parse("shop.yaml", text, &node, &ZoneKeys::default());
    /// assert_eq!(content.problems()[0].place, "shop.yaml:6: spec.ports[1].port");
    /// ```
    pub fn parse(name: &str, text: &str, own_node: &NodeName, keys: &ZoneKeys) -> Self {
        let mut reader = Reader {
            name,
            keys,
            names: Names::default(),
            content: Self {
                own_node: own_node.clone(),
                objects: BTreeMap::new(),
                problems: Vec::new(),
                ignored: 0,
                documents: 0,
                refused: BTreeSet::new(),
                has_unknown: false,
            },
        };
        for (position, document) in documents(text).iter().enumerate() {
            reader.content.documents += 1;
            reader.document(position + 1, document.text, document.line);
        }
        reader.content
    }

    /// What could not be read, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many objects of kinds that are none of ours were passed over.
    pub fn ignored(&self) -> usize {
        self.ignored
    }

    /// How many objects were read.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The whole content as statements: a full list of every kind.
    pub fn updates(&self) -> Vec<Update> {
        Kind::ALL
            .into_iter()
            .flat_map(|kind| self.updates_of(kind))
            .collect()
    }

    /// Takes from the content before what this one leaves unknown.
    pub(super) fn inherit(&mut self, before: &Self) {
        for (key, object) in &before.objects {
            if self.has_unknown || self.refused.contains(key) {
                self.objects
                    .entry(key.clone())
                    .or_insert_with(|| object.clone());
            }
        }
    }

    /// The lists that differ from those of the content before.
    pub(super) fn changes_since(&self, before: &Self) -> Vec<Update> {
        let differs = |kind: &Kind| {
            !self.objects_of(*kind).eq(before.objects_of(*kind))
                || !self.problems_of(*kind).eq(before.problems_of(*kind))
        };
        Kind::ALL
            .into_iter()
            .filter(differs)
            .flat_map(|kind| self.updates_of(kind))
            .collect()
    }

    /// Whether the file holds no document at all: as likely cut short as meant.
    pub(super) fn is_blank(&self) -> bool {
        self.documents == 0
    }

    pub(super) fn add_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn updates_of(&self, kind: Kind) -> Vec<Update> {
        let own = ObjectKey::OwnNode(self.own_node.clone());
        let is_absent = kind == Kind::OwnNode
            && !self.objects.contains_key(&own)
            && !self.refused.contains(&own)
            && !self.has_unknown;
        let upserts = self
            .objects_of(kind)
            .map(|(_, object)| Update::Upsert(SOURCE, object.clone()));
        let rejects = self
            .problems_of(kind)
            .map(|problem| Update::Reject(SOURCE, problem.clone()));
        let mut updates = vec![Update::Reset(SOURCE, kind)];
        updates.extend(upserts.chain(rejects));
        updates.extend(is_absent.then_some(Update::Absent(SOURCE, own)));
        updates.push(Update::Synced(SOURCE, kind));
        updates
    }

    fn objects_of(&self, kind: Kind) -> impl Iterator<Item = (&ObjectKey, &Object)> {
        self.objects
            .iter()
            .filter(move |(key, _)| key.kind() == kind)
    }

    fn problems_of(&self, kind: Kind) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(move |problem| problem.kind == kind)
    }
}

/// Reads one manifest.
struct Reader<'r> {
    name: &'r str,
    keys: &'r ZoneKeys,
    names: Names,
    content: ManifestContent,
}

impl Reader<'_> {
    fn document(&mut self, number: usize, text: &str, first_line: u64) {
        // Lines of a document count from 1, as those of the file do.
        let offset = first_line - 1;
        match Tree::parse(text) {
            Ok(tree) if tree.is_null() => {}
            Ok(tree) => self.tree(&tree, offset),
            Err(error) => {
                let object = format!("document {number}");
                self.unknown(object, offset + error.line, &error.message);
            }
        }
    }

    fn tree(&mut self, tree: &Tree, offset: u64) {
        let kind = tree.get("kind").and_then(Tree::as_str);
        let item_kind = kind.and_then(|kind| kind.strip_suffix("List"));
        match (item_kind, tree.get("items").and_then(Tree::elements)) {
            (Some(item_kind), Some(items)) => {
                for item in items {
                    self.object(
                        item,
                        Some(item_kind).filter(|kind| !kind.is_empty()),
                        offset,
                    );
                }
            }
            _ => self.object(tree, None, offset),
        }
    }

    fn object(&mut self, tree: &Tree, list_kind: Option<&str>, offset: u64) {
        let kind = tree.get("kind").and_then(Tree::as_str).or(list_kind);
        let group = tree.get("apiVersion").and_then(Tree::as_str);
        let Some(kind) = kind else {
            let line = offset + tree.line();
            return self.unknown("an object".to_owned(), line, "it has no kind");
        };
        match Format::of_kind(kind).filter(|format| group.is_none_or(|group| is_of(*format, group)))
        {
            None => self.content.ignored += 1,
            Some(format) => {
                let reading = read_value(format, tree.to_value(), self.keys, &mut self.names);
                self.reading(&reading, format, |place| offset + tree.line_of(place));
            }
        }
    }

    fn reading(&mut self, reading: &Reading, format: Format, line_of: impl Fn(&str) -> u64) {
        for mut problem in reading.problems(format.kind()) {
            problem.place = match (line_of(&problem.place), problem.place.as_str()) {
                (line, "") => format!("{}:{line}", self.name),
                (line, field) => format!("{}:{line}: {field}", self.name),
            };
            self.content.problems.push(problem);
        }
        if reading.refused {
            self.refuse(reading.key.as_ref());
        }
        for object in &reading.objects {
            if self.keep(object) {
                let place = format!("{}:{}", self.name, line_of(""));
                self.content.problems.push(Problem {
                    kind: format.kind(),
                    object: reading.name.clone(),
                    place,
                    reason: "it stands in the manifest twice; the last one holds".to_owned(),
                });
            }
        }
    }

    fn refuse(&mut self, key: Option<&ObjectKey>) {
        match key {
            None => self.content.has_unknown = true,
            Some(key) => {
                if let ObjectKey::Node(name) = key {
                    let own = ObjectKey::OwnNode(name.clone());
                    self.content.refused.insert(own);
                }
                self.content.refused.insert(key.clone());
            }
        }
    }

    /// Whether another object had its name.
    fn keep(&mut self, object: &Object) -> bool {
        let objects = &mut self.content.objects;
        if let Object::Node(node) = object
            && node.name == self.content.own_node
        {
            let own = Object::OwnNode(node.clone());
            objects.insert(own.key(), own);
        }
        objects.insert(object.key(), object.clone()).is_some()
    }

    fn unknown(&mut self, object: String, line: u64, reason: &str) {
        self.content.has_unknown = true;
        self.content.problems.push(Problem {
            kind: Kind::Slices,
            object,
            place: format!("{}:{line}", self.name),
            reason: reason.to_owned(),
        });
    }
}

/// Whether the API group is the one that the kind is known from; others have a Service, too.
fn is_of(format: Format, api_version: &str) -> bool {
    match format {
        Format::EndpointSlice => api_version.starts_with("discovery.k8s.io/"),
        Format::Node | Format::Service | Format::Endpoints => api_version == "v1",
    }
}

const SOURCE: SourceId = SourceId::Manifest;

#[cfg(test)]
mod tests;
