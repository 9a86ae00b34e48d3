//! weft-room
