//! Registration in the form that the design documents give it.

use std::sync::Arc;

use sinew_plane::{EndpointName, InstanceId, NameError};

use crate::{EndpointConfig, Handler, Ingress, ServedEndpoint};

/// Where the state of served endpoints is reported.
pub trait SystemHealth: Send + Sync {
    /// The instance takes requests from now on, or no longer does. Called from wherever it is
    /// registered, drained or dropped, perhaps twice with the same value; must not block.
    fn set_ready(&self, endpoint: &EndpointName, instance: InstanceId, ready: bool);
}

impl Ingress {
    /// Serves an instance of `namespace/component_name/endpoint_name`, which requests may also
    /// call by `subject`, and reports its state to `system_health`.
    ///
    /// The same as [`serve`](Self::serve) with the limits of [`EndpointConfig::default`], for
    /// programs written against this form.
    ///
    /// # Errors
    /// A part of the name is not valid. Nothing is served then.
    #[expect(clippy::too_many_arguments, reason = "the form is given; `serve` is the short one")]
    pub async fn register_endpoint(
        &self,
        subject: &str,
        service_handler: impl Into<Handler>,
        instance_id: i64,
        namespace: &str,
        component_name: &str,
        endpoint_name: &str,
        system_health: Option<Arc<dyn SystemHealth>>,
    ) -> Result<ServedEndpoint, NameError> {
        let name = EndpointName::new(namespace, component_name, endpoint_name)?;
        Ok(self.announce(
            name,
            instance_id.into(),
            Some(subject.into()),
            EndpointConfig::default(),
            service_handler.into(),
            system_health,
        ))
    }
}
