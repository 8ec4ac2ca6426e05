//! Registration in the form of the design documents.

use std::sync::Arc;

use sinew_plane::{EndpointName, InstanceId, NameError};

use crate::{EndpointConfig, Handler, Ingress, ServedEndpoint};

/// Receives the state of served endpoints.
pub trait SystemHealth: Send + Sync {
    /// Called when the instance begins or ceases to take requests. The call comes from the thread
    /// that registers, drains or drops the instance, perhaps twice with the same value. It must not
    /// block.
    fn set_ready(&self, endpoint: &EndpointName, instance: InstanceId, ready: bool);
}

impl Ingress {
    /// Serves an instance of `namespace/component_name/endpoint_name`, which requests may also
    /// call by `subject`, and reports its state to `system_health`.
    ///
    /// Equivalent to [`serve`](Self::serve) with the limits of [`EndpointConfig::default`], for
    /// programs that use the interface of the design documents.
    ///
    /// # Errors
    /// A part of the name is not valid. The endpoint is then not served.
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
