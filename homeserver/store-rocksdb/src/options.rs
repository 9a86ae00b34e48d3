//! How RocksDB is set up: bounded memory and files, every commit durable, recovery to the last whole commit.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

/// What a deployment may tune. The defaults suit a server of a few hundred people on a small machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksOptions {
    /// Memory for blocks that were read, with their indexes and filters, in bytes.
    pub block_cache_bytes: usize,
    /// Memory for what was committed and isn't in a table file yet, in bytes (twice as much at most).
    pub write_buffer_bytes: usize,
    /// Table files that are held open.
    pub open_files: i32,
    /// Threads that compact and flush.
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

/// Size of the log of what is to be recovered at which RocksDB writes tables: bounds the time that opening takes.
const MAX_WAL_BYTES: u64 = 256 * 1024 * 1024;
/// Its own log files (not data): how many and how large.
const LOG_FILES: usize = 4;
const LOG_FILE_BYTES: usize = 4 * 1024 * 1024;
/// 10 bits a key make 1 % of the lookups of absent keys read a block in vain.
const BLOOM_BITS: f64 = 10.0;
const BLOCK_BYTES: usize = 16 * 1024;

impl RocksOptions {
    /// What holds for the whole database.
    pub(crate) fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(self.open_files);
        options.set_max_background_jobs(self.background_jobs);
        options.set_db_write_buffer_size(self.write_buffer_bytes.saturating_mul(2));
        options.set_max_total_wal_size(MAX_WAL_BYTES);
        // Everything up to the first damaged record, and nothing behind it, so that what is left is a state that once
        // was. It is not left to RocksDB to judge whether that loses acknowledged commits: `logs` does before.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // A whole log file that went missing is damage, not an older state.
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_paranoid_checks(true);
        // `framing` takes the records of a log that is used again for damage.
        options.set_recycle_log_file_num(0);
        options.set_bytes_per_sync(1024 * 1024);
        options.set_log_level(LogLevel::Info);
        options.set_keep_log_file_num(LOG_FILES);
        options.set_max_log_file_size(LOG_FILE_BYTES);
        options
    }

    /// What all column families share.
    pub(crate) fn cache(&self) -> Cache {
        Cache::new_lru_cache(self.block_cache_bytes)
    }

    /// What holds for a column family.
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
