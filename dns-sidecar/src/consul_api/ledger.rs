// SPDX-License-Identifier: MIT OR Apache-2.0
//! When each thing that is told last changed, in numbers that only grow: Consul's index.
//!
//! In: each index of answers as it comes into force, and the time. Out: [`Marks`], of which a copy costs what changed. A
//! change of one service moves its number and no other's; a view that was made anew and says the same moves none. Numbers
//! begin at the milliseconds of the clock, so that those of a process are higher than those of the one before, whose
//! readers wait for a higher one; a clock that was set back makes them read anew, as their rules say. Pure.

use super::told::{self, Instance, Service};
use crate::{
    Index,
    index::{Origin, PreparedService, Sharded},
};
use std::{
    collections::{BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// What the ledger knows of one service.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    /// When it last changed.
    pub(super) index: u64,
    /// As it is spelled.
    pub(super) name: Arc<str>,
    /// The tags of all its instances.
    pub(super) tags: Arc<[Arc<str>]>,
}

/// When each thing last changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    services: Sharded<Box<[u8]>, Arc<Mark>>,
    /// The list of services with their tags.
    pub(super) names: u64,
    pub(super) nodes: u64,
    /// Any service at all.
    pub(super) any: u64,
    /// A service last went.
    gone: u64,
}

impl Marks {
    /// The number of a service; of one that is not there, when one last went, so that its coming is a change.
    pub(super) fn of(&self, service: &str) -> u64 {
        self.get(service).map_or(self.gone, |mark| mark.index)
    }

    fn get(&self, service: &str) -> Option<&Arc<Mark>> {
        self.services.get(service.to_ascii_lowercase().as_bytes())
    }

    /// Every service, in no order.
    pub(super) fn services(&self) -> impl Iterator<Item = &Arc<Mark>> {
        self.services.iter().map(|(_, mark)| mark)
    }

    /// The highest number that was given.
    pub(super) fn newest(&self) -> u64 {
        self.any.max(self.names).max(self.nodes)
    }
}

/// The writer of the marks.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: HashMap<Box<[u8]>, Known>,
    marks: Marks,
    nodes_print: u64,
    last: u64,
    round: u64,
}

#[derive(Debug)]
struct Known {
    /// Held, so that its place is not another's.
    prepared: Option<Arc<PreparedService>>,
    print: u64,
    round: u64,
}

impl Ledger {
    /// Notes what is in force now. Costs a comparison for each service, and a look at those that were made anew.
    pub(super) fn note(&mut self, index: &Index, now_milliseconds: u64) -> Marks {
        self.round += 1;
        let number = now_milliseconds.max(self.last + 1);
        let is_first = self.last == 0;
        let mut has_changed = self.note_nodes(index, number);
        match &index.origin {
            Origin::Views(_) => {
                for (label, prepared) in index.services().iter() {
                    has_changed |= self.note_prepared(index, number, label, prepared);
                }
            }
            Origin::Catalog(catalog) => {
                for name in catalog.services.keys() {
                    let label: Box<[u8]> = name.to_ascii_lowercase().into_bytes().into();
                    let told = told::service(index, name);
                    has_changed |= self.note_told(number, label, told, None);
                }
            }
        }
        has_changed |= self.forget(number);
        if is_first {
            let Marks {
                names,
                nodes,
                any,
                gone,
                ..
            } = &mut self.marks;
            (*names, *nodes, *any, *gone) = (number, number, number, number);
        }
        if has_changed || is_first {
            self.last = number;
        }
        self.marks.clone()
    }

    fn note_nodes(&mut self, index: &Index, number: u64) -> bool {
        let print = print(&told::nodes(index));
        let has_changed = self.nodes_print != print;
        if has_changed {
            self.nodes_print = print;
            self.marks.nodes = number;
        }
        has_changed
    }

    fn note_prepared(
        &mut self,
        index: &Index,
        number: u64,
        label: &[u8],
        prepared: &Arc<PreparedService>,
    ) -> bool {
        if let Some(known) = self.known.get_mut(label) {
            let held = known.prepared.as_ref();
            if held.is_some_and(|held| Arc::ptr_eq(held, prepared)) {
                known.round = self.round;
                return false;
            }
        }
        let text = String::from_utf8_lossy(label).into_owned();
        let told = told::of_prepared(index, text, prepared);
        self.note_told(number, label.into(), told, Some(prepared.clone()))
    }

    /// A service without an instance is one that is not there; what was prepared for it is known all the same.
    fn note_told(
        &mut self,
        number: u64,
        label: Box<[u8]>,
        told: Option<Service>,
        prepared: Option<Arc<PreparedService>>,
    ) -> bool {
        let print = told.as_ref().map_or(NOT_THERE, print_of);
        let before = self
            .known
            .get(&label)
            .map_or(NOT_THERE, |known| known.print);
        let known = Known {
            prepared,
            print,
            round: self.round,
        };
        self.known.insert(label.clone(), known);
        if before == print {
            return false;
        }
        self.marks.any = number;
        let Some(told) = told else {
            self.remove(&label, number);
            return true;
        };
        let tags: BTreeSet<&str> = told.instances.iter().flat_map(Instance::tags).collect();
        let tags: Arc<[Arc<str>]> = tags.into_iter().map(Arc::from).collect();
        if self
            .marks
            .services
            .get(&label)
            .is_none_or(|mark| mark.tags != tags)
        {
            self.marks.names = number;
        }
        let mark = Mark {
            index: number,
            name: told.name.into(),
            tags,
        };
        self.marks.services.insert(label, Arc::new(mark));
        true
    }

    /// Forgets what was not seen in this round.
    fn forget(&mut self, number: u64) -> bool {
        let round = self.round;
        let gone = self.known.extract_if(|_, known| known.round != round);
        let gone: Vec<_> = gone.map(|(label, _)| label).collect();
        for label in &gone {
            self.marks.any = number;
            self.remove(label, number);
        }
        !gone.is_empty()
    }

    fn remove(&mut self, label: &[u8], number: u64) {
        if self.marks.services.remove(label).is_some() {
            (self.marks.gone, self.marks.names) = (number, number);
        }
    }
}

fn print_of(service: &Service) -> u64 {
    let told: Vec<_> = service
        .instances
        .iter()
        .map(|told| (&told.id, &told.of))
        .collect();
    print(&told).max(NOT_THERE + 1)
}

fn print(told: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    told.hash(&mut hasher);
    hasher.finish()
}

/// The print of a service that has no instance.
const NOT_THERE: u64 = 0;
