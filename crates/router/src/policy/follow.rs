//! The task that follows the policy of one endpoint.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use sinew_discovery::{PlanePolicy, PolicyView};
use sinew_plane::{EndpointName, clock};
use sinew_telemetry::PolicyMetrics;
use tokio::time::sleep;

use super::{
    CheckedPolicyConfig, Current,
    health::{Health, Margins, Worse},
    running::Running,
    share::{NewStreams, Ramp},
};

/// The state that the task shares with the requests.
pub(super) struct Following {
    pub(super) endpoint: EndpointName,
    config: CheckedPolicyConfig,
    pub(super) running: Arc<Running>,
    /// What new streams follow.
    current: ArcSwapOption<Current>,
    /// False if there is nothing to follow, which is usual and then costs a call no more.
    is_followed: AtomicBool,
    pub(super) metrics: PolicyMetrics,
}

/// Why a policy is no longer followed.
enum End {
    /// There is another one, or none.
    Changed,
    Expired,
    RolledBack,
}

impl Following {
    pub(super) fn new(endpoint: EndpointName, config: CheckedPolicyConfig) -> Self {
        Self {
            metrics: PolicyMetrics::new(&endpoint),
            endpoint,
            config,
            running: Arc::default(),
            current: ArcSwapOption::empty(),
            is_followed: AtomicBool::new(false),
        }
    }

    /// What a new stream follows.
    pub(super) fn current(&self) -> Option<Arc<Current>> {
        // Relaxed: who has no part in the change of a policy may see it a moment later.
        self.is_followed.load(Ordering::Relaxed).then(|| self.current.load_full()).flatten()
    }

    fn set(&self, current: Option<Arc<Current>>) {
        let is_followed = current.is_some();
        self.current.store(current);
        self.is_followed.store(is_followed, Ordering::Relaxed);
    }

    /// Follows one policy until it ends.
    async fn run(&self, policy: &Arc<PlanePolicy>, view: &mut PolicyView) -> End {
        let PlanePolicy { transport, percent, version, author, roll_back, .. } = &**policy;
        tracing::info!(
            endpoint = %self.endpoint, version, author, %transport, percent,
            "a plane policy is followed"
        );
        let margins = Margins {
            error_points: roll_back.error_percent.into(),
            gap_percent: roll_back.gap_percent.into(),
        };
        let mut health = Health::new(margins, &self.config);
        let mut ramp = Ramp::new(*percent);
        self.running.begin(transport);
        let new = NewStreams::new(*percent);
        self.set(Some(Arc::new(Current { policy: Arc::clone(policy), new })));
        self.metrics.share(ramp.share());
        let mut last = clock::now();
        // The first interval shows how the streams fare where they are.
        self.running.look(transport, 0.0);
        loop {
            let Some(left) = policy.remaining() else { return End::Expired };
            tokio::select! {
                biased;
                () = changed(view) => return End::Changed,
                () = sleep(left.min(self.config.interval)) => {}
            }
            let seconds = clock::since(last);
            if seconds < self.config.interval {
                continue;
            }
            last = clock::now();
            let (interval, ends) = self.running.look(transport, seconds.as_secs_f64());
            health.add(interval);
            if let Some(worse) = health.worse(&ends) {
                self.roll_back(policy, &worse).await;
                return End::RolledBack;
            }
            ramp.begin_next();
            self.metrics.share(ramp.share());
            self.move_share(policy, &ramp).await;
        }
    }

    async fn roll_back(&self, policy: &PlanePolicy, worse: &Worse) {
        let PlanePolicy { transport, version, author, .. } = policy;
        self.set(None);
        let moved = self.move_back(policy).await;
        self.metrics.rolled_back(worse.reason());
        tracing::warn!(
            endpoint = %self.endpoint, version, author, %transport, reason = worse.reason(), moved,
            "the plane policy is rolled back: {worse}"
        );
    }

    fn finish(&self) {
        self.set(None);
        self.running.finish();
        self.metrics.share(0.0);
    }
}

/// Follows the policies of the endpoint, one after another.
pub(super) async fn follow(following: Arc<Following>, mut view: PolicyView) {
    // One that was rolled back is not tried again.
    let mut rolled_back: Option<Arc<PlanePolicy>> = None;
    loop {
        let policy = view.borrow_and_update().clone();
        let policy =
            policy.filter(|it| it.remaining().is_some() && rolled_back.as_ref() != Some(it));
        let Some(policy) = policy else {
            following.finish();
            changed(&mut view).await;
            continue;
        };
        match following.run(&policy, &mut view).await {
            End::Changed => {}
            End::Expired => {
                let endpoint = &following.endpoint;
                tracing::info!(%endpoint, version = policy.version, "the plane policy has expired");
            }
            End::RolledBack => rolled_back = Some(policy),
        }
    }
}

/// Waits for another policy; a view whose backend has shut down keeps its content.
async fn changed(view: &mut PolicyView) {
    if view.changed().await.is_err() {
        pending::<()>().await;
    }
}
