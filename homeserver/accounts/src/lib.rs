//! weft-accounts
