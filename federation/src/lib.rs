//! weft-federation
