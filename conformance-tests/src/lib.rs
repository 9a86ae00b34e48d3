//! weft-conformance-tests
