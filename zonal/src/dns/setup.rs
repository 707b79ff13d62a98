// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exact files and commands that send a domain's questions to the responder, for each resolver. Pure.
//!
//! In: the resolver, the responder's address, the domain. Out: text whose lines can be pasted; what is said to a person
//! stands behind `#`. Where a resolver cannot name a port, or pods cannot reach the address, the text says what to change at
//! the agent first.

use crate::failure::{Code, Failure};
use clap::ValueEnum;
use std::{fmt::Write as _, net::SocketAddr};

/// A resolver that hosts or clusters have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Target {
    /// systemd-resolved, 246 or newer.
    SystemdResolved,
    /// /etc/resolv.conf itself, where no other resolver runs.
    #[value(name = "resolv.conf")]
    ResolvConf,
    /// dnsmasq as a service of the host.
    Dnsmasq,
    /// `NetworkManager` with its own dnsmasq.
    NetworkManager,
    /// unbound as a service of the host.
    Unbound,
    /// `CoreDNS` of a cluster.
    Coredns,
    /// `NodeLocal DNSCache` of a cluster.
    Nodelocaldns,
    /// kubelet: the resolver of pods with the policy `Default`.
    Kubelet,
}

/// What to write and run.
pub(crate) fn steps(target: Target, server: SocketAddr, domain: &str) -> Result<String, Failure> {
    let domain = domain.trim_matches('.').to_ascii_lowercase();
    if !is_domain(&domain) {
        let what = format!("{domain:?} is no domain");
        return Err(Failure::new(Code::NameInvalid, what).help("zonal dns setup --domain consul"));
    }
    let mut text = match target {
        Target::SystemdResolved => systemd_resolved(server, &domain),
        Target::ResolvConf => resolv_conf(server),
        Target::Dnsmasq => dnsmasq(server, &domain, "/etc/dnsmasq.d/zonal.conf", "dnsmasq"),
        Target::NetworkManager => network_manager(server, &domain),
        Target::Unbound => unbound(server, &domain),
        Target::Coredns => coredns(server, &domain),
        Target::Nodelocaldns => nodelocaldns(server, &domain),
        Target::Kubelet => kubelet(server),
    };
    let _ = write!(
        text,
        "\n# Whether it works, hop by hop:\nzonal doctor dns{}\n",
        flags(server, &domain)
    );
    Ok(text)
}

fn systemd_resolved(server: SocketAddr, domain: &str) -> String {
    let file = format!(
        "[Resolve]\nDNS={server}\nDomains=~{domain}\n# Signatures of a domain that stands nowhere else cannot be checked.\nDNSSEC=false\n"
    );
    format!(
        "# systemd-resolved asks a server of this file for other names as well when no link has one of its own: links have to.\n\
         {}systemctl restart systemd-resolved\n",
        written("/etc/systemd/resolved.conf.d/zonal.conf", &file)
    )
}

fn resolv_conf(server: SocketAddr) -> String {
    let mut text = String::from(
        "# resolv.conf(5) knows no domain to itself: every name is asked here, so that the agent needs `dns.recursors`. A second\n\
         # nameserver would not help: some resolvers ask all at once, others take the first word for the last.\n",
    );
    text.push_str(&on_port_53(server));
    let file = format!("nameserver {}\n", server.ip());
    text + &written("/etc/resolv.conf", &file)
}

fn dnsmasq(server: SocketAddr, domain: &str, path: &str, unit: &str) -> String {
    let at = format!("{}#{}", server.ip(), server.port());
    let file = format!(
        "server=/{domain}/{at}\n# A \"no\" about a name is not kept: the service may come.\nno-negcache\n"
    );
    let restart = format!("systemctl restart {unit}\n");
    written(path, &file) + &restart
}

fn network_manager(server: SocketAddr, domain: &str) -> String {
    let main = written(
        "/etc/NetworkManager/conf.d/zonal.conf",
        "[main]\ndns=dnsmasq\n",
    );
    let path = "/etc/NetworkManager/dnsmasq.d/zonal.conf";
    main + &dnsmasq(server, domain, path, "NetworkManager")
}

fn unbound(server: SocketAddr, domain: &str) -> String {
    let at = format!("{}@{}", server.ip(), server.port());
    let file = format!(
        "server:\n  # A responder on this host.\n  do-not-query-localhost: no\n  domain-insecure: \"{domain}.\"\n\
         stub-zone:\n  name: \"{domain}.\"\n  stub-addr: {at}\n  # The agent's word is the newest.\n  stub-no-cache: yes\n"
    );
    written("/etc/unbound/unbound.conf.d/zonal.conf", &file) + "systemctl restart unbound\n"
}

fn coredns(server: SocketAddr, domain: &str) -> String {
    let block = format!("{domain}:53 {{\n    errors\n    forward . {server}\n}}\n");
    format!(
        "{}# kubectl -n kube-system edit configmap coredns   and append to Corefile, beside the block of `.:53`:\n{}\
         kubectl -n kube-system rollout restart deployment coredns\n",
        for_pods(server),
        indented(&block)
    )
}

fn nodelocaldns(server: SocketAddr, domain: &str) -> String {
    let block =
        format!("{domain}:53 {{\n    errors\n    bind 169.254.20.10\n    forward . {server}\n}}\n");
    format!(
        "# Each node's cache asks the agent of that node: it runs in the host's network. Where kube-proxy uses iptables the cache\n\
         # listens on the cluster IP of kube-dns as well: name both in `bind`, as the other blocks do.\n\
         # kubectl -n kube-system edit configmap node-local-dns   and append to Corefile:\n{}\
         kubectl -n kube-system rollout restart daemonset node-local-dns\n",
        indented(&block)
    )
}

fn kubelet(server: SocketAddr) -> String {
    let file = format!("nameserver {}\n", server.ip());
    let mut text = String::from(
        "# For pods whose dnsPolicy is Default; they ask for every name here, so that the agent needs `dns.recursors`.\n",
    );
    text.push_str(&for_pods(server));
    text.push_str(&on_port_53(server));
    text + &written("/etc/zonal/resolv.conf", &file)
        + "# In the kubelet's configuration: resolvConf: /etc/zonal/resolv.conf\nsystemctl restart kubelet\n"
}

/// Where no port can be named.
fn on_port_53(server: SocketAddr) -> String {
    if server.port() == 53 {
        return String::new();
    }
    let at = SocketAddr::new(server.ip(), 53);
    format!("# Ports cannot be named here. First, at the agent: --dns-listen {at}\n")
}

/// Where who asks has a network of its own.
fn for_pods(server: SocketAddr) -> String {
    if !server.ip().is_loopback() {
        return String::new();
    }
    format!(
        "# Pods do not reach {} of the node. First, at the agent: --dns-listen NODE_ADDRESS:{}, and that address below.\n",
        server.ip(),
        server.port()
    )
}

/// A file as a shell writes it.
fn written(path: &str, text: &str) -> String {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
    let make = if folder == "/etc" {
        String::new()
    } else {
        format!("mkdir -p {folder}\n")
    };
    format!("{make}cat >{path} <<'END'\n{text}END\n")
}

fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "    {line}");
        all
    })
}

/// What differs from the defaults.
fn flags(server: SocketAddr, domain: &str) -> String {
    let mut flags = String::new();
    if server != crate::config::DNS_LISTEN {
        let _ = write!(flags, " --server {server}");
    }
    if domain != "consul" {
        let _ = write!(flags, " --domain {domain}");
    }
    flags
}

/// Nothing that a shell or a configuration file would read as something else.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(is_inside)
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn each_resolver_has_its_golden_steps() {
        for target in Target::value_variants() {
            let name = target.to_possible_value().unwrap();
            let text = steps(*target, "127.0.0.1:8600".parse().unwrap(), "Consul.").unwrap();
            golden::is(&format!("dns-setup-{}.txt", name.get_name()), &text);
        }
        let text = steps(
            Target::Coredns,
            "10.0.0.7:53".parse().unwrap(),
            "mall.internal",
        );
        golden::is("dns-setup-coredns-elsewhere.txt", &text.unwrap());
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for bad in ["", "a..b", "a b", "$(id)", "a\nb", &"a".repeat(64)] {
            assert!(
                steps(Target::Dnsmasq, crate::config::DNS_LISTEN, bad).is_err(),
                "{bad:?}"
            );
        }
    }
}
