//! Where a dialogue takes place: two servers of each kind, and the proxy in front of the first.

use super::{Dialect, Dialogue, Peer};
use crate::config::{LabConfig, PoolText};
use crate::lab::LabOptions;
use crate::lab::addresses::Family;
use crate::lab::servers::ServerKind;
use crate::scene::Scene;
use crate::stage::{Role, Stage};

/// Who takes part.
#[derive(Clone, Debug)]
pub struct Stand {
    /// Redis: asked directly, behind the proxy, and the pool.
    redis: [Peer; 3],
    /// memcached likewise.
    memcached: [Peer; 3],
}

impl Stand {
    /// Two servers of each kind.
    pub fn options() -> LabOptions {
        LabOptions {
            memcached: 2,
            redis: 2,
            ..LabOptions::default()
        }
    }

    /// A pool of the first server of each kind.
    pub fn configure(stage: &dyn Stage) -> LabConfig {
        let mut config = LabConfig::without_pools(stage);
        for (name, kind) in [
            ("redis", ServerKind::Redis),
            ("memcached", ServerKind::Memcached),
        ] {
            let first = stage.servers(kind)[0].address(Family::V4);
            config = config.pool(PoolText::on(stage.plan(), name, kind, &[first]));
        }
        config
    }

    /// Those of `scene`.
    pub fn of(scene: &Scene) -> Self {
        let of = |kind| {
            let peer = |role, address| Peer {
                host: scene.stage().host(role),
                address,
            };
            let [behind, direct] = [0, 1].map(|index| {
                let server = &scene.servers(kind)[index];
                peer(Role::Server, server.address(Family::V4))
            });
            let pool = scene.plan().pool(kind, Family::V4);
            [direct, behind, peer(Role::Client, pool)]
        };
        Self {
            redis: of(ServerKind::Redis),
            memcached: of(ServerKind::Memcached),
        }
    }

    /// A dialogue in `dialect`.
    pub fn dialogue(&self, dialect: Dialect) -> Dialogue {
        let [direct, behind, proxy] = if dialect.is_redis() {
            self.redis.clone()
        } else {
            self.memcached.clone()
        };
        Dialogue::learn(dialect, direct, behind, proxy)
    }
}
