//! CDR, the serialization of messages on the wire and in bags (OMG DDSI-RTPS, plain CDR of XTypes 1.2).
//!
//! Contract: pure functions, no I/O. Decoding allocates no more than the bytes that are there, whatever lengths they
//! claim, and nothing at all for the `View` types of [`crate::msg`].

use byteorder::{BigEndian, LittleEndian};
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
    let Some((&[kind_high, kind_low, _, _], body)) = bytes.split_first_chunk() else {
        return Err(CdrError::TooShort(bytes.len()));
    };
    let (message, _) = match u16::from_be_bytes([kind_high, kind_low]) {
        0 => cdr_encoding::from_bytes::<T, BigEndian>(body)?,
        1 => cdr_encoding::from_bytes::<T, LittleEndian>(body)?,
        other => return Err(CdrError::Encapsulation(other)),
    };
    Ok(message)
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
