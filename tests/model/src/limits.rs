//! The product's limits, as small as a model needs them.

/// As the product's. A second try can see what the first could not; a third sees nothing that is new.
pub const READ_TRIES: usize = 2;
