// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds the program of a server, or builds it once.
//!
//! Looked for in this order: the variable `ZONAL_TESTBED_<NAME>`, `KUBEBUILDER_ASSETS`, `PATH`, the cache, and at last
//! a build from pinned modules (`testbed/go/`). The name in the cache is made of the version and a hash of all that decides
//! the build.
//!
//! Blocks: for microseconds when it finds, for minutes when it builds.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error,
    cache::{self, is_program},
    skip::say,
};

/// A server program that tests may ask for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Binary {
    /// The Kubernetes API server.
    KubeApiserver,
    /// The Kubernetes controller manager.
    KubeControllerManager,
    /// The Kubernetes service proxy.
    KubeProxy,
    /// etcd, in the version that this Kubernetes requires.
    Etcd,
    /// Consul; run, never linked (its licence allows no more).
    Consul,
    /// `CoreDNS`.
    CoreDns,
    /// kwok, which plays nodes and pods by the thousand.
    Kwok,
    /// consul-template, which writes files from what Consul tells.
    ConsulTemplate,
}

impl Binary {
    /// All of them, in the order in which building them costs least.
    pub const ALL: [Self; 8] = [
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeProxy,
        Self::Etcd,
        Self::Consul,
        Self::CoreDns,
        Self::Kwok,
        Self::ConsulTemplate,
    ];

    /// The name of the program file.
    pub fn name(self) -> &'static str {
        self.recipe().name
    }

    /// The version that a build gives; a program found elsewhere may be another.
    pub fn version(self) -> &'static str {
        self.recipe().version
    }

    /// The variable that names the program file outright: `ZONAL_TESTBED_KUBE_APISERVER`.
    pub fn variable(self) -> String {
        format!(
            "ZONAL_TESTBED_{}",
            self.name().to_uppercase().replace('-', "_")
        )
    }

    /// The program file, built if it has to be; see the order above.
    ///
    /// Cost: a build takes minutes and happens once per machine and version; it announces itself on the error stream.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when it is nowhere and there is no Go toolchain, or when the variable names no program;
    /// [`Error::Build`] when the build fails; [`Error::Io`] when the cache cannot be used.
    pub async fn find(self) -> Result<PathBuf, Error> {
        let found = tokio::task::spawn_blocking(move || self.find_blocking()).await;
        found.unwrap_or_else(|broken| std::panic::resume_unwind(broken.into_panic()))
    }

    /// [`Binary::find`] for callers without a runtime.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn find_blocking(self) -> Result<PathBuf, Error> {
        if let Some(path) = env::var_os(self.variable()).map(PathBuf::from) {
            return self.named(path);
        }
        match self.installed() {
            Some(path) => Ok(path),
            None => cache::cached(&self.cache_name()?, |unfinished| self.build(unfinished)),
        }
    }

    fn named(self, path: PathBuf) -> Result<PathBuf, Error> {
        if is_program(&path) {
            return Ok(path);
        }
        let why = format!(
            "{} names {}, which is no program",
            self.variable(),
            path.display()
        );
        Err(Error::unavailable(self.name(), why))
    }

    fn installed(self) -> Option<PathBuf> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let search = env::var_os("PATH").unwrap_or_default();
        let folders = assets.into_iter().chain(env::split_paths(&search));
        folders
            .map(|folder| folder.join(self.name()))
            .find(|path| is_program(path))
    }

    fn build(self, unfinished: &Path) -> Result<(), Error> {
        let recipe = self.recipe();
        say(&format!(
            "testbed: building {} {}, which takes about {} on two cores, once",
            recipe.name, recipe.version, recipe.takes
        ));
        let built = recipe
            .go_build(unfinished)
            .output()
            .map_err(|error| self.no_go(error))?;
        if built.status.success() {
            return Ok(());
        }
        Err(Error::build(recipe.name, &built))
    }

    fn no_go(self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => Error::unavailable(
                self.name(),
                format!(
                    "not in {}, PATH or the cache; no Go to build it",
                    self.variable()
                ),
            ),
            _ => Error::io("running go build")(error),
        }
    }

    fn cache_name(self) -> Result<String, Error> {
        let recipe = self.recipe();
        let mut hash = cache::FNV_OFFSET;
        for file in ["go.mod", "go.sum"].into_iter().chain(recipe.main) {
            let path = recipe.folder().join(file);
            let bytes =
                fs::read(&path).map_err(Error::io(format!("reading {}", path.display())))?;
            hash = cache::fnv1a(hash, &bytes);
        }
        hash = cache::fnv1a(hash, recipe.ldflags.as_bytes());
        Ok(format!("{}-{}-{hash:016x}", recipe.name, recipe.version))
    }

    fn recipe(self) -> &'static Recipe {
        match self {
            Self::KubeApiserver => &KUBE_APISERVER,
            Self::KubeControllerManager => &KUBE_CONTROLLER_MANAGER,
            Self::KubeProxy => &KUBE_PROXY,
            Self::Etcd => &ETCD,
            Self::Consul => &CONSUL,
            Self::CoreDns => &COREDNS,
            Self::Kwok => &KWOK,
            Self::ConsulTemplate => &CONSUL_TEMPLATE,
        }
    }
}

/// How a program is built: `package` in the module `testbed/go/<module>`.
struct Recipe {
    name: &'static str,
    version: &'static str,
    module: &'static str,
    package: &'static str,
    /// The file of ours that is compiled, if the package is not somebody else's.
    main: Option<&'static str>,
    ldflags: &'static str,
    takes: &'static str,
}

impl Recipe {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("go")
            .join(self.module)
    }

    fn go_build(&self, into: &Path) -> Command {
        let mut go = Command::new("go");
        go.current_dir(self.folder())
            .env("CGO_ENABLED", "0")
            .env("GOWORK", "off")
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false"])
            .args(["-ldflags", self.ldflags, "-o"])
            .arg(into)
            .arg(self.package);
        go
    }
}

/// Without these the servers call themselves 0.0.0 and refuse their own features.
const KUBERNETES_LDFLAGS: &str = "-s -w \
    -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 \
    -X k8s.io/component-base/version.gitMinor=36";

const KUBE_APISERVER: Recipe = Recipe {
    name: "kube-apiserver",
    version: "1.36.3",
    module: "kubernetes",
    package: "./cmd/kube-apiserver",
    main: Some("cmd/kube-apiserver/main.go"),
    ldflags: KUBERNETES_LDFLAGS,
    takes: "4 minutes",
};

// The others of the module share most packages with the API server and are quick after it, which is why a control plane
// asks for that one first.
const KUBE_CONTROLLER_MANAGER: Recipe = Recipe {
    name: "kube-controller-manager",
    package: "./cmd/kube-controller-manager",
    main: Some("cmd/kube-controller-manager/main.go"),
    takes: "1 minute",
    ..KUBE_APISERVER
};

const KUBE_PROXY: Recipe = Recipe {
    name: "kube-proxy",
    package: "./cmd/kube-proxy",
    main: Some("cmd/kube-proxy/main.go"),
    takes: "1 minute",
    ..KUBE_APISERVER
};

const ETCD: Recipe = Recipe {
    name: "etcd",
    version: "3.6.8",
    package: "./cmd/etcd",
    main: Some("cmd/etcd/main.go"),
    ldflags: "-s -w",
    takes: "1 minute",
    ..KUBE_APISERVER
};

const CONSUL: Recipe = Recipe {
    name: "consul",
    version: "1.22.5",
    module: "consul",
    package: "github.com/hashicorp/consul",
    main: None,
    ldflags: "-s -w",
    takes: "4 minutes",
};

const COREDNS: Recipe = Recipe {
    name: "coredns",
    version: "1.14.7",
    module: "coredns",
    package: "github.com/coredns/coredns",
    takes: "2 minutes",
    ..CONSUL
};

const KWOK: Recipe = Recipe {
    name: "kwok",
    version: "0.8.0",
    module: "kwok",
    package: "sigs.k8s.io/kwok/cmd/kwok",
    takes: "2 minutes",
    ..CONSUL
};

const CONSUL_TEMPLATE: Recipe = Recipe {
    name: "consul-template",
    version: "0.41.1",
    module: "consul-template",
    package: "github.com/hashicorp/consul-template",
    takes: "half a minute",
    ..CONSUL
};
