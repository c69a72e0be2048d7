//! Latency on record.
