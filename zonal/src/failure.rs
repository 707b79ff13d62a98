// SPDX-License-Identifier: MIT OR Apache-2.0
//! Every way in which a command fails: a stable code, what happened, where, and what to do next.

use std::{error::Error, fmt, process::ExitCode};

/// A failure as a person sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    what: String,
    help: Option<String>,
}

/// The catalogue. `zonal explain CODE` prints it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Code {
    NodeNameMissing,
    PortBusy,
    AddressDenied,
    ConfigInvalid,
    ConfigUnreadable,
    ManifestUnusable,
    KubeConfigMissing,
    ConsulUnusable,
    AgentAway,
    AgentRefused,
    NameInvalid,
    ResolverAway,
    TimedOut,
    Internal,
}

impl Code {
    pub(crate) const ALL: [Self; 14] = [
        Self::NodeNameMissing,
        Self::PortBusy,
        Self::AddressDenied,
        Self::ConfigInvalid,
        Self::ConfigUnreadable,
        Self::ManifestUnusable,
        Self::KubeConfigMissing,
        Self::ConsulUnusable,
        Self::AgentAway,
        Self::AgentRefused,
        Self::NameInvalid,
        Self::ResolverAway,
        Self::TimedOut,
        Self::Internal,
    ];

    pub(crate) fn id(self) -> &'static str {
        self.entry().0
    }

    pub(crate) fn meaning(self) -> &'static str {
        self.entry().2
    }

    /// The next step, where the failure knows no better one.
    fn step(self) -> &'static str {
        match self {
            Self::NodeNameMissing => "set NODE_NAME from the Downward API, or pass --node-name",
            Self::PortBusy => "see who listens: ss -lntup",
            Self::AddressDenied => "choose an address of this host and a port from 1024 on",
            Self::ConfigInvalid => {
                "mend the place that the message names; zonal agent --help lists the values"
            }
            Self::ConfigUnreadable => "look at the file: ls -l",
            Self::ManifestUnusable => "kubectl get nodes,svc,endpointslices -A -o yaml > mall.yaml",
            Self::KubeConfigMissing => "pass --kubeconfig FILE, or set KUBECONFIG",
            Self::ConsulUnusable => {
                "look at source.consul in the configuration, and at CONSUL_CACERT"
            }
            Self::AgentAway => "zonal agent, or --admin ADDR",
            Self::AgentRefused => "zonal status says what the agent serves",
            Self::NameInvalid => "a service is NAME or NAMESPACE/NAME: zonal explain shop/web",
            Self::ResolverAway => "zonal agent, or --server ADDR",
            Self::TimedOut => "the same command without --wait says how it stands",
            Self::Internal => "report it with the output of zonal status -o json",
        }
    }

    fn exit(self) -> u8 {
        self.entry().1
    }

    fn entry(self) -> (&'static str, u8, &'static str) {
        match self {
            Self::NodeNameMissing => ("ZNL0001", 78, NODE_NAME_MISSING),
            Self::PortBusy => ("ZNL0004", 74, PORT_BUSY),
            Self::AddressDenied => ("ZNL0005", 74, ADDRESS_DENIED),
            Self::ConfigInvalid => ("ZNL0203", 78, CONFIG_INVALID),
            Self::ConfigUnreadable => ("ZNL0204", 74, CONFIG_UNREADABLE),
            Self::ManifestUnusable => ("ZNL0205", 74, MANIFEST_UNUSABLE),
            Self::KubeConfigMissing => ("ZNL0206", 78, KUBE_CONFIG_MISSING),
            Self::ConsulUnusable => ("ZNL0207", 78, CONSUL_UNUSABLE),
            Self::AgentAway => ("ZNL0301", 69, AGENT_AWAY),
            Self::AgentRefused => ("ZNL0302", 1, AGENT_REFUSED),
            Self::NameInvalid => ("ZNL0303", 2, NAME_INVALID),
            Self::ResolverAway => ("ZNL0304", 69, RESOLVER_AWAY),
            Self::TimedOut => ("ZNL0305", 75, TIMED_OUT),
            Self::Internal => ("ZNL0900", 70, INTERNAL),
        }
    }
}

impl Failure {
    pub(crate) fn new(code: Code, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
            help: None,
        }
    }

    /// With the whole chain of causes.
    pub(crate) fn caused(code: Code, error: &dyn Error) -> Self {
        let mut what = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            what.push_str(": ");
            what.push_str(&error.to_string());
            cause = error.source();
        }
        Self::new(code, what)
    }

    pub(crate) fn internal(what: &str, error: &dyn Error) -> Self {
        Self::new(Code::Internal, format!("{what}: {error}"))
    }

    /// What happened, without the next step.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Whether it may be otherwise in a moment: somebody does not answer.
    pub(crate) fn is_of_the_moment(&self) -> bool {
        matches!(self.code, Code::AgentAway | Code::ResolverAway)
    }

    /// The same after it was waited for.
    pub(crate) fn in_vain(self) -> Self {
        Self {
            code: Code::TimedOut,
            ..self
        }
    }

    /// Prints the failure to stderr and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprint!("{}", self.text());
        ExitCode::from(self.code.exit())
    }

    fn text(&self) -> String {
        // Names from outside may carry control characters; none reaches the terminal.
        let clean = |c: char| if c.is_control() && c != '\n' { ' ' } else { c };
        let what: String = self.what.chars().map(clean).collect();
        let (id, help) = (self.code.id(), self.help.as_deref());
        let help = help.unwrap_or(self.code.step());
        format!("error[{id}]: {what}\nhelp: {help}\n      (zonal explain {id})\n")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.id(), self.what)
    }
}

const NODE_NAME_MISSING: &str = "The agent must know its node to find its zone. In a cluster, set NODE_NAME from the Downward API
(valueFrom.fieldRef.fieldPath: spec.nodeName); elsewhere pass --node-name.";
const PORT_BUSY: &str = "Another process listens on the address. Find it with `ss -lntup`, stop it, or choose another address with the flag
that the message names.";
const ADDRESS_DENIED: &str = "The address cannot be bound: it is not of this host, or its port is below 1024 and the process may not use it.
Three ways for a low port: a port from 1024 on, the sysctl net.ipv4.ip_unprivileged_port_start, or
AmbientCapabilities=CAP_NET_BIND_SERVICE under systemd.";
const CONFIG_INVALID: &str = "A value or key of the configuration is not one that this version knows. Nothing of the file came into force. The
message names the place; the help line names what was probably meant.";
const CONFIG_UNREADABLE: &str =
    "The configuration file could not be read: it is missing, or this user may not read it.";
const MANIFEST_UNUSABLE: &str = "The manifest could not be read, or nothing in it is a Kubernetes object that the agent uses. Make one with
`kubectl get nodes,svc,endpointslices -A -o yaml`.";
const KUBE_CONFIG_MISSING: &str = "There is neither an in-cluster configuration nor a usable kubeconfig. Pass --kubeconfig, set KUBECONFIG, or run
without a cluster: --static FILE.";
const CONSUL_UNUSABLE: &str = "Consul cannot be asked with this configuration: https needs a certificate authority (source.consul.ca_file or
CONSUL_CACERT), and with zone_from service-meta the zone of this node is configured (--zone).";
const AGENT_AWAY: &str = "No agent answers at the address. Start one (`zonal agent`, `zonal demo`) or pass its address with --admin.";
const AGENT_REFUSED: &str = "The agent answered, and the answer is no: the service is unknown, or nothing is served yet. The message says which.";
const NAME_INVALID: &str = "The argument is no name of the kind that the command takes. The message says which rule it breaks.";
const RESOLVER_AWAY: &str =
    "The DNS responder did not answer in time, or its answer could not be read.";
const TIMED_OUT: &str = "What was waited for did not come about within --wait. The message says how it stood at the end.";
const INTERNAL: &str =
    "A bug in zonal. Please report it with the output of `zonal status -o json`.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_documented_table_with_its_exit_code() {
        let page = include_str!("../docs/errors.md");
        for code in Code::ALL {
            let row = format!("| `{}` | {} | ", code.id(), code.exit());
            assert!(page.contains(&row), "{row}");
            let exit = format!("\n| {} | ", code.exit());
            assert!(
                page.contains(&exit),
                "exit code {} is not explained",
                code.exit()
            );
            assert!(!code.meaning().is_empty() && !code.step().is_empty());
        }
        let rows = page.lines().filter(|line| line.starts_with("| `ZNL"));
        assert_eq!(rows.count(), Code::ALL.len());
    }

    #[test]
    fn b9_every_error_and_its_page_are_the_golden_ones() {
        use std::fmt::Write as _;

        let mut text = String::new();
        for code in Code::ALL {
            let failure = Failure::new(code, "what happened, and \u{1b}[31mwhere").text();
            let (exit, meaning) = (code.exit(), code.meaning());
            let _ = writeln!(text, "{failure}exit {exit}\n{meaning}\n");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        crate::golden::is("errors.txt", &text);
    }
}
