//! weft-fanout
