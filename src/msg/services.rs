//! Services: how they are named, and those of std_srvs.
//!
//! Contract: types only, as in [`crate::msg`].

use serde::{Deserialize, Serialize};

/// Makes one type for every service, which stands for its name, its request and its response.
macro_rules! services {
    ($($service:ident = $name:literal, $request:ty => $response:ty;)*) => {
        $(
            #[doc = concat!("The service ", $name, ".")]
            #[derive(Clone, Copy, Debug)]
            pub struct $service;

            impl $crate::msg::Service for $service {
                const TYPE: &'static str = $name;
                type Request = $request;
                type Response = $response;
            }
        )*
    };
}
pub(crate) use services;

services! {
    Trigger = "std_srvs/srv/Trigger", Empty => Done;
    SetBool = "std_srvs/srv/SetBool", SetBoolRequest => Done;
}

/// A request without fields. ROS puts one byte there, because a structure in C must have a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {
    /// That byte; its value means nothing.
    pub structure_needs_at_least_one_member: u8,
}

/// std_srvs/SetBool's request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetBoolRequest {
    /// On or off.
    pub data: bool,
}

/// The response of std_srvs/Trigger and of std_srvs/SetBool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Whether it was done.
    pub success: bool,
    /// What was done, or why not.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bag::cdr::{decode, encode};

    #[test]
    fn an_empty_request_is_one_byte_with_or_without_padding_behind() {
        assert_eq!(encode(&Empty::default()).unwrap(), [0, 1, 0, 0, 0]);
        for wire in [&[0, 1, 0, 0, 0][..], &[0, 1, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(decode::<Empty>(wire).unwrap(), Empty::default());
        }
    }

    #[test]
    fn a_response_comes_back() {
        let done = Done { success: true, message: "saved".into() };
        let wire = encode(&done).unwrap();
        assert_eq!(wire, [&[0, 1, 0, 0, 1, 0, 0, 0, 6, 0, 0, 0][..], b"saved\0"].concat());
        assert_eq!(decode::<Done>(&wire).unwrap(), done);
        let on = SetBoolRequest { data: true };
        assert_eq!(decode::<SetBoolRequest>(&encode(&on).unwrap()).unwrap(), on);
    }
}
