//! `strandline produce`: a record per line, in batches, pipelined, every one acknowledged before the command ends.
//!
//! A thread reads the input and hands over whole lines as they come; the batches of one partition are sent in order.
//! What has been read is sent at once, so that lines typed on a terminal do not wait for a full batch.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::thread::JoinHandle;

use broker::batch::{Builder, Compression, NewRecord};
use bytes::{Bytes, BytesMut};
use host::Host;
use indicatif::{ProgressBar, ProgressStyle};
use kafka::client::{Acks, Client, Create, Sent};
use kafka::wire::messages::metadata::MetadataTopic;
use tokio::sync::mpsc;

use crate::cli::{ProduceArgs, Target};
use crate::commands::{block_on, kafka_door};
use crate::failure::{Failure, Outcome};

const READ_BYTES: usize = 256 * 1024;
/// A batch is sent when it has grown to this.
const BATCH_BYTES: usize = 512 * 1024;
/// Longest line; the server has a limit of its own for a whole batch.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Reads that may wait for the network.
const READS_AHEAD_MAX: usize = 4;
/// Batches that may wait for their acknowledgement.
const IN_FLIGHT_MAX: usize = 16;

/// Sends every line of the input.
pub(crate) fn run(target: &Target, args: &ProduceArgs) -> Outcome {
    block_on(async {
        let client = kafka_door::connect(target).await?;
        let topic = kafka_door::topic(&client, &args.topic, Create::IfMissing).await?;
        let spread = Spread::new(args, &topic)?;
        let (progress, input) = open(&args.file)?;
        let (lines, reader) = read_in_background(input)?;
        let mut producer = Producer::new(&client, args, spread);
        let produced = producer.take_all(lines, &progress).await;
        progress.finish_and_clear();
        produced?;
        let read =
            reader.join().map_err(|_| Failure::new("the thread that reads the input panicked"))?;
        read.map_err(|error| {
            producer
                .stopped(&Failure::because(format!("cannot read {}", args.file.display()), error))
        })?;
        producer.report();
        Ok(())
    })
}

fn cannot(args: &ProduceArgs, why: &dyn std::fmt::Display) -> Failure {
    Failure::because(format!("cannot produce into {}", args.topic), why)
}

/// The input, and a bar that shows how much of it was sent if somebody sees it.
fn open(path: &Path) -> Outcome<(ProgressBar, Box<dyn Read + Send>)> {
    if path.as_os_str() == "-" {
        return Ok((ProgressBar::hidden(), Box::new(io::stdin())));
    }
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    #[expect(
        clippy::disallowed_methods,
        reason = "a file of the caller's, not one of the data path"
    )]
    let file = std::fs::File::open(path).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    if size == 0 || !io::stderr().is_terminal() {
        return Ok((ProgressBar::hidden(), Box::new(file)));
    }
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    let bar = ProgressBar::new(size)
        .with_style(style.map_err(|error| Failure::because("cannot show progress", error))?);
    Ok((bar, Box::new(file)))
}

/// Whole lines, without their ends.
struct Lines<R> {
    from: R,
    pending: BytesMut,
    ended: bool,
}

impl<R: Read> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, pending: BytesMut::new(), ended: false }
    }

    /// The lines of the next read that completes one; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Vec<Bytes>>> {
        while !self.ended {
            let held = self.pending.len();
            if held > LINE_BYTES_MAX {
                return Err(io::Error::other(format!(
                    "a line is longer than {LINE_BYTES_MAX} bytes"
                )));
            }
            self.pending.resize(held + READ_BYTES, 0);
            let read = self.from.read(&mut self.pending[held..]);
            self.pending.truncate(held + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(last) = self.pending[held..].iter().rposition(|&byte| byte == b'\n') {
                return Ok(Some(split(
                    &self.pending.split_to(held + last).freeze(),
                    &mut self.pending,
                )));
            }
        }
        // A last line without an end.
        let rest = std::mem::take(&mut self.pending).freeze();
        Ok((!rest.is_empty()).then(|| vec![rest]))
    }
}

/// Cuts a run of lines, whose last end is the first byte of what is left behind it.
fn split(run: &Bytes, behind: &mut BytesMut) -> Vec<Bytes> {
    let _last_end = behind.split_to(1);
    run.split(|&byte| byte == b'\n').map(|line| run.slice_ref(line)).collect()
}

type Reader = JoinHandle<io::Result<()>>;

fn read_in_background(
    input: Box<dyn Read + Send>,
) -> Outcome<(mpsc::Receiver<Vec<Bytes>>, Reader)> {
    let (sender, receiver) = mpsc::channel(READS_AHEAD_MAX);
    let read = move || {
        let mut lines = Lines::new(input);
        while let Some(some) = lines.next()? {
            if sender.blocking_send(some).is_err() {
                break;
            }
        }
        Ok(())
    };
    let thread = host::spawn("read", read)
        .map_err(|error| Failure::because("cannot start a thread", error))?;
    Ok((receiver, thread))
}

/// Which partition a record goes to.
enum Spread {
    /// The one that was asked for.
    Only(i32),
    /// By key; without a key, batch by batch in turn.
    Over(i32),
}

impl Spread {
    fn new(args: &ProduceArgs, topic: &MetadataTopic) -> Outcome<Self> {
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        match args.partition.map(i32::try_from) {
            None => Ok(Self::Over(partitions.max(1))),
            Some(Ok(asked)) if asked < partitions => Ok(Self::Only(asked)),
            Some(_) => Err(kafka_door::no_such_partition(topic)),
        }
    }

    fn partition(&self, key: Option<&[u8]>, turn: i32) -> i32 {
        match (self, key) {
            (Self::Only(partition), _) => *partition,
            (Self::Over(partitions), Some(key)) => {
                // As Kafka's own producer does it, so that a key stays in its partition whoever sends it.
                (murmur2(key) & 0x7fff_ffff).cast_signed() % partitions
            }
            (Self::Over(partitions), None) => turn % partitions,
        }
    }
}

/// Batches being filled and batches on their way.
struct Producer<'a> {
    client: &'a Client,
    args: &'a ProduceArgs,
    host: Host,
    spread: Spread,
    turn: i32,
    filling: Vec<(i32, Builder)>,
    on_their_way: VecDeque<(Sent<'a>, u64)>,
    acknowledged: u64,
}

impl<'a> Producer<'a> {
    fn new(client: &'a Client, args: &'a ProduceArgs, spread: Spread) -> Self {
        let (filling, on_their_way) = (Vec::new(), VecDeque::new());
        Self {
            client,
            args,
            host: Host::real(),
            spread,
            turn: 0,
            filling,
            on_their_way,
            acknowledged: 0,
        }
    }

    async fn take_all(
        &mut self,
        mut lines: mpsc::Receiver<Vec<Bytes>>,
        progress: &ProgressBar,
    ) -> Outcome {
        while let Some(some) = lines.recv().await {
            for line in some {
                progress.inc(line.len() as u64 + 1);
                self.take(&line).await?;
            }
            if lines.is_empty() {
                self.send_all().await?;
            }
        }
        self.send_all().await?;
        while !self.on_their_way.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn take(&mut self, line: &Bytes) -> Outcome {
        let (key, value) = self.divide(line);
        let partition = self.spread.partition(key.as_deref(), self.turn);
        let timestamp = self.host.clock.wall().millis();
        let record = NewRecord { timestamp, key, value: Some(value), headers: Vec::new() };
        let place = self.filling.iter().position(|(number, _)| *number == partition);
        let place = place.unwrap_or_else(|| {
            self.filling.push((partition, Builder::new(Compression::None)));
            self.filling.len() - 1
        });
        let builder = &mut self.filling[place].1;
        builder.push(&record).map_err(|error| cannot(self.args, &error))?;
        if builder.bytes() >= BATCH_BYTES {
            let (partition, builder) = self.filling.swap_remove(place);
            self.send(partition, builder).await?;
        }
        Ok(())
    }

    fn divide(&self, line: &Bytes) -> (Option<Bytes>, Bytes) {
        let separator = self.args.key_separator.as_ref().map(String::as_bytes);
        let found = separator.and_then(|separator| {
            let at = line.windows(separator.len()).position(|window| window == separator)?;
            Some((line.slice(..at), line.slice(at + separator.len()..)))
        });
        found.map_or_else(|| (None, line.clone()), |(key, value)| (Some(key), value))
    }

    async fn send_all(&mut self) -> Outcome {
        for (partition, builder) in std::mem::take(&mut self.filling) {
            self.send(partition, builder).await?;
        }
        Ok(())
    }

    async fn send(&mut self, partition: i32, builder: Builder) -> Outcome {
        if self.on_their_way.len() >= IN_FLIGHT_MAX {
            self.settle_oldest().await?;
        }
        let records = u64::try_from(builder.record_count()).unwrap_or(0);
        let batch = builder.build().map_err(|error| cannot(self.args, &error))?;
        let sent = self.client.send_batch(&self.args.topic, partition, batch, Acks::All).await;
        let sent = sent.map_err(|error| self.stopped(&cannot(self.args, &error)))?;
        self.on_their_way.push_back((sent, records));
        self.turn = self.turn.wrapping_add(1) & i32::MAX;
        Ok(())
    }

    async fn settle_oldest(&mut self) -> Outcome {
        if let Some((sent, records)) = self.on_their_way.pop_front() {
            sent.acknowledged().await.map_err(|error| self.stopped(&cannot(self.args, &error)))?;
            self.acknowledged += records;
        }
        Ok(())
    }

    /// `why`, and how far we got.
    fn stopped(&self, why: &Failure) -> Failure {
        Failure::new(format!("{why} (after {} acknowledged records)", self.acknowledged))
    }

    /// Tells a person at a terminal what was done.
    fn report(&self) {
        if io::stderr().is_terminal() {
            use std::io::Write;
            // Nobody is there to tell when it fails.
            let _nobody = writeln!(io::stderr(), "{} records acknowledged", self.acknowledged);
        }
    }
}

/// The hash by which Kafka's own producer chooses a partition (MurmurHash2, 32 bits, seed 0x9747b28c).
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let [a, b, c, d, ..] = bytes.len().to_le_bytes();
    let mut hash = 0x9747_b28c ^ u32::from_le_bytes([a, b, c, d]);
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    for (place, &byte) in rest.iter().enumerate() {
        hash ^= u32::from(byte) << (8 * place);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    //! Goal: lines are cut where they end however the input arrives, and keys go where other producers put them.

    use proptest::prelude::*;

    use super::*;

    /// Gives at most `step` bytes per read.
    struct Drip<'a>(&'a [u8], usize);

    impl Read for Drip<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let step = self.1.min(to.len());
            self.0.read(&mut to[..step])
        }
    }

    fn lines(input: &[u8], step: usize) -> Vec<Bytes> {
        let mut lines = Lines::new(Drip(input, step));
        let mut all = Vec::new();
        while let Some(some) = lines.next().unwrap() {
            all.extend(some);
        }
        all
    }

    #[test]
    fn lines_end_at_newlines_and_the_last_may_have_none() {
        assert_eq!(lines(b"a\n\nbb\nc", 2), ["a", "", "bb", "c"].map(Bytes::from));
        assert_eq!(lines(b"a\n", 100), ["a"].map(Bytes::from));
        assert!(lines(b"", 1).is_empty());
    }

    #[test]
    fn keys_hash_as_in_kafka() {
        // Values of the Java client's own test.
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_input_in_any_steps_gives_its_lines(input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200), step in 1_usize..50) {
            let mut want: Vec<&[u8]> = input.split(|&byte| byte == b'\n').collect();
            if want.last().is_some_and(|last| last.is_empty()) {
                want.pop();
            }
            prop_assert_eq!(lines(&input, step), want);
        }
    }
}
