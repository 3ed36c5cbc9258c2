//! K1: how fast records of 1 KiB can be produced over the wire, and how long one record takes.
//!
//! - **K1**, **K1-written**: one connection, batches of 100 records, 5 requests in flight (what Kafka's Java
//!   client does at most), `acks=all`, 256 MiB in all: a burst within the journal's limit. The topic is
//!   `synced` (an answer means the record survives the power), or `written` (it survives the process). `MB/s`
//!   counts the values of records; more is better. Limit: the same bytes to a server that answers and does
//!   nothing else, over loopback TCP.
//! - **K1-latency**, **K1-latency-written**: one record per request, one request in flight; the median in `us`,
//!   less is better. Limit: a ping-pong of the same bytes with a server that waits with epoll; for the `synced`
//!   topic that server also writes the request to a recycled file and syncs it before it answers.
//!
//! Each measurement has a server of its own, started on an empty folder before the time begins and stopped
//! after it, so that packing what came before takes no processor from what is measured.

use anyhow::Context as _;
use tempfile::TempDir;

use crate::client::{Client, RECORD_BYTES, batch, check_produced, produce};
use crate::limits::disk::RecycledFile;
use crate::limits::tcp::NullServer;
use crate::measure::{Context, Pair, median, megabytes_per_second, timed};
use crate::product::Product;
use crate::rows::{MEGABYTES_PER_SECOND, MICROS, Row, Variant};

/// The rows of this file.
pub(crate) const ROWS: [Row; 4] = [
    Row {
        id: "K1",
        variant: Variant::Honest,
        unit: MEGABYTES_PER_SECOND,
        what: "produce 1 KiB records to a synced topic, 100 per batch, 5 in flight",
        limit: "loopback TCP",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Throughput::prepare(context, "synced")?)),
    },
    Row {
        id: "K1-written",
        variant: Variant::Honest,
        unit: MEGABYTES_PER_SECOND,
        what: "produce 1 KiB records to a written topic, 100 per batch, 5 in flight",
        limit: "loopback TCP",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Throughput::prepare(context, "written")?)),
    },
    Row {
        id: "K1-latency",
        variant: Variant::Honest,
        unit: MICROS,
        what: "p50 of producing one 1 KiB record to a synced topic",
        limit: "epoll ping-pong with pwrite + fdatasync",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Latency::prepare(context, "synced", 3_000)?)),
    },
    Row {
        id: "K1-latency-written",
        variant: Variant::Honest,
        unit: MICROS,
        what: "p50 of producing one 1 KiB record to a written topic",
        limit: "epoll ping-pong",
        original: "",
        pairs: 5,
        prepare: |context| Ok(Box::new(Latency::prepare(context, "written", 20_000)?)),
    },
];

const TOPIC: &str = "bench";
/// Records per batch where throughput is measured.
pub(crate) const BATCH_RECORDS: usize = 100;
/// Batches of one measurement: 256 MiB of records.
pub(crate) const BATCHES: usize = (256 << 20) / (BATCH_RECORDS * RECORD_BYTES);
/// Requests under way at a time.
pub(crate) const IN_FLIGHT: usize = 5;

/// What both kinds of row share: the topic, the request, and an answer as the product gives it.
struct Request<'a> {
    context: Context,
    durability: &'a str,
    frame: Vec<u8>,
    answer: Vec<u8>,
}

impl<'a> Request<'a> {
    fn prepare(context: &Context, durability: &'a str, records: usize) -> anyhow::Result<Self> {
        let context = context.clone();
        let frame = produce(TOPIC, &batch(records)?)?;
        let mut request = Self { context, durability, frame, answer: Vec::new() };
        let (_product, mut client) = request.product()?;
        request.answer = client.ask(&request.frame)?;
        Ok(request)
    }

    /// A server that has taken a few requests already.
    fn product(&mut self) -> anyhow::Result<(Product, Client)> {
        let product = Product::start(&self.context)?;
        product.create_topic(TOPIC, self.durability)?;
        let mut client = Client::connect(product.kafka())?;
        client.repeat(&mut self.frame, 20, 1, check_produced).context("warm up")?;
        Ok((product, client))
    }
}

struct Throughput<'a> {
    request: Request<'a>,
    batches: usize,
}

impl<'a> Throughput<'a> {
    fn prepare(context: &Context, durability: &'a str) -> anyhow::Result<Self> {
        let request = Request::prepare(context, durability, BATCH_RECORDS)?;
        Ok(Self { request, batches: context.amount(BATCHES) })
    }

    fn measure(&mut self, client: &mut Client) -> anyhow::Result<f64> {
        let (frame, batches) = (&mut self.request.frame, self.batches);
        let time = timed(|| client.repeat(frame, batches, IN_FLIGHT, check_produced).map(drop))?;
        Ok(megabytes_per_second(time, batches * BATCH_RECORDS * RECORD_BYTES))
    }
}

impl Pair for Throughput<'_> {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (_product, mut client) = self.request.product()?;
        self.measure(&mut client)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let server = NullServer::start(self.request.answer.clone(), None)?;
        let mut client = Client::connect(server.addr())?;
        let result = self.measure(&mut client)?;
        drop(client);
        server.join()?;
        Ok(result)
    }
}

struct Latency<'a> {
    request: Request<'a>,
    count: usize,
    dir: TempDir,
}

impl<'a> Latency<'a> {
    fn prepare(context: &Context, durability: &'a str, count: usize) -> anyhow::Result<Self> {
        let request = Request::prepare(context, durability, 1)?;
        Ok(Self { request, count: context.amount(count), dir: context.temp_dir()? })
    }

    fn measure(&mut self, client: &mut Client) -> anyhow::Result<f64> {
        let took = client.repeat(&mut self.request.frame, self.count, 1, check_produced)?;
        Ok(median(took.into_iter().map(|time| time.as_secs_f64() * 1e6).collect()))
    }
}

impl Pair for Latency<'_> {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let (_product, mut client) = self.request.product()?;
        self.measure(&mut client)
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let path = self.dir.path().join("raw");
        let file = match self.request.durability {
            "synced" => Some(RecycledFile::create(&path, self.count * self.request.frame.len())?),
            _ => None,
        };
        let server = NullServer::start(self.request.answer.clone(), file)?;
        let mut client = Client::connect(server.addr())?;
        let result = self.measure(&mut client)?;
        drop(client);
        server.join()?;
        if path.exists() {
            std::fs::remove_file(&path)?;
        }
        Ok(result)
    }
}
