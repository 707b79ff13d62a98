// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the annotations of a Service ask about picking. One that cannot be read is told as a problem and asks for nothing,
//! but for the placement: an unknown one refuses keyed picks, since a guess would send keys elsewhere than other callers.

use super::{Flaws, Meta, service::annotation};
use crate::model::{Balancing, ModelError, Placement, PlacementWish};
use std::str::FromStr;

pub(super) fn balancing(meta: &Meta, flaws: &mut Flaws) -> Balancing {
    Balancing {
        hash_on: annotation(meta, HASH_ON, flaws, read),
        placement: placement(meta, flaws),
        without_key: annotation(meta, BALANCE, flaws, read).unwrap_or_default(),
        load_factor: annotation(meta, BOUNDED_LOAD, flaws, read),
        slow_start: annotation(meta, SLOW_START, flaws, read),
        spill_below: annotation(meta, SPILL_BELOW, flaws, read),
        weights: annotation(meta, WEIGHTS, flaws, read).unwrap_or_default(),
    }
}

fn placement(meta: &Meta, flaws: &mut Flaws) -> PlacementWish {
    let Some(text) = meta.annotation(HASH_ALGORITHM) else {
        return PlacementWish::default();
    };
    let known: Option<Placement> = annotation(meta, HASH_ALGORITHM, flaws, |text| {
        read(text).map_err(|why| format!("{why}; keyed picks are refused until it is mended"))
    });
    known.map_or_else(|| text.into(), PlacementWish::Known)
}

fn read<T: FromStr<Err = ModelError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: ModelError| error.to_string())
}

const HASH_ON: &str = "zonal.dev/hash-on";
const HASH_ALGORITHM: &str = "zonal.dev/hash-algorithm";
const BALANCE: &str = "zonal.dev/balance";
const BOUNDED_LOAD: &str = "zonal.dev/bounded-load";
const SLOW_START: &str = "zonal.dev/slow-start";
const SPILL_BELOW: &str = "zonal.dev/spill-below";
const WEIGHTS: &str = "zonal.dev/weights";
