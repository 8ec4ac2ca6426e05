//! What the tasks of a server have in common.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use metrics::Counter;
use parking_lot::Mutex;
use sinew_plane::{
    Acceptance, BudgetUse, Code, Error, RequestHandler, ResponsePlaneClient, Unanswered,
    budget::{Account, Hold, Work},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    SplitServerConfig,
    bidirectional::Registered,
    declared::Declared,
    delivered::Delivered,
    received_request::ReceivedRequest,
    shares::{Share, Shares},
};

/// Accepted requests whose callers could not be dialled back. Counter.
pub const DIAL_BACK_FAILURES: &str = "dial_back_failures_total";

pub(super) struct Shared {
    pub(super) config: SplitServerConfig,
    pub(super) responses: Arc<dyn ResponsePlaneClient>,
    pub(super) handler: Arc<dyn RequestHandler>,
    pub(super) declared: Arc<Declared>,
    pub(super) bidirectional: Arc<Registered>,
    pub(super) runtime: Handle,
    /// One for each request that waits for its caller, or response that waits for room.
    pub(super) tasks: TaskTracker,
    /// The task that tells callers that their requests are admitted, while there is one. Apart
    /// from the others, because it is no request that a shutdown would have to cut.
    pub(super) acceptances: TaskTracker,
    pub(super) cut: CancellationToken,
    pub(super) failures: Counter,
    is_draining: AtomicBool,
    /// A caller that is not Sinew's was served.
    pub(super) has_foreign_callers: AtomicBool,
    /// Requests whose callers may not have heard that they are admitted.
    pub(super) unanswered: Mutex<Unanswered<Acceptance>>,
    pub(super) delivered: Mutex<Delivered>,
    places: Arc<Semaphore>,
    /// In steps of [`STEP_BYTES`].
    room: Arc<Semaphore>,
    shares: Arc<Shares>,
    /// Where requests that wait are charged.
    account: Option<Arc<Account>>,
}

/// A step in which room is counted: small enough to waste little, large enough that a semaphore
/// can count all room there is.
const STEP_BYTES: usize = 1024;

/// What a request that waits is charged with: its task, which holds a dial, is 4 KiB, and a short
/// payload that its plane has not charged is as much.
const WAITING_COST_BYTES: usize = 8 << 10;

/// The place of a request that was accepted, until its caller has been dialled.
pub(super) struct Permit {
    _place: OwnedSemaphorePermit,
    room: OwnedSemaphorePermit,
    _share: Option<Share>,
    _hold: Option<Hold>,
}

impl Shared {
    pub(super) fn new(
        config: SplitServerConfig,
        responses: Arc<dyn ResponsePlaneClient>,
        handler: Arc<dyn RequestHandler>,
    ) -> Self {
        let semaphore =
            |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        metrics::describe_counter!(
            DIAL_BACK_FAILURES,
            "Callers that could not be dialled back with their response"
        );
        Self {
            places: semaphore(config.max_pending),
            room: semaphore(config.max_pending_bytes.div_ceil(STEP_BYTES)),
            shares: Arc::new(Shares::new(config.max_pending, config.max_pending_bytes)),
            account: config.budget.as_ref().map(|budget| budget.open()),
            config,
            responses,
            handler,
            declared: Arc::default(),
            bidirectional: Arc::default(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            acceptances: TaskTracker::new(),
            cut: CancellationToken::new(),
            failures: metrics::counter!(DIAL_BACK_FAILURES),
            is_draining: AtomicBool::new(false),
            has_foreign_callers: AtomicBool::new(false),
            unanswered: Mutex::default(),
            delivered: Mutex::default(),
        }
    }

    pub(super) fn drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    pub(super) fn check_draining(&self) -> Result<(), Error> {
        if self.is_draining.load(Ordering::Acquire) {
            return Err(Error::draining("this process takes no new requests"));
        }
        Ok(())
    }

    /// A place for a request with a payload of that many bytes.
    pub(super) fn permit(&self, bytes: usize) -> Result<Permit, Error> {
        let full = |_| at_capacity();
        let steps = u32::try_from(bytes.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX);
        Ok(Permit {
            _place: Arc::clone(&self.places).try_acquire_owned().map_err(full)?,
            room: Arc::clone(&self.room).try_acquire_many_owned(steps).map_err(full)?,
            _share: None,
            _hold: self.account.as_ref().map(waiting).transpose()?,
        })
    }

    /// The place, within the share of the request's caller.
    pub(super) fn within_share(
        &self,
        permit: Permit,
        request: &ReceivedRequest,
    ) -> Result<Permit, Error> {
        let address = self.responses.address(&request.connection_info);
        let bytes = permit.room.num_permits() * STEP_BYTES;
        let share = self.shares.take(request.peer.origin, address.as_deref(), bytes);
        Ok(Permit { _share: Some(share.ok_or_else(at_capacity)?), ..permit })
    }

    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn_on(work, &self.runtime);
    }
}

/// The charge of one request that waits.
fn waiting(account: &Arc<Account>) -> Result<Hold, Error> {
    let hold = account.hold(BudgetUse::Waiting, WAITING_COST_BYTES, Work::New);
    hold.ok_or_else(|| account.budget().refusal())
}

/// The refusal in the words that every caller knows.
fn at_capacity() -> Error {
    Error::new(Code::Overloaded, "worker at capacity")
}
