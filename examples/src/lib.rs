// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the examples call: small services that answer with their name, over HTTP/1.1 and gRPC, and a shop of three.

mod backend;
mod raw;
mod shop;

pub use backend::Backend;
pub use raw::RawCodec;
pub use shop::{Shop, manifest};
