//! Gathers `/api/status` from the parts that know.
//!
//! Not here: what the data path counts (`strands::Status`), and what a bucket's transfers do (`block_store::TieredStats`).

use std::time::Duration;

use block_store::{Tiered, TieredStats};

use crate::admin::Admin;
use crate::api;
use crate::procfs;

impl Admin {
    /// How the server is now.
    pub(crate) async fn status(&self) -> api::Status {
        let stack = &self.stack;
        let strands = stack.strands.status();
        let uptime: Duration = stack.host.clock.monotonic().since(self.started);
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: millis(uptime),
            data: self.data.to_string_lossy().into_owned(),
            doors: self.doors.clone(),
            journal: journal(&strands),
            blocks: api::Blocks {
                count: strands.blocks,
                bytes: strands.block_bytes,
                pack_error: strands.pack_error.clone(),
            },
            store: self.store(&strands),
            cache: strands.cache.map(cache),
            collection: collection(stack.strands.collection()),
            meta: api::Meta { applied: strands.view_applied.get() },
            topics: self.topics().await,
            volumes: api::Volumes { count: self.volume_count() },
            memory: api::Memory { anonymous_bytes: procfs::anonymous_bytes(&stack.host) },
            recovery: self.recovery(&strands.recovery, strands.opening),
        }
    }

    fn store(&self, strands: &strands::Status) -> api::Store {
        let stack = &self.stack;
        let tiered = stack.stores.tiered.as_deref();
        let now_ms = stack.host.clock.wall().millis();
        api::Store {
            url: stack.store.to_string(),
            place: tiered.map(|tiered| tiered.place().to_owned()),
            restorable: strands
                .restorable
                .map(|(commit, time_ms)| api::Restorable { commit: commit.get(), time_ms }),
            restorable_error: strands.root_error.clone(),
            transfers: tiered.map(Tiered::stats).map(|stats| transfers(&stats, now_ms)),
        }
    }

    fn volume_count(&self) -> u64 {
        match self.stack.volumes.list() {
            Ok(volumes) => volumes.len() as u64,
            Err(error) => {
                tracing::error!(%error, "the volumes cannot be listed");
                0
            }
        }
    }

    async fn topics(&self) -> api::Topics {
        let status = self.stack.broker.status().await;
        let partitions = || status.topics.iter().flat_map(|topic| &topic.partitions);
        let records =
            |partition: &broker::PartitionStatus| partition.high_watermark - partition.log_start;
        api::Topics {
            count: status.topics.len() as u64,
            partitions: partitions().count() as u64,
            records: partitions().flatten().map(records).sum(),
        }
    }

    fn recovery(&self, found: &strands::Recovery, opening: strands::Opening) -> api::Recovery {
        api::Recovery {
            opening: opening.epoch,
            clean: found.clean,
            commits: found.scanned,
            bytes: found.scanned_bytes,
            replayed: found.replayed,
            torn: found.torn.as_ref().map(|torn| api::Torn {
                file: torn.path.to_string_lossy().into_owned(),
                at: torn.at,
                bytes: torn.bytes,
                kept_as: torn.kept_as.as_ref().map(|path| path.to_string_lossy().into_owned()),
            }),
            ready_ms: self.ready_ms,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn journal(strands: &strands::Status) -> api::Journal {
    let positions = strands.positions;
    api::Journal {
        bytes: strands.journal_bytes,
        segments: strands.journal_segments,
        start: positions.start.get(),
        durable: positions.durable.get(),
        written: positions.written.get(),
        appended: positions.appended.get(),
        unpacked_bytes: strands.unpacked_bytes,
        unpacked_bytes_max: strands.unpacked_bytes_max,
        unpacked_pieces: strands.unpacked_pieces as u64,
        unpacked_pieces_max: strands.unpacked_pieces_max as u64,
        unpacked_age_ms: strands.unpacked_age.map(millis),
        failed_syncs: strands.failed_syncs,
    }
}

fn cache(status: strands::CacheStatus) -> api::Cache {
    api::Cache {
        bytes: status.allocated_bytes,
        bytes_max: status.budget_bytes,
        hit_bytes: status.hit_bytes,
        miss_bytes: status.miss_bytes,
        ahead_bytes: status.ahead_bytes,
        evicted_pieces: status.evicted_pieces,
    }
}

/// `now_ms` is in milliseconds since 1970.
fn transfers(stats: &TieredStats, now_ms: i64) -> api::Transfers {
    let away = |why: &Option<String>, since: Duration| {
        why.clone().map(|why| api::Away { why, for_ms: millis(since) })
    };
    let age_ms = |then: i64| u64::try_from(now_ms.saturating_sub(then)).unwrap_or(0);
    api::Transfers {
        uploads_away: away(&stats.writes_away, stats.writes_away_for),
        downloads_away: away(&stats.reads_away, stats.reads_away_for),
        waiting_blocks: stats.staged_blocks,
        waiting_bytes: stats.staged_bytes,
        waiting_bytes_max: stats.staging_bytes_max,
        waiting_age_ms: stats.oldest_staged_ms.map(age_ms),
        stuck_blocks: stats.stuck_blocks,
        uploaded_blocks: stats.uploaded_blocks,
        uploaded_bytes: stats.uploaded_bytes,
        downloads: stats.downloads,
        downloaded_bytes: stats.downloaded_bytes,
        waiting_reads: stats.queued_reads,
        retries: stats.retries,
        disk_cache: api::DiskCache {
            blocks: stats.cache_blocks,
            bytes: stats.cache_bytes,
            bytes_max: stats.cache_bytes_max,
            hits: stats.cache_hits,
            misses: stats.cache_misses,
            damaged_blocks: stats.cache_damaged,
        },
    }
}

fn collection(collection: strands::Collection) -> api::Collection {
    let ended_ms = collection.last_ended_ms.unwrap_or(0);
    let last = collection.last.map(|last| match last {
        Ok(round) => api::LastRound {
            ended_ms,
            error: round.first_error,
            dry_run: round.dry_run,
            dead_blocks: round.dead_blocks,
            deleted_blocks: round.deleted_blocks,
            deleted_bytes: round.deleted_bytes,
            rewritten_bytes: round.rewritten_bytes,
        },
        Err(error) => api::LastRound {
            ended_ms,
            error: Some(error.to_string()),
            dry_run: false,
            dead_blocks: 0,
            deleted_blocks: 0,
            deleted_bytes: 0,
            rewritten_bytes: 0,
        },
    });
    api::Collection {
        rounds: collection.ended,
        deleted_blocks: collection.deleted_blocks,
        deleted_bytes: collection.deleted_bytes,
        rewritten_bytes: collection.rewritten_bytes,
        last,
    }
}
