// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: every flag, its environment variable and its help.

use crate::dns::Target;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// Zone-aware service discovery and load balancing for Kubernetes edge clusters.
#[derive(Debug, Parser)]
#[command(name = "zonal", version, after_help = MAIN_EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the DNS responder and the proxy of this node on one watch.
    Agent(Box<AgentArgs>),
    /// Run a whole mall in one process, or act on the one that runs.
    Demo(DemoArgs),
    /// Show what an agent serves, how fresh it is, and what is missing.
    Status(StatusArgs),
    /// List the connections and UDP sessions that the proxy of an agent carries now.
    Connections(ConnectionsArgs),
    /// Have a host leave: out of Consul first, then its ports, then its connections.
    Drain(DrainArgs),
    /// Accept a mass change that the agent holds back: what its sources say now is right.
    Accept(AcceptArgs),
    /// Show why each endpoint of a service is in or out, and where a key goes; or explain an error code.
    Explain(ExplainArgs),
    /// Ask a DNS responder for a name.
    Resolve(ResolveArgs),
    /// Check what zonal needs, with the next step for whatever does not hold.
    Doctor(DoctorArgs),
    /// Have the resolver of this host or cluster know the domain.
    Dns(DnsArgs),
}

/// Which cluster, which part of it, and which zone: for whatever watches by itself.
#[derive(Args, Debug)]
pub(crate) struct SourceArgs {
    /// Configuration file (YAML); flags and environment go before it.
    #[arg(long, env = "ZONAL_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Name of this node; `NODE_NAME` of the Downward API is taken as well.
    #[arg(long, env = "ZONAL_NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Kubeconfig; else the in-cluster configuration, KUBECONFIG or ~/.kube/config.
    #[arg(long, env = "ZONAL_KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Only services with these labels, as `kubectl -l` takes them; their slices carry them too, so that both lists shrink
    /// at the server.
    #[arg(long, env = "ZONAL_SELECTOR", value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only services of a `ServiceGrid` of `SuperEdge`.
    #[arg(long, env = "ZONAL_GRID", conflicts_with = "selector")]
    pub(crate) grid: bool,
    /// Only services of this namespace; repeat for several [default: all].
    #[arg(
        long = "namespace",
        env = "ZONAL_NAMESPACE",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub(crate) namespaces: Vec<String>,
    /// Zone of this node, instead of the node's label.
    #[arg(long, env = "ZONAL_ZONE", value_name = "ZONE")]
    pub(crate) zone: Option<String>,
    /// Node label that names the zone; repeat for an ordered list [default: topology.kubernetes.io/zone].
    #[arg(
        long = "zone-key",
        env = "ZONAL_ZONE_KEY",
        value_name = "LABEL",
        value_delimiter = ','
    )]
    pub(crate) zone_keys: Vec<String>,
    /// Policy of services that ask for none: strict, prefer or any [default: strict].
    #[arg(long, env = "ZONAL_ZONE_POLICY", value_name = "POLICY")]
    pub(crate) zone_policy: Option<String>,
    /// Zone by the label `topology.kubernetes.io/zone` of our own pod, from the Downward API; where Kubernetes copies that
    /// label (1.35 and newer) no node need be read for it.
    #[arg(long, env = "ZONAL_POD_ZONE", value_name = "ZONE")]
    pub(crate) pod_zone: Option<String>,
    /// Endpoints that are on no node: drop, include, or cidr-map (networks in the file) [default: drop].
    #[arg(long, env = "ZONAL_UNLOCATED", value_name = "POLICY")]
    pub(crate) unlocated: Option<String>,
    /// Accept endpoints at loopback addresses: for laptops and tests.
    #[arg(long, env = "ZONAL_ALLOW_LOOPBACK_ENDPOINTS")]
    pub(crate) allow_loopback_endpoints: bool,
}

#[derive(Args, Debug)]
#[command(after_help = AGENT_EXAMPLES)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Read this manifest (Node, Service, EndpointSlice as YAML) instead of watching an API server.
    #[arg(
        long = "static",
        env = "ZONAL_STATIC",
        value_name = "FILE",
        conflicts_with = "kubeconfig"
    )]
    pub(crate) manifest: Option<PathBuf>,
    /// Socket for the services of this node that follow this agent, such as /run/zonal/agent.sock [default: none].
    #[arg(long, env = "ZONAL_AGENT_SOCKET", value_name = "PATH")]
    pub(crate) agent_socket: Option<PathBuf>,
    /// Where the next agent of this host takes over without a failed connection: a path, or @NAME, which the pods of the host's
    /// network share without a volume [default: none].
    #[arg(long, env = "ZONAL_TAKE_OVER", value_name = "ADDR")]
    pub(crate) take_over: Option<String>,
    /// Consul agent to read services from, HOST:PORT or a URL (http, https, unix); beside a cluster when one is named
    /// or we run in one.
    #[arg(long, env = "ZONAL_CONSUL", value_name = "ADDR")]
    pub(crate) consul: Option<String>,
    /// Address of the DNS responder; repeat for several [default: 127.0.0.1:8600].
    #[arg(
        long = "dns-listen",
        env = "ZONAL_DNS_LISTEN",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    pub(crate) dns_listen: Vec<SocketAddr>,
    /// Address of page and API [default: 127.0.0.1:9690].
    #[arg(long, env = "ZONAL_ADMIN_LISTEN", value_name = "ADDR")]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Address of metrics and probes [default: 0.0.0.0:9691].
    #[arg(long, env = "ZONAL_METRICS_LISTEN", value_name = "ADDR")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Folder of the last good snapshot; none keeps nothing.
    #[arg(long, env = "ZONAL_SNAPSHOT_FOLDER", value_name = "FOLDER")]
    pub(crate) snapshot_folder: Option<PathBuf>,
    /// Let `zonal accept` and the API change what is in force; without it they only read.
    #[arg(long, env = "ZONAL_ADMIN_WRITE")]
    pub(crate) admin_write: bool,
    /// Do not answer DNS.
    #[arg(long, env = "ZONAL_NO_DNS")]
    pub(crate) no_dns: bool,
    /// Do not front node ports.
    #[arg(long, env = "ZONAL_NO_PROXY")]
    pub(crate) no_proxy: bool,
}

#[derive(Args, Debug)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(subcommand)]
    pub(crate) command: DoctorCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DoctorCommand {
    /// The Kubernetes source: reach, rights, node, zone, slices, and what its selectors cost per hour.
    Kube(Box<DoctorKubeArgs>),
    /// The way of a name: the responder, the servers of this host, what programs see, the servers for names of others.
    Dns(DoctorDnsArgs),
}

#[derive(Args, Debug)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorDnsArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// The responder.
    #[arg(
        long,
        env = "ZONAL_DNS",
        default_value = "127.0.0.1:8600",
        value_name = "ADDR"
    )]
    pub(crate) server: SocketAddr,
    /// The domain that it answers for.
    #[arg(long, default_value = "consul", value_name = "DOMAIN")]
    pub(crate) domain: String,
    /// Check again until everything holds, at most this long; exit 75 when it does not.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
}

#[derive(Args, Debug)]
#[command(after_help = DNS_EXAMPLES)]
pub(crate) struct DnsArgs {
    #[command(subcommand)]
    pub(crate) command: DnsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Print the files and commands that send the domain's questions to the responder; nothing is changed.
    Setup(DnsSetupArgs),
}

#[derive(Args, Debug)]
#[command(after_help = DNS_EXAMPLES)]
pub(crate) struct DnsSetupArgs {
    /// The resolver.
    #[arg(long = "for", value_name = "RESOLVER")]
    pub(crate) target: Target,
    /// The responder.
    #[arg(
        long,
        env = "ZONAL_DNS",
        default_value = "127.0.0.1:8600",
        value_name = "ADDR"
    )]
    pub(crate) server: SocketAddr,
    /// The domain that it answers for.
    #[arg(long, default_value = "consul", value_name = "DOMAIN")]
    pub(crate) domain: String,
}

#[derive(Args, Debug)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorKubeArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Ask the API server itself, without an agent; the flags of the source below are for this.
    #[arg(long)]
    pub(crate) direct: bool,
    /// With --direct: how long to watch, for what an hour costs.
    #[arg(long = "for", default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub(crate) watch_for: Duration,
    /// Check again until everything holds, at most this long; exit 75 when it does not.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Option<Duration>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
}

#[derive(Args, Debug)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DemoCommand>,
    /// Address of the running demo's API.
    #[arg(long, env = "ZONAL_ADMIN", default_value = ADMIN_DEFAULT, value_name = "ADDR", global = true)]
    pub(crate) admin: SocketAddr,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DemoCommand {
    /// Stop a backend, as a crash would.
    #[command(after_help = DEMO_EXAMPLES)]
    Kill {
        /// The backend: web-0, web-1, …
        backend: String,
    },
    /// Start a stopped backend again.
    #[command(after_help = DEMO_EXAMPLES)]
    Revive {
        /// The backend: web-0, web-1, …
        backend: String,
    },
    /// Cut the control plane off.
    #[command(after_help = DEMO_EXAMPLES)]
    Cut {
        /// What to cut.
        what: Cuttable,
    },
    /// Bring the control plane back.
    #[command(after_help = DEMO_EXAMPLES)]
    Heal {
        /// What to heal.
        what: Cuttable,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cuttable {
    /// The control plane.
    Kube,
}

#[derive(Args, Debug)]
#[command(after_help = STATUS_EXAMPLES)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// List refused objects as well.
    #[arg(long)]
    pub(crate) problems: bool,
}

#[derive(Args, Debug)]
#[command(after_help = CONNECTIONS_EXAMPLES)]
pub(crate) struct ConnectionsArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Only those of this service (name or namespace/name).
    #[arg(long, value_name = "SERVICE")]
    pub(crate) service: Option<String>,
    /// Only those of this client's address.
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<IpAddr>,
    /// What comes first.
    #[arg(long, default_value = "age", value_name = "ORDER")]
    pub(crate) sort: SortBy,
    /// How many at most; the agent gives 10,000 and no more.
    #[arg(long, default_value_t = crate::connections::LIMIT, value_name = "NUMBER")]
    pub(crate) limit: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SortBy {
    /// The oldest.
    Age,
    /// Those that moved most.
    Bytes,
    /// By the client's address.
    Client,
    /// By service and port.
    Service,
    /// By the endpoint's name.
    Endpoint,
}

#[derive(Args, Debug)]
#[command(after_help = DRAIN_EXAMPLES)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Only show what would have to end.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Begin it and return.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long to wait for its end; exit 75 after that, and the drain goes on.
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
    pub(crate) wait: Duration,
}

#[derive(Args, Debug)]
#[command(after_help = ACCEPT_EXAMPLES)]
pub(crate) struct AcceptArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// Only show what is held back.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// A service (name or namespace/name), or an error code such as ZNL0001.
    pub(crate) subject: String,
    /// Show which endpoints a request with this key is sent to, in order.
    #[arg(long)]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) ask: AskArgs,
}

#[derive(Args, Debug)]
pub(crate) struct AskArgs {
    /// Address of the agent's API.
    #[arg(long, env = "ZONAL_ADMIN", default_value = ADMIN_DEFAULT, value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Form of the output.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Args, Debug)]
#[command(after_help = RESOLVE_EXAMPLES)]
pub(crate) struct ResolveArgs {
    /// The name: web.service.consul
    pub(crate) name: String,
    /// The record type: A, AAAA, SRV, SOA, NS, TXT, ANY.
    #[arg(default_value = "A")]
    pub(crate) qtype: String,
    /// The responder.
    #[arg(
        long,
        env = "ZONAL_DNS",
        default_value = "127.0.0.1:8600",
        value_name = "ADDR"
    )]
    pub(crate) server: SocketAddr,
    /// Ask over TCP.
    #[arg(long)]
    pub(crate) tcp: bool,
    /// Ask this host's own resolver, as programs do (getaddrinfo); for addresses alone.
    #[arg(long, conflicts_with_all = ["tcp", "server"])]
    pub(crate) system: bool,
    /// Form of the output.
    #[arg(short, long, default_value = "table")]
    pub(crate) output: Output,
}

/// A time as people write it: `500ms`, `10s`, `2m`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(number_ends.unwrap_or(text.len()));
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number and a unit: 500ms, 10s, 2m, 1h".to_owned()),
    };
    let number: Option<u64> = number.parse().ok();
    let whole = number.and_then(|number| number.checked_mul(milliseconds));
    whole
        .map(Duration::from_millis)
        .ok_or_else(|| "write a number and a unit: 500ms, 10s, 2m, 1h".to_owned())
}

pub(crate) const ADMIN_DEFAULT: &str = "127.0.0.1:9690";

const MAIN_EXAMPLES: &str = "Examples:
  zonal demo                                        a mall on this laptop, no cluster needed
  zonal agent --static mall.yaml --node-name edge-a your own manifests
  zonal explain web --key ann                       why this backend?

Exit codes: 0 ok, 1 a check found problems, 2 usage, 69 source or agent unavailable, 70 internal error,
74 I/O, 75 timed out in --wait, 78 configuration.";
const AGENT_EXAMPLES: &str = "Examples:
  NODE_NAME=edge-a zonal agent                      in a cluster, NODE_NAME by the Downward API
  zonal agent --static mall.yaml --node-name edge-a without a cluster
  zonal agent --consul 127.0.0.1:8500 --zone mall-1 services of a Consul agent
  zonal agent --config /etc/zonal/zonal.yaml        from a file

SIGTERM or SIGINT drains; a second one ends at once. SIGHUP reads the configuration again; one that is not valid is
refused, and the one before holds. SIGUSR2 has the binary that stands in this one's place take over. Neither fails a
connection. Sockets of systemd (LISTEN_FDS) are used for the addresses that they have.";
const DEMO_EXAMPLES: &str = "Examples:
  zonal demo                 run it
  zonal demo kill web-2      in another terminal: only web-2's keys move
  zonal demo cut kube        answers stay, the age grows";
const STATUS_EXAMPLES: &str = "Examples:
  zonal status               one screen; exit 1 when anything is red
  zonal status --problems    with the objects that were refused
  zonal status -o json       for programs";
const CONNECTIONS_EXAMPLES: &str = "Examples:
  zonal connections                              the oldest twenty
  zonal connections --sort bytes --limit 5       who moves most?
  zonal connections --service shop/web -o json   those of a service, for programs

UDP sessions are not listed.";
const DRAIN_EXAMPLES: &str = "Examples:
  zonal drain --dry-run      how many ports and connections are there?
  zonal drain                leave, and show every step until the agent has ended
  zonal drain --wait 30s     exit 75 when connections are left by then
  zonal drain -o json        a line of JSON for every step

The agent must run with --admin-write; SIGTERM does the same.";
const ACCEPT_EXAMPLES: &str = "Examples:
  zonal accept --dry-run     what is held back, and why
  zonal accept               take it: the namespace was really deleted
  zonal status               red as long as anything is held

The agent must run with --admin-write; without it the hold of a mass change ends by itself (10 minutes by
default), and that of another cluster with a restart.";
const EXPLAIN_EXAMPLES: &str = "Examples:
  zonal explain web                every endpoint IN or OUT, with its reason
  zonal explain shop/web --key ann and where the key goes
  zonal explain ZNL0004            what an error code means";
const DOCTOR_EXAMPLES: &str = "Examples:
  zonal doctor kube                            what the agent of this node has found
  zonal doctor kube --wait 60s                 after a start: until everything holds
  zonal doctor kube --direct --node-name edge-a --selector zonal.dev/watch=true --for 60s
                                               without an agent: what would these labels cost?
  zonal doctor dns                             which hop between a program and the responder fails?

Exit codes: 0 everything holds, 1 something does not, 69 no agent or no API server, 75 not within --wait.";
const RESOLVE_EXAMPLES: &str = "Examples:
  zonal resolve web.service.consul
  zonal resolve web.service.consul SRV
  zonal resolve _web._tcp.service.consul SRV --tcp
  zonal resolve web.service.consul --system         what programs of this host get";
const DNS_EXAMPLES: &str = "Examples:
  zonal dns setup --for systemd-resolved
  zonal dns setup --for nodelocaldns --domain mall.internal
  zonal dns setup --for dnsmasq --server 10.0.0.7:8600";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_help_of_every_command_has_examples_and_a_sentence_for_each_flag() {
        let mut commands = vec![<Cli as clap::CommandFactory>::command()];
        while let Some(command) = commands.pop() {
            let name = command.get_name().to_owned();
            let help = command.get_after_help().map(ToString::to_string);
            assert!(
                help.is_some_and(|help| help.contains("Examples:\n  ")),
                "{name}"
            );
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{name}: {}",
                    argument.get_id()
                );
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn b9_the_help_of_every_command_is_the_golden_one() {
        use std::fmt::Write as _;

        let mut text = String::new();
        // Without the values that the environment of this test gives.
        let mut commands = vec![("zonal".to_owned(), <Cli as clap::CommandFactory>::command())];
        while let Some((path, command)) = commands.pop() {
            let shown = command.clone().bin_name(&path);
            let help = shown
                .mut_args(|argument| argument.hide_env_values(true))
                .render_long_help();
            let _ = writeln!(text, "$ {path} --help\n{help}");
            let mut subcommands: Vec<_> = command
                .get_subcommands()
                .map(|sub| (format!("{path} {}", sub.get_name()), sub.clone()))
                .collect();
            subcommands.reverse();
            commands.extend(subcommands);
        }
        crate::golden::is("help.txt", &text);
    }
}
