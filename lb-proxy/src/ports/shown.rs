// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is shown of a port: its state by what is known of the ways in and out, or by why it could not be opened.

use crate::{
    endpoints::View,
    prove::Proof,
    sockets::{BindError, holder_of},
    status::{Holder, ListenerState},
};
use std::{error::Error, net::IpAddr};
use tokio::task::spawn_blocking;

/// The state of an open port with a usable endpoint.
pub(super) fn state_when(proof: Proof, kept_out: &[IpAddr], view: View) -> ListenerState {
    match proof {
        Proof::Failed { cause } => ListenerState::Hijacked { cause },
        Proof::Waiting => ListenerState::Bound,
        _ if !kept_out.is_empty() => ListenerState::Hijacked {
            cause: kept_out_text(kept_out).into(),
        },
        _ if view == View::Unknown => ListenerState::Bound,
        Proof::NotAsked | Proof::Passed | Proof::Impossible { .. } => ListenerState::Serving,
    }
}

fn kept_out_text(peers: &[IpAddr]) -> String {
    let peers: Vec<_> = peers.iter().map(ToString::to_string).collect();
    format!(
        "what {} send does not come out at our listener, although what we send does: a rule for what comes from outside is in front of it",
        peers.join(" and ")
    )
}

/// What to say of a port that could not be opened.
pub(super) async fn state_of(error: BindError) -> ListenerState {
    match error {
        BindError::Busy { address } => {
            let holder = spawn_blocking(move || holder_of(address.port())).await;
            ListenerState::Conflict {
                holder: Holder::from(holder.unwrap_or(None)),
            }
        }
        error => {
            let cause = error
                .source()
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            ListenerState::Failed {
                error: format!("{error}{cause}").into(),
            }
        }
    }
}
