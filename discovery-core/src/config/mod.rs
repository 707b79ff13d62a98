// SPDX-License-Identifier: MIT OR Apache-2.0
//! From file to checked values: file → raw (serde, unknown keys refused) → checked.
//!
//! A mistake is told with its place and, where one is near, the key that was meant. Reading is the only I/O here, and
//! nothing of a bad file comes into force.

mod file;

pub use file::{ConfigError, parse, read};
