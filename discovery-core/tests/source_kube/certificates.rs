// SPDX-License-Identifier: MIT OR Apache-2.0
//! Authorities and certificates that are replaced while we run: a real TLS listener, and real files.

use crate::{
    scene::*,
    server::{Answer, Asked, Piece, Tls},
};
use discovery_core::{
    source::{FailureReason, WatchState},
    store::{Kind, Update},
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tempfile::TempDir;

/// A certificate authority.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name that ends with that year.
    fn certifies(&self, name: &str, year: i32) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { certificate, key }
    }

    /// A server that this authority certifies; with some authority clients have to show a certificate of that.
    pub(crate) fn server(&self, of_clients: Option<&Self>) -> ServerConfig {
        let identity = self.certifies("127.0.0.1", 2999);
        let chain = vec![identity.certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match of_clients {
            None => config.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        config.with_single_cert(chain, key).unwrap()
    }
}

/// A node's folder with a kubeconfig and the files that it names.
struct Files(TempDir);

impl Files {
    /// Files with the authority, and perhaps a certificate of our own.
    fn new(authority: &str, identity: Option<&Identity>) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.replace("ca.crt", authority);
        if let Some(identity) = identity {
            files.replace_identity(identity);
        }
        files
    }

    fn replace_identity(&self, identity: &Identity) {
        self.replace("client.crt", &identity.certificate.pem());
        self.replace("client.key", &identity.key.serialize_pem());
    }

    /// A new file that takes the old one's place.
    fn replace(&self, name: &str, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.path().join(name)).unwrap();
    }

    /// The kubeconfig of a server.
    fn kubeconfig(folder: &Path, server: &str) -> std::path::PathBuf {
        let path = folder.join("kubeconfig");
        let user = [
            (
                "client.crt",
                "client-certificate: client.crt, client-key: client.key",
            ),
            ("token", "tokenFile: token"),
        ];
        let user = user
            .into_iter()
            .filter(|(file, _)| folder.join(file).exists());
        let user: Vec<_> = user.map(|(_, words)| words).collect();
        let user = user.join(", ");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
             contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
             clusters: [{{name: k, cluster: {{server: {server:?}, certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// A source at work on a TLS server with the slices a, b and c.
    async fn scene(
        &self,
        tls: &Tls,
        script: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Scene {
        let folder = self.0.path();
        let script = move |asked: &Asked| {
            let slices = || (asked.what == "endpointslices" && !asked.is_watch).then(|| abc(10));
            script(asked).or_else(slices)
        };
        let configure = |config: discovery_core::source::KubeConfig, server: &str| {
            let kubeconfig = Self::kubeconfig(folder, server);
            config.server(None).kubeconfig(Some(kubeconfig))
        };
        Scene::over(Some(tls.clone()), script, configure).await
    }
}

fn refused(scene: &Scene) -> bool {
    let errors = |kind| scene.status.errors(kind, FailureReason::Certificate);
    Kind::ALL.into_iter().any(|kind| errors(kind) > 0)
}

fn is_live(scene: &Scene) -> bool {
    [Kind::Services, Kind::Slices]
        .into_iter()
        .all(|kind| scene.status.state(kind) == WatchState::Live)
}

/// Whether nothing was taken back and no list was read again.
fn nothing_is_lost(scene: &Scene, told: &[Update]) {
    let takes_back = |update: &&Update| !matches!(update, Update::Upsert(..));
    let taken: Vec<_> = told.iter().filter(takes_back).map(words).collect();
    assert!(taken.is_empty(), "{taken:?}");
    assert_eq!(
        scene.status.lists(Kind::Slices),
        1,
        "{:?}",
        failures(&scene.status, Kind::Slices)
    );
}

#[tokio::test(start_paused = true)]
async fn a_rotated_authority_is_followed_as_soon_as_its_file_is_replaced() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = Tls::new(old.server(None));
    let files = Files::new(&old.pem(), None);
    let mut scene = files.scene(&tls, |_| None).await;
    scene.synced(Kind::Slices).await;
    tls.replace(new.server(None));
    scene.server.cut_all();
    let (_, mut told) = scene.told_until("a refused certificate", refused).await;
    let reason = Kind::ALL.map(|kind| scene.status.last_failure(kind));
    assert!(
        reason.contains(&Some(FailureReason::Certificate)),
        "{reason:?}"
    );
    let start = tokio::time::Instant::now();
    let ten_minutes = |_: &Scene| start.elapsed() > Duration::from_secs(600);
    told.extend(scene.told_until("ten minutes", ten_minutes).await.1);
    assert!(
        !scene.status.is_connected(),
        "the file still names the old one"
    );
    files.replace("ca.crt", &new.pem());
    let (took, more) = scene.told_until("live again", is_live).await;
    told.extend(more);
    println!("live {took:?} after the file was replaced");
    assert!(took <= Duration::from_secs(20), "{took:?}");
    nothing_is_lost(&scene, &told);
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_announced_before_it_is_used_costs_no_failure() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tls = Tls::new(old.server(None));
    let files = Files::new(&old.pem(), None);
    let mut scene = files.scene(&tls, |_| None).await;
    scene.synced(Kind::Slices).await;
    files.replace("ca.crt", &(old.pem() + &new.pem()));
    scene.pass(Duration::from_secs(70)).await;
    tls.replace(new.server(None));
    scene.server.cut_all();
    scene.pass(Duration::from_secs(60)).await;
    assert!(is_live(&scene));
    assert!(
        !refused(&scene),
        "{:?}",
        failures(&scene.status, Kind::Slices)
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_client_certificate_is_replaced_without_restart() {
    let authority = Authority::new("cluster");
    let (valid, renewed) = (
        authority.certifies("zonal", 2999),
        authority.certifies("zonal", 2999),
    );
    let tls = Tls::new(authority.server(Some(&authority)));
    let files = Files::new(&authority.pem(), Some(&valid));
    let mut scene = files.scene(&tls, |_| None).await;
    scene.synced(Kind::Slices).await;
    // What stood in the files has expired since.
    let expired = authority.certifies("zonal", 2020);
    files.replace_identity(&expired);
    scene.pass(Duration::from_secs(60)).await;
    scene.server.cut_all();
    let (_, mut told) = scene.told_until("a refused certificate", refused).await;
    // Half a pair is none, and is waited for.
    files.replace("client.crt", &renewed.certificate.pem());
    told.extend(scene.told_until("a look", |_| true).await.1);
    scene.pass(Duration::from_secs(30)).await;
    assert!(!scene.status.is_connected());
    files.replace("client.key", &renewed.key.serialize_pem());
    let (took, more) = scene.told_until("live again", is_live).await;
    told.extend(more);
    println!("live {took:?} after the pair was whole");
    assert!(took <= Duration::from_secs(60), "{took:?}");
    nothing_is_lost(&scene, &told);
    let shown = scene.server.asked("services", true);
    assert_eq!(
        shown.last().unwrap().certificate,
        renewed.certificate.der().to_vec()
    );
}

#[tokio::test(start_paused = true)]
async fn f20_a_rotated_token_authority_and_certificate_are_used_within_60_seconds() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let ours = [&old, &new].map(|authority| authority.certifies("zonal", 2999));
    let tls = Tls::new(old.server(Some(&old)));
    let files = Files::new(&old.pem(), Some(&ours[0]));
    files.replace("token", "first");
    let renewed = |asked: &Asked| {
        let token = asked.headers.get("authorization");
        token.is_some_and(|token| token == "Bearer second")
    };
    let (shown, may_be_old) = (
        ours[1].certificate.der().to_vec(),
        Arc::new(AtomicBool::new(true)),
    );
    let old_is_good = may_be_old.clone();
    let script = move |asked: &Asked| {
        let is_refused = !renewed(asked) && !old_is_good.load(Relaxed);
        // Watches end as servers end them.
        let watch = || {
            asked
                .is_watch
                .then(|| Answer::ok([Piece::Wait(Duration::from_secs(28))]))
        };
        is_refused
            .then(|| Answer::status(401, "Unauthorized"))
            .or_else(watch)
    };
    let mut scene = files.scene(&tls, script).await;
    scene.synced(Kind::Slices).await;
    files.replace("ca.crt", &(old.pem() + &new.pem()));
    files.replace("token", "second");
    files.replace_identity(&ours[1]);
    // Until the servers are changed over, they take both.
    tls.replace(old.server(Some(&new)));
    let are_used = |scene: &Scene| {
        let asked = ["services", "endpointslices"].map(|what| scene.server.asked(what, true));
        let is_used = |asked: &Asked| renewed(asked) && asked.certificate == shown;
        asked.iter().all(|asked| asked.last().is_some_and(is_used))
    };
    let (took, mut told) = scene.told_until("all that is new", are_used).await;
    println!("F20: in use after {took:?}");
    assert!(took <= Duration::from_secs(60), "{took:?}");
    may_be_old.store(false, Relaxed);
    tls.replace(new.server(Some(&new)));
    scene.server.cut_all();
    let start = tokio::time::Instant::now();
    let is_live_again = |scene: &Scene| start.elapsed() > Duration::from_secs(40) && is_live(scene);
    told.extend(scene.told_until("live again", is_live_again).await.1);
    assert!(!refused(&scene));
    nothing_is_lost(&scene, &told);
}

/// API servers ask for certificates and check them with each request, so that one which expires is refused over the
/// connection that it has made.
#[tokio::test(start_paused = true)]
async fn a_client_certificate_that_is_refused_by_401_is_looked_for_at_once() {
    let authority = Authority::new("cluster");
    let (old, new) = (
        authority.certifies("zonal", 2999),
        authority.certifies("zonal", 2999),
    );
    let tls = Tls::new(authority.server(Some(&authority)));
    let files = Files::new(&authority.pem(), Some(&old));
    let (path, pair) = (
        files.0.path().to_owned(),
        (new.certificate.pem(), new.key.serialize_pem()),
    );
    let expired = old.certificate.der().to_vec();
    let script = move |asked: &Asked| {
        if asked.certificate != expired {
            return None;
        }
        // They are replaced in the moment in which the old one is refused.
        fs::write(path.join("client.crt"), &pair.0).unwrap();
        fs::write(path.join("client.key"), &pair.1).unwrap();
        Some(Answer::status(401, "Unauthorized"))
    };
    let mut scene = files.scene(&tls, script).await;
    let start = tokio::time::Instant::now();
    scene.synced(Kind::Slices).await;
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    let refused = scene
        .status
        .errors(Kind::Services, FailureReason::Unauthorized);
    // What is asked again within a second is refused again.
    assert!(refused <= 6, "{refused}");
}
