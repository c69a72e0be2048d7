//! CDR, the serialization of messages on the wire and in bags (OMG DDSI-RTPS, plain CDR of XTypes 1.2).
//!
//! Contract: pure functions, no I/O. Decoding allocates no more than the bytes that are there, whatever lengths they
//! claim, and nothing at all for the `View` types of [`crate::msg`].

use std::marker::PhantomData;

use byteorder::{BigEndian, LittleEndian};
use cdr_encoding::CdrDeserializer;
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};

/// Why bytes are not a message, or a message cannot become bytes.
#[derive(Debug, thiserror::Error)]
pub enum CdrError {
    /// There is no room for the encapsulation header.
    #[error("{0} bytes are too few for a CDR message")]
    TooShort(usize),
    /// The encapsulation is not plain CDR.
    #[error("encapsulation 0x{0:04x} is not plain CDR (0x0000 or 0x0001)")]
    Encapsulation(u16),
    /// The content is not of the type.
    #[error("{0}")]
    Content(#[from] cdr_encoding::Error),
}

/// Decodes a message from its encapsulation header and body, in either byte order.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CdrError> {
    decode_into(bytes, PhantomData)
}

/// Like [`decode`], by way of a seed: a message that is there, such as `&mut` [`JointStateView`](crate::msg::JointStateView).
pub fn decode_into<'de, S: DeserializeSeed<'de>>(bytes: &'de [u8], seed: S) -> Result<S::Value, CdrError> {
    let Some((&[kind_high, kind_low, _, _], body)) = bytes.split_first_chunk() else {
        return Err(CdrError::TooShort(bytes.len()));
    };
    Ok(match u16::from_be_bytes([kind_high, kind_low]) {
        0 => seed.deserialize(&mut CdrDeserializer::<BigEndian>::new(body))?,
        1 => seed.deserialize(&mut CdrDeserializer::<LittleEndian>::new(body))?,
        other => return Err(CdrError::Encapsulation(other)),
    })
}

/// Encodes a message, little endian, with its encapsulation header.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CdrError> {
    let mut bytes = Vec::with_capacity(512);
    encode_into(message, &mut bytes)?;
    Ok(bytes)
}

/// Like [`encode`], into a buffer that is cleared first.
pub fn encode_into<T: Serialize>(message: &T, bytes: &mut Vec<u8>) -> Result<(), CdrError> {
    bytes.clear();
    bytes.extend_from_slice(&[0, 1, 0, 0]);
    cdr_encoding::to_writer::<T, LittleEndian, _>(bytes, message)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::{Float64MultiArray, Header, JointState, JointStateView, JointTrajectory, Time};
    use proptest::prelude::*;

    fn joint_state() -> impl Strategy<Value = JointState> {
        let values =
            || proptest::collection::vec(any::<f64>().prop_filter("NaN is not equal", |v| !v.is_nan()), 0..9);
        let names = proptest::collection::vec("[a-z_0-9]{0,20}", 0..9);
        (any::<i32>(), any::<u32>(), ".{0,20}", names, values(), values(), values()).prop_map(
            |(sec, nanosec, frame_id, name, position, velocity, effort)| JointState {
                header: Header { stamp: Time { sec, nanosec }, frame_id },
                name,
                position,
                velocity,
                effort,
            },
        )
    }

    fn big_endian<T: Serialize>(message: &T) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend(cdr_encoding::to_vec::<T, BigEndian>(message).unwrap());
        bytes
    }

    #[test]
    fn an_encapsulation_that_is_not_plain_cdr_is_named() {
        let parameter_list = [0, 3, 0, 0, 1, 2, 3, 4];
        let error = decode::<JointStateView>(&parameter_list).unwrap_err();
        assert!(matches!(error, CdrError::Encapsulation(3)), "{error}");
        assert!(matches!(decode::<JointStateView>(&[0, 1]).unwrap_err(), CdrError::TooShort(2)));
    }

    #[test]
    fn a_claimed_length_is_not_allocated() {
        // A name sequence that claims 2^32 - 1 strings, and stamps before it.
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend([0; 8]);
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([0xff; 4]);
        assert!(decode::<JointState>(&bytes).is_err());
        assert!(decode::<JointStateView>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn both_byte_orders_come_back(message in joint_state()) {
            let little = encode(&message).unwrap();
            prop_assert_eq!(&decode::<JointState>(&little).unwrap(), &message);
            let big = big_endian(&message);
            prop_assert_eq!(&decode::<JointState>(&big).unwrap(), &message);
            let view: JointStateView = decode(&big).unwrap();
            prop_assert_eq!(view.position.as_slice(), message.position.as_slice());
            prop_assert_eq!(view.effort.as_slice(), message.effort.as_slice());
        }

        #[test]
        fn a_message_cut_short_is_an_error(message in joint_state(), cut in 1_usize..40) {
            let mut bytes = encode(&message).unwrap();
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert!(decode::<JointState>(&bytes).is_err());
            prop_assert!(decode::<JointStateView>(&bytes).is_err());
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), order in 0_u8..3) {
            if let Some(start) = bytes.get_mut(..2) {
                start.copy_from_slice(&[0, order]);
            }
            let _ = decode::<JointStateView>(&bytes);
            let _ = decode::<JointState>(&bytes);
            let _ = decode::<JointTrajectory>(&bytes);
            let _ = decode::<Float64MultiArray>(&bytes);
        }
    }
}
