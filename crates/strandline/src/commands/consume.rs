//! `strandline consume`: a topic's records, a line per record, partitions side by side.
//!
//! Without `--follow` it ends where the partitions ended when it began. Records of one partition come in order.

use std::str::FromStr;
use std::time::Duration;

use broker::At;
use broker::batch::{Batch, BatchError, Record, batches};
use bytes::Bytes;
use host::Host;
use kafka::client::{Client, Create};
use kafka::wire::messages::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchTopic,
};
use serde_json::{Map, Value};

use crate::cli::{ConsumeArgs, Target};
use crate::commands::{block_on, kafka_door};
use crate::failure::{Failure, Outcome};
use crate::output::Out;
use crate::units::{parse_age, parse_moment};

/// How long the server may wait for a record before it answers that there is none.
const WAIT_MS: i32 = 5_000;
const FETCH_BYTES_MAX: i32 = 8 * 1024 * 1024;
const PARTITION_BYTES_MAX: i32 = 1024 * 1024;
/// What a compressed batch may grow to.
const BATCH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The oldest record.
    Beginning,
    /// Behind the newest record.
    End,
    /// This offset.
    Offset(i64),
    /// The first record that is not older than this, in milliseconds since 1970.
    Time(i64),
    /// The first record of the time since then.
    Ago(Duration),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let offset = || text.parse().ok().filter(|&offset| offset >= 0).map(Self::Offset);
        let time = || parse_moment(text).map(|moment| Self::Time(moment.millis()));
        match text {
            "beginning" => Ok(Self::Beginning),
            "end" => Ok(Self::End),
            _ => offset().or_else(time).or_else(|| parse_age(text).map(Self::Ago)).ok_or_else(|| {
                "expected beginning, end, an offset (100), a time (2026-01-31T12:00:00Z) or how long ago (1h)".to_owned()
            }),
        }
    }
}

/// Prints the records.
pub(crate) fn run(target: &Target, args: &ConsumeArgs) -> Outcome {
    block_on(async {
        let client = kafka_door::connect(target).await?;
        let mut consumer = Consumer::new(&client, args).await?;
        consumer.print_all().await?;
        consumer.out.flush()
    })
}

fn cannot(args: &ConsumeArgs, why: &dyn std::fmt::Display) -> Failure {
    Failure::because(format!("cannot consume {}", args.topic), why)
}

/// How far one partition was read.
#[derive(Debug)]
struct Place {
    partition: i32,
    next: i64,
    /// Where to stop; `None` to follow.
    end: Option<i64>,
}

impl Place {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

struct Consumer<'a> {
    client: &'a Client,
    args: &'a ConsumeArgs,
    places: Vec<Place>,
    /// How many records may still be printed.
    left: u64,
    out: Out,
}

impl<'a> Consumer<'a> {
    async fn new(client: &'a Client, args: &'a ConsumeArgs) -> Outcome<Self> {
        let topic = kafka_door::topic(client, &args.topic, Create::Never).await?;
        let all = topic.partitions.iter().map(|partition| partition.partition_index);
        let mut wanted: Vec<i32> = match args.partition {
            None => all.collect(),
            Some(asked) => all.filter(|&number| u32::try_from(number) == Ok(asked)).collect(),
        };
        wanted.sort_unstable();
        if wanted.is_empty() {
            return Err(kafka_door::no_such_partition(&topic));
        }
        let mut consumer = Self {
            client,
            args,
            places: Vec::new(),
            left: args.count.unwrap_or(u64::MAX),
            out: Out::stdout(),
        };
        for partition in wanted {
            let place = consumer.place(partition).await?;
            consumer.places.push(place);
        }
        Ok(consumer)
    }

    async fn place(&self, partition: i32) -> Outcome<Place> {
        let end = self.offset(partition, At::Latest).await?.unwrap_or(0);
        let since = |millis| async move {
            Ok::<_, Failure>(self.offset(partition, At::Timestamp(millis)).await?.unwrap_or(end))
        };
        let next = match self.args.from {
            From::Beginning => self.offset(partition, At::Earliest).await?.unwrap_or(0),
            From::End => end,
            From::Offset(offset) => self.checked(partition, offset, end).await?,
            From::Time(millis) => since(millis).await?,
            From::Ago(age) => {
                let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                since(Host::real().clock.wall().millis().saturating_sub(age).max(0)).await?
            }
        };
        Ok(Place { partition, next, end: (!self.args.follow).then_some(end) })
    }

    async fn checked(&self, partition: i32, offset: i64, end: i64) -> Outcome<i64> {
        let start = self.offset(partition, At::Earliest).await?.unwrap_or(0);
        if (start..=end).contains(&offset) {
            return Ok(offset);
        }
        Err(Failure::new(format!(
            "offset {offset} is not in partition {partition} of {}, which goes from {start} to {end}; choose another with --from, or --partition",
            self.args.topic
        )))
    }

    async fn offset(&self, partition: i32, at: At) -> Outcome<Option<i64>> {
        let found = self.client.list_offset(&self.args.topic, partition, at).await;
        Ok(found.map_err(|error| cannot(self.args, &error))?.map(|(offset, _)| offset))
    }

    async fn print_all(&mut self) -> Outcome {
        self.places.retain(|place| !place.is_done());
        while !self.places.is_empty() && self.left > 0 {
            let response = self
                .client
                .call(&self.request())
                .await
                .map_err(|error| cannot(self.args, &error))?;
            if !response.error_code.is_none() {
                return Err(cannot(self.args, &response.error_code));
            }
            for fetched in response.responses.into_iter().flat_map(|topic| topic.partitions) {
                self.print_fetched(fetched)?;
            }
            self.out.flush()?;
            self.places.retain(|place| !place.is_done());
        }
        Ok(())
    }

    fn request(&self) -> FetchRequest {
        let partition = |place: &Place| FetchPartition {
            partition: place.partition,
            fetch_offset: place.next,
            partition_max_bytes: PARTITION_BYTES_MAX,
            ..Default::default()
        };
        let partitions = self.places.iter().map(partition).collect();
        FetchRequest {
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES_MAX,
            topics: vec![FetchTopic { topic: self.args.topic.clone(), partitions }],
            ..Default::default()
        }
    }

    fn print_fetched(&mut self, fetched: FetchPartitionResponse) -> Outcome {
        if !fetched.error_code.is_none() {
            return Err(cannot(
                self.args,
                &format!("partition {}: {}", fetched.partition_index, fetched.error_code),
            ));
        }
        for batch in batches(fetched.records.unwrap_or_default()) {
            match batch {
                Ok(batch) => self.print_batch(fetched.partition_index, &batch)?,
                // The server may cut the last one; it comes whole with the next answer.
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => return Err(cannot(self.args, &error)),
            }
        }
        Ok(())
    }

    fn print_batch(&mut self, partition: i32, batch: &Batch) -> Outcome {
        let Some(place) = self.places.iter().position(|place| place.partition == partition) else {
            return Ok(());
        };
        batch.check_crc().map_err(|error| cannot(self.args, &error))?;
        // Marks of transactions are not records.
        if !batch.header().is_control() {
            for record in
                batch.records(BATCH_BYTES_MAX).map_err(|error| cannot(self.args, &error))?
            {
                let record = record.map_err(|error| cannot(self.args, &error))?;
                let Place { next, end, .. } = self.places[place];
                if record.offset >= next
                    && end.is_none_or(|end| record.offset < end)
                    && self.left > 0
                {
                    self.print(partition, &record)?;
                    self.left -= 1;
                }
            }
        }
        let place = &mut self.places[place];
        place.next = place.next.max(batch.header().next_offset());
        Ok(())
    }

    fn print(&mut self, partition: i32, record: &Record) -> Outcome {
        if self.args.json {
            let object = json(&self.args.topic, partition, record);
            return self.out.line(Value::Object(object).to_string());
        }
        self.out.line(record.value.as_deref().unwrap_or_default())
    }
}

fn json(topic: &str, partition: i32, record: &Record) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("topic".to_owned(), topic.into());
    object.insert("partition".to_owned(), partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp.into());
    insert_bytes(&mut object, "key", record.key.as_ref());
    insert_bytes(&mut object, "value", record.value.as_ref());
    let headers = record.headers.iter().map(|header| {
        let mut pair = Map::new();
        insert_bytes(&mut pair, "key", Some(&header.key));
        insert_bytes(&mut pair, "value", header.value.as_ref());
        Value::Object(pair)
    });
    object.insert("headers".to_owned(), headers.collect());
    object
}

/// Text as text; other bytes as hexadecimal digits under a name that says so.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    let (name, value) = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (name.to_owned(), Value::Null),
        Some((_, Ok(text))) => (name.to_owned(), text.into()),
        Some((bytes, Err(_))) => (
            format!("{name}_hex"),
            bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        ),
    };
    object.insert(name, value);
}

#[cfg(test)]
mod tests {
    //! Goal: where to begin is read as meant, and records become JSON that keeps every byte.

    use super::*;

    #[test]
    fn where_to_begin_is_read_in_all_its_forms() {
        let reads = |text: &str| text.parse::<From>();
        assert_eq!(reads("beginning"), Ok(From::Beginning));
        assert_eq!(reads("end"), Ok(From::End));
        assert_eq!(reads("100"), Ok(From::Offset(100)));
        assert_eq!(reads("1970-01-01T00:00:01Z"), Ok(From::Time(1000)));
        assert_eq!(reads("1h"), Ok(From::Ago(Duration::from_secs(3600))));
        assert!(reads("-1").is_err());
        assert!(reads("yesterday").is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_as_digits() {
        let record = Record {
            offset: 7,
            timestamp: 5,
            key: None,
            value: Some(Bytes::from_static(b"\xff\x00")),
            headers: Vec::new(),
        };
        let shown = Value::Object(json("t", 1, &record)).to_string();
        assert_eq!(
            shown,
            r#"{"headers":[],"key":null,"offset":7,"partition":1,"timestamp_ms":5,"topic":"t","value_hex":"ff00"}"#
        );
    }
}
