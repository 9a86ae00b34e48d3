//! weft-dag
