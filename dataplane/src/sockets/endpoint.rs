//! Where something listens.

pub use tidegate_config::Endpoint;
