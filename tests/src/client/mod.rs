//! Small blocking clients.
