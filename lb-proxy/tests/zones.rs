// SPDX-License-Identifier: MIT OR Apache-2.0
//! A zone that loses its own endpoints: what its host does with clients, by the policy of the service.

mod site;

use discovery_core::model::ZonePolicy;
use lb_proxy::Config;
use site::{Endpoint, Site, connect_from, greeted, greeting, source, within};
use std::{collections::BTreeSet, io, net::SocketAddr};

/// A site of two endpoints, and one of another zone.
struct TwoZones {
    site: Site,
    front: SocketAddr,
    own: Vec<Endpoint>,
    _foreign: Endpoint,
}

impl TwoZones {
    async fn new(policy: ZonePolicy) -> Self {
        let mut site = Site::start(Config::default().source_rate(1_000_000, 1_000_000));
        let front = site::free_port();
        site.service_of("web", front.port(), |service| {
            service.zone_policy = Some(policy);
        });
        let own = Endpoint::echoes(2).await;
        for endpoint in &own {
            site.endpoint("web", endpoint);
        }
        let foreign = Endpoint::echo("foreign").await;
        site.in_zone("web", &foreign, "edge-z", "mall-2");
        site.publish();
        assert_eq!(site.status.serving().await, Some(front));
        Self {
            site,
            front,
            own,
            _foreign: foreign,
        }
    }

    /// Says of all own endpoints whether they are ready.
    fn own_ready(&mut self, ready: bool) {
        for endpoint in &self.own {
            self.site
                .listed("web", &endpoint.name, endpoint.address, ready);
        }
        self.site.publish();
    }

    /// Who greets 100 clients, those that are not served left out.
    async fn greeters(&self) -> BTreeSet<String> {
        let mut greeters = BTreeSet::new();
        for last in 2..102 {
            let greeted: io::Result<String> = async {
                let mut stream = connect_from(source(last), self.front).await?;
                greeting(&mut stream).await
            }
            .await;
            greeters.extend(greeted);
        }
        greeters
    }

    fn own_names(&self) -> BTreeSet<String> {
        self.own.iter().map(|own| own.name.clone()).collect()
    }
}

#[tokio::test]
async fn f53_under_strict_a_zone_without_endpoints_refuses_and_leaks_to_no_other() {
    let mut zones = TwoZones::new(ZonePolicy::Strict).await;
    assert_eq!(zones.greeters().await, zones.own_names());
    zones.own_ready(false);
    assert_eq!(zones.greeters().await, BTreeSet::new());
    zones.own_ready(true);
    let back = within(async {
        loop {
            if let Ok(greeted) = greeted(zones.front).await {
                break greeted;
            }
        }
    })
    .await;
    assert!(zones.own_names().contains(&back));
}

#[tokio::test]
async fn f53_under_prefer_a_zone_without_endpoints_spills_and_returns_at_once() {
    let mut zones = TwoZones::new(ZonePolicy::Prefer).await;
    assert_eq!(zones.greeters().await, zones.own_names());
    zones.own_ready(false);
    assert_eq!(zones.greeters().await, ["foreign".to_owned()].into());
    zones.own_ready(true);
    assert_eq!(zones.greeters().await, zones.own_names());
}
