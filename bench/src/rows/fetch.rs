//! K2: how fast records of 1 KiB can be fetched over the wire while they are hot, that is, in the journal or
//! in memory.
//!
//! One connection, one fetch after the other of at most 1 MiB (the usual size of clients), from the first
//! record to the last of 256 MiB, in the batches of 100 in which they were produced. `MB/s` counts the values
//! of records; more is better. Limit: a server that answers each request with the very bytes of one such
//! answer, over loopback TCP.

use crate::client::{Client, Fetch, RECORD_BYTES, batch, check_produced, produce};
use crate::limits::tcp::NullServer;
use crate::measure::{Context, Pair, megabytes_per_second, timed};
use crate::product::Product;
use crate::rows::produce::{BATCH_RECORDS, BATCHES, IN_FLIGHT};
use crate::rows::{MEGABYTES_PER_SECOND, Row, Variant};

/// The rows of this file.
pub(crate) const ROWS: [Row; 1] = [Row {
    id: "K2",
    variant: Variant::Honest,
    unit: MEGABYTES_PER_SECOND,
    what: "fetch 1 KiB records that are hot, 1 MiB per request",
    limit: "loopback TCP",
    original: "",
    pairs: 5,
    prepare: |context| Ok(Box::new(Hot::prepare(context)?)),
}];

const TOPIC: &str = "bench";
const FETCH_BYTES_MAX: i32 = 1 << 20;

struct Hot {
    product: Product,
    records: usize,
    fetch: Fetch,
    /// A full answer of the product, and how many records it holds.
    answer: Vec<u8>,
}

impl Hot {
    fn prepare(context: &Context) -> anyhow::Result<Self> {
        let product = Product::start(context)?;
        product.create_topic(TOPIC, "written")?;
        let batches = context.amount(BATCHES).max(20);
        let mut frame = produce(TOPIC, &batch(BATCH_RECORDS)?)?;
        Client::connect(product.kafka())?.repeat(&mut frame, batches, IN_FLIGHT, check_produced)?;
        let mut fetch = Fetch::new(TOPIC, FETCH_BYTES_MAX)?;
        let answer = Client::connect(product.kafka())?.ask(fetch.at(0))?;
        product.wait_idle()?;
        Ok(Self { product, records: batches * BATCH_RECORDS, fetch, answer })
    }
}

impl Pair for Hot {
    fn subject(&mut self) -> anyhow::Result<f64> {
        let mut client = Client::connect(self.product.kafka())?;
        let (fetch, records) = (&mut self.fetch, i64::try_from(self.records)?);
        let time = timed(|| client.fetch_all(fetch, 0, records).map(drop))?;
        Ok(megabytes_per_second(time, self.records * RECORD_BYTES))
    }

    fn limit(&mut self) -> anyhow::Result<f64> {
        let per_answer = self.answer.len() / (RECORD_BYTES * BATCH_RECORDS) * BATCH_RECORDS;
        let fetches = self.records.div_ceil(per_answer);
        let server = NullServer::start(self.answer.clone(), None)?;
        let mut client = Client::connect(server.addr())?;
        let frame = self.fetch.at(0);
        let time = timed(|| client.repeat(frame, fetches, 1, |_| Ok(())).map(drop))?;
        drop(client);
        server.join()?;
        Ok(megabytes_per_second(time, fetches * per_answer * RECORD_BYTES))
    }
}
