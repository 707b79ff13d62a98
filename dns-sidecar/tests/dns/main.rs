// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responder from outside: what it answers, to whom, and through which socket.

mod answers;
mod asker;
mod choices;
mod forwarding;
mod kube_names;
mod mall;
mod packet;
mod properties;
mod requests;
mod requirements;
mod server;
