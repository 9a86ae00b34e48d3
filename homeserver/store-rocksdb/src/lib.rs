//! weft-store-rocksdb
