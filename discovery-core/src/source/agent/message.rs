// SPDX-License-Identifier: MIT OR Apache-2.0
//! What frames say, as JSON: values of the model, checked when they are read.

use crate::store::{Kind, Object, ObjectKey, SourceId, StateConfig};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of these messages. A client names those that it speaks; an agent that knows none of them says so.
pub(crate) const VERSION: u32 = 1;

/// From the client: who asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Open {
    /// The versions that it speaks.
    pub(crate) versions: Vec<u32>,
    /// The name of its program, for the agent's log.
    pub(crate) client: String,
}

/// From the agent: how it judges, so that the same facts make the same view.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// The version that is spoken from here on.
    pub(crate) version: u32,
    /// The agent's own configuration.
    pub(crate) config: StateConfig,
}

/// A transaction begins.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Whether everything follows, or what has changed.
    pub(crate) is_whole: bool,
}

/// An object as its source states it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upsert {
    pub(crate) source: SourceId,
    pub(crate) object: Object,
}

/// An object that its source states no longer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Remove {
    pub(crate) source: SourceId,
    pub(crate) key: ObjectKey,
}

/// A transaction is complete, and so much of the truth is in it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct End {
    /// The agent's generation.
    pub(crate) generation: u64,
    /// The lists that it has read in full.
    pub(crate) synced: Vec<(SourceId, Kind)>,
    /// The kinds that it may not read.
    pub(crate) denied: Vec<(SourceId, Kind)>,
    /// How many seconds ago the source that was heard longest ago was heard.
    pub(crate) age_seconds: Option<u64>,
}

/// The agent lives.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// As in [`End`].
    pub(crate) age_seconds: Option<u64>,
}

/// The agent ends the connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bye {
    pub(crate) reason: String,
}

/// The JSON of a message.
pub(crate) fn encode(message: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(message).expect("plain values with text keys have a JSON form")
}

/// Reads a message.
pub(crate) fn decode<M: DeserializeOwned>(payload: &[u8]) -> Result<M, serde_json::Error> {
    serde_json::from_slice(payload)
}
