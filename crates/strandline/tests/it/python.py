"""Produces and consumes with kafka-python against the server at argv[1]; prints one line when all is as it should be."""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

server = sys.argv[1]


def producer(**options):
    return KafkaProducer(bootstrap_servers=server, enable_idempotence=False, **options)


def consumer():
    return KafkaConsumer(bootstrap_servers=server, consumer_timeout_ms=20_000, enable_auto_commit=False, group_id=None)


def read(topic, count, seek, partition=0):
    """The next `count` records after `seek(consumer, partition)`."""
    with_partition = TopicPartition(topic, partition)
    reader = consumer()
    reader.assign([with_partition])
    seek(reader, with_partition)
    records = []
    for record in reader:
        records.append(record)
        if len(records) == count:
            break
    reader.close()
    return records


def from_beginning(reader, partition):
    reader.seek_to_beginning(partition)


def check(what, found, expected):
    if found != expected:
        sys.exit(f"{what}: found {found!r}, expected {expected!r}")


lines = [f"line {n:06}".encode() for n in range(500)]

# Every codec, and every kind of acknowledgement, into topics that did not exist.
for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    topic = codec or "plain"
    sender = producer(acks="all", compression_type=codec, linger_ms=5)
    sent = [sender.send(topic, key=b"k", value=line, timestamp_ms=1_000_000 + n) for n, line in enumerate(lines)]
    sender.flush()
    check(f"{topic}: offsets", [future.get(timeout=30).offset for future in sent], list(range(500)))
    sender.close()
    records = read(topic, 500, from_beginning)
    check(f"{topic}: values", [record.value for record in records], lines)
    check(f"{topic}: timestamps", records[7].timestamp, 1_000_007)

for acks in [0, 1]:
    sender = producer(acks=acks)
    for line in lines:
        sender.send(f"acks-{acks}", value=line)
    sender.flush()
    sender.close()
    check(f"acks {acks}", [record.value for record in read(f"acks-{acks}", 500, from_beginning)], lines)

# From an offset, from a time, from the end.
records = read("plain", 3, lambda reader, partition: reader.seek(partition, 497))
check("from an offset", [record.offset for record in records], [497, 498, 499])
asker = consumer()
plain = TopicPartition("plain", 0)
found = asker.offsets_for_times({plain: 1_000_123})
check("by time", found[plain].offset, 123)
check("beyond the newest time", asker.offsets_for_times({plain: 2_000_000_000_000})[plain], None)
check("beginning", asker.beginning_offsets([plain]), {plain: 0})
check("end", asker.end_offsets([plain]), {plain: 500})
check("partitions", asker.partitions_for_topic("parted"), {0, 1, 2})
check("topics", {"plain", "gzip", "parted"} <= asker.topics(), True)
asker.close()

# Several partitions.
sender = producer()
for n in range(300):
    sender.send("parted", value=b"%d" % n, partition=n % 3)
sender.flush()
sender.close()
for number in range(3):
    records = read("parted", 100, from_beginning, number)
    check(f"partition {number}", [record.value for record in records], [b"%d" % n for n in range(number, 300, 3)])

print("all is well")
