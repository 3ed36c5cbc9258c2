//! Gathers `/api/status` from the parts that know.

use std::time::Duration;

use crate::admin::Admin;
use crate::api;
use crate::procfs;

impl Admin {
    /// How the server is now.
    pub(crate) async fn status(&self) -> api::Status {
        let stack = &self.stack;
        let strands = stack.strands.status();
        let positions = strands.positions;
        let uptime: Duration = stack.host.clock.monotonic().since(self.started);
        api::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX),
            data: self.data.to_string_lossy().into_owned(),
            doors: self.doors.clone(),
            journal: api::Journal {
                bytes: strands.journal_bytes,
                segments: strands.journal_segments,
                start: positions.start.get(),
                durable: positions.durable.get(),
                written: positions.written.get(),
                appended: positions.appended.get(),
                unpacked_bytes: strands.unpacked_bytes,
                failed_syncs: strands.failed_syncs,
            },
            blocks: api::Blocks {
                count: strands.blocks,
                bytes: strands.block_bytes,
                pack_error: strands.pack_error.clone(),
            },
            meta: api::Meta { applied: strands.view_applied.get() },
            topics: self.topics().await,
            volumes: api::Volumes { count: self.volume_count() },
            memory: api::Memory { anonymous_bytes: procfs::anonymous_bytes(&stack.host) },
            recovery: self.recovery(&strands.recovery),
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

    fn recovery(&self, found: &strands::Recovery) -> api::Recovery {
        api::Recovery {
            clean: found.clean,
            commits: found.commits,
            bytes: found.bytes,
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
