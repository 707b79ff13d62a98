// SPDX-License-Identifier: MIT OR Apache-2.0
//! What nobody should write into a file, an environment or a command line: each is refused with the exit code of its kind, its
//! place where there is one, and a word on what was meant; none makes an agent run that its operator did not ask for.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// A configuration that is refused.
struct Case {
    file: Option<Vec<u8>>,
    flags: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    exit: i32,
    /// What the refusal says.
    says: &'static [&'static str],
}

/// A text of the file.
fn file(text: impl Into<Vec<u8>>, says: &'static [&'static str]) -> Case {
    Case {
        file: Some(text.into()),
        flags: &[],
        variables: &[],
        exit: CONFIG,
        says,
    }
}

fn flags(flags: &'static [&'static str], exit: i32, says: &'static [&'static str]) -> Case {
    Case {
        file: None,
        flags,
        variables: &[],
        exit,
        says,
    }
}

fn variable(
    variables: &'static [(&'static str, &'static str)],
    exit: i32,
    says: &'static [&'static str],
) -> Case {
    Case {
        variables,
        ..flags(&[], exit, says)
    }
}

/// sysexits(3): a configuration that is wrong, and a file that cannot be read.
const CONFIG: i32 = 78;
const UNREADABLE: i32 = 74;
/// What clap gives for a command line, as most commands do.
const USAGE: i32 = 2;

/// Keys that are unknown, each with the one that was meant.
const UNKNOWN: [(&str, &[&str]); 16] = [
    ("nodename: a\n", &["zonal.yaml:1:1:", "`node_name`"]),
    ("Zone: {}\n", &["zonal.yaml:1:1:", "`Zone`", "`zone`"]),
    ("zone:\n  polcy: strict\n", &["zonal.yaml:2:3:", "`policy`"]),
    ("zone: {key: a}\n", &["zonal.yaml:1:8:", "`keys`"]),
    ("zone: {holdseconds: 1}\n", &["`hold_seconds`"]),
    ("dns:\n  lisen: []\n", &["zonal.yaml:2:3:", "`listen`"]),
    ("dns: {ttl: 3}\n", &["zonal.yaml:1:7:", "Keys here:"]),
    ("dns: {recursor: []}\n", &["`recursors`"]),
    ("proxy: {drain_second: 1}\n", &["`drain_seconds`"]),
    ("proxy: {register: {adress: x}}\n", &["`address`"]),
    ("admin: {listne: a}\n", &["zonal.yaml:1:9:", "`listen`"]),
    (
        "metrics: {port: 1}\n",
        &["zonal.yaml:1:11:", "Keys here: listen"],
    ),
    ("snapshot: {folders: a}\n", &["`folder`"]),
    ("agent: {sockets: /s}\n", &["`socket`"]),
    ("source: {statik: a}\n", &["`static`"]),
    (
        "source:\n  consul:\n    tokenfile: a\n",
        &["zonal.yaml:3:5:", "`token_file`"],
    ),
];

/// Values of a wrong type, and texts that are no YAML.
const TYPES: [(&str, &[&str]); 26] = [
    ("dns: {listen: 53}\n", &["zonal.yaml:1:"]),
    ("dns: {listen: ['127.0.0.1']}\n", &["zonal.yaml:1:"]),
    ("dns: {listen: ['localhost:53']}\n", &["zonal.yaml:1:"]),
    ("dns: {enabled: maybe}\n", &["zonal.yaml:1:"]),
    ("dns: {ttl_seconds: -1}\n", &["zonal.yaml:1:"]),
    ("dns: {ttl_seconds: 4294967296}\n", &["zonal.yaml:1:"]),
    ("dns: {profile: bind}\n", &["zonal.yaml:1:"]),
    ("admin: 1\n", &["zonal.yaml:1:"]),
    ("admin: {listen: ':9690'}\n", &["zonal.yaml:1:"]),
    ("metrics:\n  listen: 127.0.0.1:99999\n", &["zonal.yaml:2:"]),
    ("zone: [mall-1]\n", &["zonal.yaml:1:"]),
    ("zone: {hold_seconds: soon}\n", &["zonal.yaml:1:"]),
    ("zone: {networks: [10.0.0.0/8]}\n", &["zonal.yaml:1:"]),
    ("proxy: {drain_seconds: 1.5}\n", &["zonal.yaml:1:"]),
    ("proxy: {listen: [all]}\n", &["zonal.yaml:1:"]),
    (
        "proxy: {expect_proxy_header: {0: [10.0.0.0/8]}}\n",
        &["zonal.yaml:1:"],
    ),
    (
        "proxy: {expect_proxy_header: {99999: []}}\n",
        &["zonal.yaml:1:"],
    ),
    ("agent: {uids: [root]}\n", &["zonal.yaml:1:"]),
    ("agent: {clients_max: -1}\n", &["zonal.yaml:1:"]),
    (
        "source: {merge: [{policy: union}]}\n",
        &["zonal.yaml:1:", "service"],
    ),
    ("allow_loopback_endpoints: 2\n", &["zonal.yaml:1:"]),
    ("- a\n- b\n", &["zonal.yaml:1:"]),
    ("7\n", &["zonal.yaml:1:"]),
    ("zone:\n\tname: a\n", &["zonal.yaml:2:"]),
    ("zone: {name: 'mall-1}\n", &["zonal.yaml:"]),
    ("zone: {name: mall-1\ndns: {}\n", &["zonal.yaml:"]),
];

/// Values of the right type that say what cannot be.
const VALUES: [(&str, &[&str]); 22] = [
    ("node_name: 'Edge A'\n", &["node name", "Edge A"]),
    ("zone: {name: '-'}\n", &["zone"]),
    ("zone: {policy: local}\n", &["strict, prefer and any"]),
    ("zone: {keys: ['a b']}\n", &["a b"]),
    ("zone: {unlocated: keep}\n", &["drop, include and cidr-map"]),
    ("zone: {unlocated: cidr-map}\n", &["networks"]),
    ("zone: {networks: {10.0.0.0/8: a}}\n", &["cidr-map"]),
    (
        "zone: {unlocated: cidr-map, networks: {10.0.0.1/8: a}}\n",
        &["10.0.0.1/8"],
    ),
    ("source: {move_grace_seconds: 11}\n", &["0 to 10"]),
    ("source: {precedence: [moon]}\n", &["moon"]),
    ("source: {merge: [{service: 'A/b'}]}\n", &["A/b"]),
    ("source: {merge: [{service: a, policy: all}]}\n", &["all"]),
    ("source: {consul: {address: 'ftp://x'}}\n", &["ftp://x"]),
    (
        "source: {consul: {address: 'a:8500', zone_from: moon}}\n",
        &["node-meta:KEY"],
    ),
    ("agent: {socket: /s, mode: '0999'}\n", &["0999", "octal"]),
    (
        "proxy: {expect_proxy_header: {30080: []}}\n",
        &["from nobody"],
    ),
    (
        "proxy: {expect_proxy_header: {30080: [10.0.0.1/8]}}\n",
        &["beyond its prefix"],
    ),
    ("proxy: {register: {consul: 'ftp://x'}}\n", &["ftp://x"]),
    ("dns: {domain: 'a..b'}\n", &["a..b"]),
    ("dns: {ttl_seconds: 4000000000}\n", &["TTL"]),
    ("dns: {log: loud}\n", &["dns.log"]),
    ("dns: {recursors: [nonsense]}\n", &["nonsense"]),
];

fn cases() -> Vec<Case> {
    let tables = UNKNOWN.iter().chain(&TYPES).chain(&VALUES);
    let mut cases: Vec<_> = tables.map(|(text, says)| file(*text, says)).collect();
    let deep = format!("zone: {}{}\n", "[".repeat(5_000), "]".repeat(5_000));
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for letter in b'b'..b'k' {
        let (own, before) = (char::from(letter), char::from(letter - 1));
        let stars = vec![format!("*{before}"); 9].join(",");
        let _ = writeln!(bomb, "{own}: &{own} [{stars}]");
    }
    cases.extend([
        file(vec![b'#'; 10 * 1024 * 1024], &["10485760 bytes", "1048576"]),
        file(deep, &["zonal.yaml:"]),
        file(bomb, &["zonal.yaml:"]),
        file("zone: &z {keys: [*z]}\n", &["zonal.yaml:"]),
        file(&b"node_name: edge\xff\n"[..], &["byte 15 is not UTF-8"]),
        file(&b"\xff\xfen\0o\0"[..], &["byte 0 is not UTF-8"]),
        file("dns: {}\ndns: {}\n", &["zonal.yaml:2:", "dns"]),
        file("zone: {name: a, name: b}\n", &["zonal.yaml:1:", "name"]),
        file("zone: {}\n---\nzone: {}\n", &["zonal.yaml:"]),
        flags(
            &["--config", "/nonexistent/zonal.yaml"],
            UNREADABLE,
            &["/nonexistent/zonal.yaml"],
        ),
        flags(&["--config", "/"], UNREADABLE, &["error[ZNL0204]"]),
        flags(&["--node-name", "Edge A"], CONFIG, &["Edge A"]),
        flags(&["--node-name", ""], CONFIG, &["node name"]),
        flags(&["--zone", "-"], CONFIG, &["zone"]),
        flags(
            &["--zone-policy", "near"],
            CONFIG,
            &["strict, prefer and any"],
        ),
        flags(
            &["--unlocated", "keep"],
            CONFIG,
            &["drop, include and cidr-map"],
        ),
        flags(&["--consul", "ftp://x"], CONFIG, &["ftp://x"]),
        flags(&["--dns-listen", "53"], USAGE, &["--dns-listen"]),
        flags(&["--dns-lisen", "127.0.0.1:53"], USAGE, &["--dns-listen"]),
        flags(&["--admin-listen", "localhost"], USAGE, &["--admin-listen"]),
        flags(&["--zone"], USAGE, &["--zone"]),
        flags(&["--no-dns=yes"], USAGE, &["--no-dns"]),
        flags(&["--kubeconfig", "/k"], USAGE, &["--static"]),
        flags(&["--grid", "--selector", "a"], USAGE, &["--selector"]),
        flags(&["more"], USAGE, &["more"]),
        variable(&[("ZONAL_DNS_LISTEN", "nowhere")], USAGE, &["nowhere"]),
        variable(
            &[("ZONAL_METRICS_LISTEN", "1")],
            USAGE,
            &["--metrics-listen"],
        ),
        variable(&[("ZONAL_NO_PROXY", "perhaps")], USAGE, &["perhaps"]),
        variable(&[("ZONAL_ZONE", "mall 1")], CONFIG, &["mall 1"]),
        variable(&[("ZONAL_ZONE_KEY", "a,,b c")], CONFIG, &["error[ZNL0203]"]),
        variable(
            &[("ZONAL_CONFIG", "/nonexistent")],
            UNREADABLE,
            &["/nonexistent"],
        ),
        variable(&[("ZONAL_POD_ZONE", "a b")], CONFIG, &["a b"]),
        variable(&[("ZONAL_SELECTOR", "a;b")], CONFIG, &["';'"]),
    ]);
    cases
}

#[test]
fn b6_every_configuration_that_cannot_be_is_refused_with_its_place_and_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("mall.yaml");
    fs::write(&manifest, MALL).unwrap();
    let (cases, mut wrong) = (cases(), Vec::new());
    for case in &cases {
        let path = folder.path().join("zonal.yaml");
        let written = case.file.as_ref().map(|bytes| fs::write(&path, bytes));
        written.unwrap_or(Ok(())).unwrap();
        let (exit, told) = refusal(case, &manifest, &path);
        let missing = case.says.iter().find(|text| !told.contains(**text));
        let is_clean = !told.chars().any(|c| c.is_control() && c != '\n');
        if exit != Some(case.exit) || missing.is_some() || !is_clean || told.len() > 4_096 {
            let text = case.file.as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
            wrong.push(format!(
                "{text:?} {:?} {:?}: exit {exit:?} for {}, without {missing:?}:\n{told}",
                case.flags, case.variables, case.exit
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} cases: {}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cases.len() >= 80, "{}", cases.len());
}

/// Starts an agent; its exit code, none when it had to be ended, and what it said.
fn refusal(case: &Case, manifest: &Path, config: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zonal"));
    command
        .args(["agent", "--static"])
        .arg(manifest)
        .args(case.flags)
        .env_clear()
        .envs(case.variables.iter().copied())
        .stderr(Stdio::piped());
    if case.file.is_some() {
        command.arg("--config").arg(config);
    }
    if !case.flags.contains(&"--node-name") {
        let in_file = case
            .file
            .as_deref()
            .is_some_and(|text| text.starts_with(b"node_name"));
        command.args(if in_file {
            &[][..]
        } else {
            &["--node-name", "edge-a"]
        });
    }
    for (flag, variable) in [
        ("--admin-listen", "ZONAL_ADMIN_LISTEN"),
        ("--metrics-listen", "ZONAL_METRICS_LISTEN"),
        ("--dns-listen", "ZONAL_DNS_LISTEN"),
    ] {
        let is_said = case.variables.iter().any(|(name, _)| *name == variable);
        if !case.flags.contains(&flag) && !is_said {
            command.args([flag, "127.0.0.1:0"]);
        }
    }
    let mut process = command.spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            process.kill().unwrap();
            break None;
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    let told = process.wait_with_output().unwrap().stderr;
    let told = String::from_utf8_lossy(&told).into_owned();
    (status.and_then(|status| status.code()), told)
}

/// More than a refusal takes.
const PATIENCE: Duration = Duration::from_secs(5);

const MALL: &str = "
apiVersion: v1
kind: Node
metadata: {name: edge-a, labels: {topology.kubernetes.io/zone: mall-1}}
";
