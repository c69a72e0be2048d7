//! The services that a node can serve by way of rcl.
//!
//! Contract: called at start-up; what it returns is called by the I/O thread. r2r knows a service by the type that it
//! made of it when it was built, we by its name: a request comes as r2r's type and goes on as CDR, an answer comes as
//! CDR and goes out as r2r's type.

use futures::{FutureExt, StreamExt};
use r2r::{Node, QosProfile, WrappedServiceTypeSupport, WrappedTypesupport};

use super::Task;

/// Sends a response, given as CDR.
pub(super) type Answer = Box<dyn FnOnce(&[u8]) -> r2r::Result<()> + Send>;

/// What happens on a request, given as CDR.
pub(super) type OnRequest = Box<dyn FnMut(&[u8], Answer) + Send>;

/// Makes [`serve`], which knows these types by their names.
macro_rules! services {
    ($($(#[$only:meta])? $package:ident / $service:ident),* $(,)?) => {
        /// Serves `type_name` as `name`.
        pub(super) fn serve(
            node: &mut Node,
            type_name: &str,
            name: &str,
            on_request: OnRequest,
        ) -> r2r::Result<Task> {
            match type_name {
                $(
                    $(#[$only])?
                    concat!(stringify!($package), "/srv/", stringify!($service)) => {
                        serve_typed::<r2r::$package::srv::$service::Service>(node, name, on_request)
                    }
                )*
                _ => Err(r2r::Error::InvalidMessageType { msgtype: type_name.to_string() }),
            }
        }
    };
}

services! {
    rcl_interfaces / DescribeParameters,
    rcl_interfaces / GetParameterTypes,
    rcl_interfaces / GetParameters,
    rcl_interfaces / ListParameters,
    rcl_interfaces / SetParameters,
    rcl_interfaces / SetParametersAtomically,
    lifecycle_msgs / ChangeState,
    lifecycle_msgs / GetAvailableStates,
    lifecycle_msgs / GetAvailableTransitions,
    lifecycle_msgs / GetState,
    // Not among the types that r2r brings along for documentation.
    #[cfg(not(feature = "rcl-doc"))]
    std_srvs / SetBool,
    #[cfg(not(feature = "rcl-doc"))]
    std_srvs / Trigger,
}

fn serve_typed<T>(node: &mut Node, name: &str, mut on_request: OnRequest) -> r2r::Result<Task>
where
    T: WrappedServiceTypeSupport + 'static,
{
    let mut requests = node.create_service::<T>(name, QosProfile::services_default())?;
    let name = name.to_string();
    Ok(Box::new(move || {
        while let Some(request) = requests.next().now_or_never().flatten() {
            match request.message.to_serialized_bytes() {
                Ok(bytes) => {
                    let answer = |bytes: &[u8]| request.respond(T::Response::from_serialized_bytes(bytes)?);
                    on_request(&bytes, Box::new(answer));
                }
                Err(error) => tracing::debug!(service = %name, %error, "request dropped"),
            }
        }
    }))
}
