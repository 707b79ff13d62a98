// SPDX-License-Identifier: MIT OR Apache-2.0
//! Closed sets of label values, and counters for each of them from the start.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::array;

/// A closed set of label values: an enum whose variants are numbered from zero.
pub(super) trait Label: Copy + 'static {
    const KEY: &'static str;
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident, $key:literal, { $($(#[$variant_doc:meta])* $variant:ident => $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            const COUNT: usize = <Self as Label>::ALL.len();

            /// The word that metrics use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl Label for $name {
            const KEY: &'static str = $key;
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn word(self) -> &'static str {
                self.as_str()
            }
        }
    };
}

pub(super) use labels;

/// One counter per pair of label values.
pub(super) struct Grid<const ROWS: usize, const COLUMNS: usize>([[Counter; COLUMNS]; ROWS]);

impl<const ROWS: usize, const COLUMNS: usize> Grid<ROWS, COLUMNS> {
    pub(super) fn count(&self, row: usize, column: usize, by: u64) {
        self.0[row][column].inc_by(by);
    }

    pub(super) fn get(&self, row: usize, column: usize) -> u64 {
        self.0[row][column].get()
    }

    pub(super) fn sum(&self) -> u64 {
        self.0.iter().flatten().map(Counter::get).sum()
    }

    pub(super) fn register<R: Label, C: Label>(
        registry: &mut Registry,
        (name, help): (&str, &str),
    ) -> Self {
        let family = Family::<[(&str, &str); 2], Counter>::default();
        let cell = |row: usize, column: usize| {
            let (row, column) = (R::ALL[row], C::ALL[column]);
            family.get_or_create_owned(&[(R::KEY, row.word()), (C::KEY, column.word())])
        };
        let grid = Self(array::from_fn(|row| {
            array::from_fn(|column| cell(row, column))
        }));
        registry.register(name, help, family);
        grid
    }
}

/// One counter per label value.
pub(super) fn register_row<L: Label, const COUNT: usize>(
    registry: &mut Registry,
    (name, help): (&str, &str),
) -> [Counter; COUNT] {
    let family = Family::<[(&str, &str); 1], Counter>::default();
    let row = array::from_fn(|at| family.get_or_create_owned(&[(L::KEY, L::ALL[at].word())]));
    registry.register(name, help, family);
    row
}
