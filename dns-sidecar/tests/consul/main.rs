// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recorded answers of a real Consul, asked of ours over real sockets in both profiles; and the same questions to both,
//! where a Consul can be run.

mod cases;
mod fixture;
mod message;
mod modern;
mod replay;
mod upstream;
