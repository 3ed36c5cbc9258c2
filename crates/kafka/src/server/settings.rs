//! The settings of topics and of the broker under the names that Kafka's clients know.
//!
//! Only what is in force is listed: a setting that has no effect here is not shown, and a topic that asks
//! for a value other than the one in force is refused instead of quietly getting something else.

use broker::{Durability, Options, TopicConfig};

use crate::wire::messages::configs::ConfigEntry;
use crate::wire::messages::topics::{CreatableConfig, CreatedConfig};

/// When a batch of the topic is acknowledged: `synced` or `written`.
pub(super) const DURABILITY: &str = "strandline.durability";

const SOURCE_TOPIC: i8 = 1;
const SOURCE_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// The protocol's numbers for the type of a value.
#[derive(Clone, Copy)]
enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Long = 5,
    List = 7,
}

/// One setting in force.
pub(super) struct Setting {
    name: &'static str,
    value: String,
    kind: Kind,
    source: i8,
    about: &'static str,
}

fn fixed(name: &'static str, value: &str, kind: Kind, about: &'static str) -> Setting {
    Setting { name, value: value.to_owned(), kind, source: SOURCE_DEFAULT, about }
}

fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Synced => "synced",
        Durability::Written => "written",
    }
}

/// The settings in force for a topic.
pub(super) fn of_topic(config: TopicConfig, broker: &Options) -> Vec<Setting> {
    let TopicConfig { durability } = config;
    let chosen = durability != Durability::default();
    vec![
        fixed("cleanup.policy", "delete", Kind::List, "Old records are dropped, not compacted."),
        fixed("compression.type", "producer", Kind::String, "Batches are kept as they were sent."),
        fixed(
            "max.message.bytes",
            &broker.batch_bytes_max.to_string(),
            Kind::Int,
            "The largest record batch that is accepted.",
        ),
        fixed(
            "message.timestamp.type",
            "CreateTime",
            Kind::String,
            "Records keep their producer's time.",
        ),
        fixed("min.insync.replicas", "1", Kind::Int, "There is one replica: this server."),
        fixed("retention.bytes", "-1", Kind::Long, "Records are not dropped by size."),
        fixed("retention.ms", "-1", Kind::Long, "Records are not dropped by age."),
        Setting {
            source: if chosen { SOURCE_TOPIC } else { SOURCE_DEFAULT },
            ..fixed(
                DURABILITY,
                durability_name(durability),
                Kind::String,
                "A produce request is answered when its batches survive the power (synced) \
                 or the process (written).",
            )
        },
    ]
}

/// The settings in force for the broker.
pub(super) fn of_broker(broker: &Options, node_id: i32) -> Vec<Setting> {
    let set = |name, value: String, kind, about| Setting {
        name,
        value,
        kind,
        source: SOURCE_BROKER,
        about,
    };
    vec![
        set(
            "auto.create.topics.enable",
            broker.auto_create.to_string(),
            Kind::Boolean,
            "Whether a topic is created when a client first names it.",
        ),
        set("broker.id", node_id.to_string(), Kind::Int, "The number of this server."),
        set(
            "default.replication.factor",
            "1".to_owned(),
            Kind::Int,
            "There is one replica: this server.",
        ),
        set(
            "message.max.bytes",
            broker.batch_bytes_max.to_string(),
            Kind::Int,
            "The largest record batch that is accepted.",
        ),
        set(
            "num.partitions",
            broker.partitions_default.to_string(),
            Kind::Int,
            "The partitions of a topic that is created without a number.",
        ),
    ]
}

impl Setting {
    /// As DescribeConfigs shows it.
    pub(super) fn entry(self, document: bool) -> ConfigEntry {
        ConfigEntry {
            name: self.name.to_owned(),
            value: Some(self.value),
            read_only: true,
            config_source: self.source,
            is_sensitive: false,
            synonyms: Vec::new(),
            config_type: self.kind as i8,
            documentation: document.then(|| self.about.to_owned()),
        }
    }

    /// As CreateTopics shows it.
    pub(super) fn created(self) -> CreatedConfig {
        CreatedConfig {
            name: self.name.to_owned(),
            value: Some(self.value),
            read_only: true,
            config_source: self.source,
            is_sensitive: false,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// What a new topic's settings ask for, or a sentence that says which one cannot be had.
pub(super) fn parse_topic(
    asked: &[CreatableConfig],
    broker: &Options,
) -> Result<TopicConfig, String> {
    let mut config = TopicConfig::default();
    let in_force = of_topic(config, broker);
    for CreatableConfig { name, value } in asked {
        let value = value.as_deref().unwrap_or_default();
        if name == DURABILITY {
            config.durability = match value {
                "synced" => Durability::Synced,
                "written" => Durability::Written,
                _ => return Err(format!("{name} is 'synced' or 'written', not '{value}'")),
            };
            continue;
        }
        match in_force.iter().find(|setting| setting.name == name) {
            Some(setting) if setting.value == value => {}
            Some(setting) => {
                return Err(format!("{name} can only be '{}' here, not '{value}'", setting.value));
            }
            None => return Err(format!("{name} is not a setting of topics here")),
        }
    }
    Ok(config)
}
