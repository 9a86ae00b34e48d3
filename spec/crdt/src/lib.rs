//! weft-crdt
