// SPDX-License-Identifier: MIT OR Apache-2.0
//! The calls that a registrar makes at the agent of its host, whoever carries them out.

use discovery_core::source::{ConsulAgent, ConsulCallError, ConsulHealth, ConsulInstance};
use std::{fmt::Debug, pin::Pin};

/// A call under way; it ends within seconds.
pub(crate) type Call<'a> = Pin<Box<dyn Future<Output = Result<(), ConsulCallError>> + Send + 'a>>;

/// An agent at which instances are registered. No call is retried.
pub(crate) trait Agent: Debug + Send + Sync {
    /// Registers the instance, or replaces it; a new one is critical.
    fn register<'a>(&'a self, instance: &'a ConsulInstance) -> Call<'a>;

    /// Reports the health of an instance, with a note for people.
    fn report<'a>(
        &'a self,
        instance: &'a ConsulInstance,
        health: ConsulHealth,
        note: &'a str,
    ) -> Call<'a>;

    /// Takes the instance away; one that is not there is as good.
    fn deregister<'a>(&'a self, instance: &'a ConsulInstance) -> Call<'a>;
}

impl Agent for ConsulAgent {
    fn register<'a>(&'a self, instance: &'a ConsulInstance) -> Call<'a> {
        Box::pin(self.register(instance))
    }

    fn report<'a>(
        &'a self,
        instance: &'a ConsulInstance,
        health: ConsulHealth,
        note: &'a str,
    ) -> Call<'a> {
        Box::pin(self.report(instance, health, note))
    }

    fn deregister<'a>(&'a self, instance: &'a ConsulInstance) -> Call<'a> {
        Box::pin(self.deregister(instance))
    }
}
