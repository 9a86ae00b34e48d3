//! The configuration of RocksDB: bounded memory and files, every commit durable, recovery to the last complete commit.
//! Must not weaken durability.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

/// Settings for a deployment. The defaults suit a server of a few hundred users on a small machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksOptions {
    /// Memory for blocks that were read, with their indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// Memory for committed data that is not in a table file yet, in bytes (at most twice as much).
    pub write_buffer_bytes: usize,
    /// The number of table files that are kept open.
    pub open_files: i32,
    /// The number of threads that compact and flush.
    pub background_jobs: i32,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 128 * 1024 * 1024,
            write_buffer_bytes: 64 * 1024 * 1024,
            open_files: 1024,
            background_jobs: 2,
        }
    }
}

/// The size of the write-ahead log at which RocksDB writes tables: bounds the time that opening takes.
const MAX_WAL_BYTES: u64 = 256 * 1024 * 1024;
/// Number and size of RocksDB's own log files (not data).
const LOG_FILES: usize = 4;
const LOG_FILE_BYTES: usize = 4 * 1024 * 1024;
/// With 10 bits per key, 1 % of the lookups of absent keys read a block needlessly.
const BLOOM_BITS: f64 = 10.0;
const BLOCK_BYTES: usize = 16 * 1024;

impl RocksOptions {
    /// Options of the whole database.
    pub(crate) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(self.open_files);
        options.set_max_background_jobs(self.background_jobs);
        options.set_db_write_buffer_size(self.write_buffer_bytes.saturating_mul(2));
        options.set_max_total_wal_size(MAX_WAL_BYTES);
        // Recovers everything up to the first damaged record and nothing after it, so that the result is a state that
        // once existed. RocksDB does not decide whether that loses acknowledged commits: `logs` checks it first.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // A log file that is missing as a whole is damage, not an older state.
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_paranoid_checks(true);
        // `framing` would take the records of a recycled log for damage.
        options.set_recycle_log_file_num(0);
        options.set_bytes_per_sync(1024 * 1024);
        options.set_log_level(LogLevel::Info);
        options.set_keep_log_file_num(LOG_FILES);
        options.set_max_log_file_size(LOG_FILE_BYTES);
        options
    }

    /// The cache that all column families share.
    pub(crate) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.block_cache_bytes)
    }

    /// Options of a column family.
    pub(crate) fn column_family(&self, cache: &Cache) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(cache);
        blocks.set_block_size(BLOCK_BYTES);
        blocks.set_bloom_filter(BLOOM_BITS, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&blocks);
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_level_compaction_dynamic_level_bytes(true);
        options
    }
}
