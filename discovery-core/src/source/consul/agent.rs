// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls by which an instance is registered at the host's own agent, kept passing, and taken away.
//!
//! In: an instance, its health. Out: done, or why not. Each call ends after 5 s at the latest. Nothing is retried and nothing
//! remembered here: who registers does both. The catalog is never written to, since an agent would undo it.

use super::{
    address::ConsulAddress,
    client::{Client, Question, encode},
    connect::Dialer,
    failure::Failure,
    secret::{Token, TokenReader},
};
use crate::source::FailureReason;
use bytes::Bytes;
use serde::Serialize;
use std::{collections::BTreeMap, net::IpAddr, path::Path, time::Duration};

/// An instance of a Consul service with a check of its own that expires.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsulInstance {
    /// Its id, unique at its agent; the same after a restart, so that it is replaced and not doubled.
    pub id: String,
    /// The service.
    pub name: String,
    /// Where clients reach it.
    pub address: IpAddr,
    /// The port at that address.
    pub port: u16,
    /// Tags.
    pub tags: Vec<String>,
    /// What else is said of it.
    pub meta: BTreeMap<String, String>,
    /// Its share of the clients while it passes.
    pub weight: u32,
    /// How long its last report holds.
    pub ttl: Duration,
    /// How long it may be critical before its agent takes it away; the agent allows no less than a minute.
    pub forget_after: Duration,
}

/// What is reported of an instance.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConsulHealth {
    /// Clients may be sent to it.
    Passing,
    /// Clients may be sent to it, and somebody should look.
    Warning,
    /// Clients must not be sent to it.
    Critical,
}

/// Why a call failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text}")]
pub struct ConsulCallError {
    text: String,
    reason: FailureReason,
}

impl ConsulCallError {
    /// The error of an answer with this HTTP status and text; status 0 means that nobody answered.
    pub fn new(status: u16, text: &str) -> Self {
        match status {
            0 => Failure::new(FailureReason::Connection, text).into(),
            status => Failure::of_answer(status, text.as_bytes(), "").into(),
        }
    }

    /// Whether the agent answered, and does not know the check: it was restarted without its data.
    pub fn is_forgotten(&self) -> bool {
        matches!(
            self.reason,
            FailureReason::NotFound | FailureReason::ServerError
        )
    }
}

impl From<Failure> for ConsulCallError {
    fn from(failure: Failure) -> Self {
        Self {
            text: failure.text,
            reason: failure.reason,
        }
    }
}

/// The Consul agent of this host.
#[derive(Debug)]
pub struct ConsulAgent {
    client: Client,
}

impl ConsulAgent {
    /// The agent at this address, asked with the token; for https with the certificate authorities of the file.
    ///
    /// # Errors
    /// A text, when the address is https and the file cannot be used.
    pub fn new(
        address: ConsulAddress,
        token: Token,
        authorities: Option<&Path>,
    ) -> Result<Self, String> {
        let dialer = Dialer::new(address, authorities)?;
        Ok(Self {
            client: Client::new(dialer, TokenReader::new(token)),
        })
    }

    /// Registers the instance, or replaces it. A new one is critical until it is reported to pass; one that is replaced keeps
    /// what was reported last.
    pub async fn register(&self, instance: &ConsulInstance) -> Result<(), ConsulCallError> {
        let body = serde_json::to_vec(&Registration::of(instance)).unwrap_or_default();
        self.put("/v1/agent/service/register", &instance.name, body)
            .await
    }

    /// Reports the health of an instance, with a note for people.
    pub async fn report(
        &self,
        instance: &ConsulInstance,
        health: ConsulHealth,
        note: &str,
    ) -> Result<(), ConsulCallError> {
        let word = match health {
            ConsulHealth::Passing => "pass",
            ConsulHealth::Warning => "warn",
            ConsulHealth::Critical => "fail",
        };
        let check = encode(&format!("service:{}", instance.id));
        let path = format!("/v1/agent/check/{word}/{check}?note={}", encode(note));
        self.put(&path, &instance.name, Vec::new()).await
    }

    /// Takes the instance away; one that is not there is as good.
    pub async fn deregister(&self, instance: &ConsulInstance) -> Result<(), ConsulCallError> {
        let path = format!("/v1/agent/service/deregister/{}", encode(&instance.id));
        match self.put(&path, &instance.name, Vec::new()).await {
            Err(error) if error.reason == FailureReason::NotFound => Ok(()),
            done => done,
        }
    }

    async fn put(&self, path: &str, service: &str, body: Vec<u8>) -> Result<(), ConsulCallError> {
        let question = Question {
            path: path.to_owned(),
            rule: format!(r#"service "{service}" {{ policy = "write" }}"#),
        };
        Ok(self.client.put(&question, Bytes::from(body)).await?)
    }
}

/// An instance as the agent's API has it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Registration<'i> {
    #[serde(rename = "ID")]
    id: &'i str,
    name: &'i str,
    address: IpAddr,
    port: u16,
    tags: &'i [String],
    meta: &'i BTreeMap<String, String>,
    weights: Weights,
    check: Check,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "TTL")]
    ttl: String,
    deregister_critical_service_after: String,
}

impl<'i> Registration<'i> {
    fn of(instance: &'i ConsulInstance) -> Self {
        Self {
            id: &instance.id,
            name: &instance.name,
            address: instance.address,
            port: instance.port,
            tags: &instance.tags,
            meta: &instance.meta,
            weights: Weights {
                passing: instance.weight,
                warning: 1,
            },
            check: Check {
                ttl: format!("{}ms", instance.ttl.as_millis()),
                deregister_critical_service_after: format!("{}s", instance.forget_after.as_secs()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_written_as_the_api_has_it() {
        let instance = ConsulInstance {
            id: "web-edge-a".into(),
            name: "web".into(),
            address: "10.0.0.1".parse().unwrap(),
            port: 30_080,
            tags: vec!["zonal".into()],
            meta: [("zone".to_owned(), "mall-1".to_owned())].into(),
            weight: 10,
            ttl: Duration::from_secs(10),
            forget_after: Duration::from_secs(600),
        };
        assert_eq!(
            serde_json::to_value(Registration::of(&instance)).unwrap(),
            serde_json::json!({
                "ID": "web-edge-a", "Name": "web", "Address": "10.0.0.1", "Port": 30_080, "Tags": ["zonal"],
                "Meta": {"zone": "mall-1"}, "Weights": {"Passing": 10, "Warning": 1},
                "Check": {"TTL": "10000ms", "DeregisterCriticalServiceAfter": "600s"},
            })
        );
    }
}
