// SPDX-License-Identifier: MIT OR Apache-2.0
//! The responder from outside: what it answers, to whom, and through which socket.

mod answers;
mod asker;
mod choices;
mod connections;
mod cookies;
mod forwarding;
mod growth;
mod kube_names;
mod large;
mod mall;
mod neighbours;
mod network;
mod oracle;
mod packet;
mod properties;
mod reactions;
mod readiness;
mod requests;
mod requirements;
mod resolvers;
mod running;
mod server;
