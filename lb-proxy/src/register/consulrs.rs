// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls of a registrar over the crate `consulrs`, for those who want it; everything that names it is here (decision 0079).
//!
//! It has no timeout, so each call has one here. It speaks HTTP without TLS to the agent of this host alone, and is not asked to
//! read anything: it fails on what agents answer.

use super::{
    Registration,
    agent::{Agent, Call},
};
use consulrs::{
    api::{
        check::{common::AgentServiceCheckBuilder, requests::TtlCheckUpdateRequest},
        service::{common::AgentWeightsBuilder, requests::RegisterServiceRequest},
    },
    check,
    client::{ConsulClient, ConsulClientSettingsBuilder},
    error::ClientError,
    service,
};
use discovery_core::source::{ConsulCallError, ConsulHealth, ConsulInstance};
use std::{
    collections::HashMap,
    fmt, fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

impl Registration {
    /// As [`Registration::new`], by the crate `consulrs`. The address is `HOST:PORT` or `http://HOST:PORT`; the token is read
    /// from its file anew for each call.
    ///
    /// # Errors
    /// A text, for an address of another kind.
    pub fn by_consulrs(address: &str, token_file: Option<PathBuf>) -> Result<Self, String> {
        let host = address.strip_prefix("http://").unwrap_or(address);
        if host.is_empty() || host.contains('/') {
            return Err(format!(
                "{address:?} is no address that consulrs is let ask: HOST:PORT, without TLS"
            ));
        }
        Ok(Self::at(Arc::new(Consulrs {
            address: format!("http://{host}"),
            token_file,
            client: Mutex::default(),
        })))
    }
}

struct Consulrs {
    address: String,
    token_file: Option<PathBuf>,
    /// The client of the token that it was made with. Guards the two; held for a comparison, never across an await.
    client: Mutex<Option<(Option<String>, Arc<ConsulClient>)>>,
}

impl fmt::Debug for Consulrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Consulrs");
        shown
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Agent for Consulrs {
    fn register<'a>(&'a self, instance: &'a ConsulInstance) -> Call<'a> {
        Box::pin(in_time(async move {
            let check = AgentServiceCheckBuilder::default()
                .ttl(seconds(instance.ttl))
                .deregister_critical_service_after(seconds(instance.forget_after))
                .build();
            let weights = AgentWeightsBuilder::default()
                .passing(instance.weight)
                .warning(1_u32)
                .build();
            let mut wishes = RegisterServiceRequest::builder();
            wishes
                .id(&instance.id)
                .address(instance.address.to_string())
                .port(instance.port)
                .tags(instance.tags.clone())
                .meta(instance.meta.clone().into_iter().collect::<HashMap<_, _>>())
                .check(check.map_err(unsaid)?)
                .weights(weights.map_err(unsaid)?);
            let client = self.client()?;
            let done = service::register(&*client, &instance.name, Some(&mut wishes)).await;
            done.map(drop).map_err(|error| failure(&error))
        }))
    }

    fn report<'a>(
        &'a self,
        instance: &'a ConsulInstance,
        health: ConsulHealth,
        note: &'a str,
    ) -> Call<'a> {
        Box::pin(in_time(async move {
            let word = match health {
                ConsulHealth::Passing => "passing",
                ConsulHealth::Warning => "warning",
                ConsulHealth::Critical => "critical",
            };
            let (client, id) = (self.client()?, format!("service:{}", instance.id));
            let mut wishes = TtlCheckUpdateRequest::builder();
            wishes.output(note);
            let done = check::set_status(&*client, &id, word, Some(&mut wishes)).await;
            done.map(drop).map_err(|error| failure(&error))
        }))
    }

    fn deregister<'a>(&'a self, instance: &'a ConsulInstance) -> Call<'a> {
        Box::pin(in_time(async move {
            let client = self.client()?;
            match service::deregister(&*client, &instance.id, None).await {
                Err(error) if status(&error).0 == NOT_FOUND => Ok(()),
                done => done.map(drop).map_err(|error| failure(&error)),
            }
        }))
    }
}

impl Consulrs {
    /// The client of the token that is in the file now.
    fn client(&self) -> Result<Arc<ConsulClient>, ConsulCallError> {
        let token = self.token_file.as_ref().map(fs::read_to_string);
        let token = token.transpose().map_err(unsaid)?;
        let token = token.map(|token| token.trim().to_owned());
        let mut made = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = made.as_ref().filter(|(known, _)| *known == token) {
            return Ok(client.clone());
        }
        let mut settings = ConsulClientSettingsBuilder::default();
        settings
            .address(&self.address)
            .verify(true)
            .ca_certs(vec![]);
        if let Some(token) = &token {
            settings.token(token);
        }
        let client = ConsulClient::new(settings.build().map_err(unsaid)?)
            .map_err(|error| failure(&error))?;
        let client = Arc::new(client);
        *made = Some((token, client.clone()));
        Ok(client)
    }
}

/// The call, or a failure after 5 s.
async fn in_time(
    call: impl Future<Output = Result<(), ConsulCallError>>,
) -> Result<(), ConsulCallError> {
    timeout(CALL_MAX, call)
        .await
        .unwrap_or_else(|_| Err(unsaid("the agent did not answer within 5 s")))
}

fn failure(error: &ClientError) -> ConsulCallError {
    let (code, text) = status(error);
    ConsulCallError::new(code, &text)
}

/// The HTTP status, 0 where nobody answered, and what was said.
fn status(error: &ClientError) -> (u16, String) {
    match error {
        ClientError::APIError { code, message } => (*code, message.clone().unwrap_or_default()),
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(other);
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            (NOBODY, text)
        }
    }
}

/// What nobody answered.
fn unsaid(error: impl fmt::Display) -> ConsulCallError {
    ConsulCallError::new(NOBODY, &error.to_string())
}

/// Consul reads Go's durations.
fn seconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

const NOBODY: u16 = 0;
const NOT_FOUND: u16 = 404;
const CALL_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_agent_without_tls_is_asked() {
        for good in ["127.0.0.1:8500", "http://localhost:8500"] {
            assert!(Registration::by_consulrs(good, None).is_ok(), "{good}");
        }
        for bad in [
            "",
            "http://",
            "https://127.0.0.1:8501",
            "unix:///run/consul",
        ] {
            assert!(Registration::by_consulrs(bad, None).is_err(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_never_answers_is_a_failure_after_five_seconds() {
        let began = tokio::time::Instant::now();
        let late = in_time(std::future::pending()).await.unwrap_err();
        assert!(
            !late.is_forgotten() && began.elapsed() == CALL_MAX,
            "{late}"
        );
    }
}
