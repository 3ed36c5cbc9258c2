//! Goal: topics are created, described and deleted as administrators' tools expect, and the server says
//! only what is true about itself.

use kafka::client::{Client, Create};
use kafka::wire::messages::configs::{
    ConfigResource, DescribeConfigsRequest, RESOURCE_BROKER, RESOURCE_TOPIC,
};
use kafka::wire::messages::coordinator::FindCoordinatorRequest;
use kafka::wire::messages::metadata::{
    DescribeClusterRequest, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use kafka::wire::messages::topics::{
    CreatableAssignment, CreatableConfig, CreatableTopic, CreateTopicsRequest, CreatedTopic,
    DeleteTopicsRequest, DeleteTopicsResponse,
};
use kafka::wire::{ErrorCode, Message, Uuid};

use crate::bed::{Bed, CLUSTER_ID, partitions};

#[tokio::test]
async fn the_controller_is_a_listed_broker_at_the_advertised_address() {
    let bed = Bed::start().await;
    let response = bed.client().await.metadata(None, Create::Never).await.unwrap();
    let [only] = &response.brokers[..] else { panic!("{response:?}") };
    assert_eq!(response.controller_id, only.node_id);
    assert_eq!(format!("{}:{}", only.host, only.port), bed.address);
    assert_eq!(response.cluster_id.as_deref(), Some(CLUSTER_ID));
    assert_eq!(response.topics, []);
}

#[tokio::test]
async fn a_topic_is_created_on_first_use_if_the_client_allows() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    let refused = client.topic("new", Create::Never).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let topic = client.topic("new", Create::IfMissing).await.unwrap();
    assert_ne!(topic.topic_id, Uuid::ZERO);
    let [partition] = &topic.partitions[..] else { panic!("{topic:?}") };
    assert_eq!((partition.leader_id, &partition.isr_nodes[..]), (1, &[1][..]));
    assert_eq!(client.topic("new", Create::Never).await.unwrap(), topic);

    let refused = client.topic("no/name", Create::IfMissing).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::INVALID_TOPIC_EXCEPTION));
}

#[tokio::test]
async fn every_version_of_metadata_lists_all_topics() {
    let bed = Bed::start().await;
    let _client = bed.client_with_topic().await;
    let mut raw = bed.raw().await;
    for version in MetadataRequest::VERSIONS {
        let topics = if version == 0 { Some(Vec::new()) } else { None };
        let request = MetadataRequest { topics, ..Default::default() };
        raw.request(version, 1, &request).await;
        let (_, response) = raw.response::<MetadataResponse>(version).await;
        let names: Vec<_> = response.topics.iter().map(|topic| topic.name.as_deref()).collect();
        assert_eq!(names, [Some("t")], "version {version}");
    }
}

#[tokio::test]
async fn a_topic_is_described_once_however_often_it_is_named() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let named = MetadataRequestTopic { name: Some("t".to_owned()), ..Default::default() };
    let topics = Some(vec![named; 100]);
    let response = client.call(&MetadataRequest { topics, ..Default::default() }).await.unwrap();
    assert_eq!(response.topics.len(), 1);
}

async fn by_id(client: &Client, topic_id: Uuid) -> (ErrorCode, Option<String>) {
    let asked = MetadataRequestTopic { topic_id, name: None };
    let request = MetadataRequest { topics: Some(vec![asked]), ..Default::default() };
    let response = client.call(&request).await.unwrap();
    (response.topics[0].error_code, response.topics[0].name.clone())
}

#[tokio::test]
async fn a_topic_that_is_made_again_has_another_id() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let first = client.topic("t", Create::Never).await.unwrap().topic_id;
    assert_eq!(by_id(&client, first).await, (ErrorCode::NONE, Some("t".to_owned())));
    client.delete_topic("t").await.unwrap();
    let second = client.create_topic("t", None, &[]).await.unwrap().topic_id;
    assert_ne!(first, second);
    assert_eq!(by_id(&client, first).await, (ErrorCode::UNKNOWN_TOPIC_ID, None));
}

#[tokio::test]
async fn topics_are_deleted_by_name_in_every_version() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    let mut raw = bed.raw().await;
    for version in 1..=5 {
        client.create_topic("t", None, &[]).await.unwrap();
        let names = vec!["t".to_owned(), "gone".to_owned()];
        let request = DeleteTopicsRequest { topic_names: names, ..Default::default() };
        raw.request(version, 1, &request).await;
        let (_, response) = raw.response::<DeleteTopicsResponse>(version).await;
        let codes: Vec<_> = response.responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    }
    let refused = client.delete_topic("t").await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

fn asked(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        ..Default::default()
    }
}

async fn create(client: &Client, topic: CreatableTopic, validate_only: bool) -> CreatedTopic {
    let request = CreateTopicsRequest { topics: vec![topic], validate_only, ..Default::default() };
    client.call(&request).await.unwrap().topics.remove(0)
}

fn setting(name: &str, value: &str) -> Vec<CreatableConfig> {
    vec![CreatableConfig { name: name.to_owned(), value: Some(value.to_owned()) }]
}

#[tokio::test]
async fn topics_that_cannot_be_are_refused_with_their_reason() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let placed =
        |broker| vec![CreatableAssignment { partition_index: 0, broker_ids: vec![broker] }];
    let cases = [
        (asked("t"), ErrorCode::TOPIC_ALREADY_EXISTS),
        (asked("a b"), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (CreatableTopic { num_partitions: 0, ..asked("x") }, ErrorCode::INVALID_PARTITIONS),
        (CreatableTopic { num_partitions: -5, ..asked("x") }, ErrorCode::INVALID_PARTITIONS),
        (CreatableTopic { num_partitions: i32::MAX, ..asked("x") }, ErrorCode::INVALID_PARTITIONS),
        (
            CreatableTopic { replication_factor: 3, ..asked("x") },
            ErrorCode::INVALID_REPLICATION_FACTOR,
        ),
        (
            CreatableTopic { assignments: placed(2), ..asked("x") },
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ),
        (
            CreatableTopic { configs: setting("cleanup.policy", "compact"), ..asked("x") },
            ErrorCode::INVALID_CONFIG,
        ),
        (
            CreatableTopic { configs: setting("flush.ms", "1"), ..asked("x") },
            ErrorCode::INVALID_CONFIG,
        ),
    ];
    for (topic, code) in cases {
        for validate_only in [true, false] {
            let created = create(&client, topic.clone(), validate_only).await;
            assert_eq!(created.error_code, code, "{topic:?}");
            assert!(created.error_message.is_some());
        }
    }
    assert_eq!(client.metadata(None, Create::Never).await.unwrap().topics.len(), 1);
}

#[tokio::test]
async fn a_topic_gets_the_partitions_and_the_durability_that_were_asked_for() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    let only_tried =
        create(&client, CreatableTopic { num_partitions: 3, ..asked("p") }, true).await;
    assert_eq!((only_tried.error_code, only_tried.num_partitions), (ErrorCode::NONE, 3));
    assert!(client.topic("p", Create::Never).await.is_err(), "only tried");

    client.create_topic("p", Some(3), &[("strandline.durability", "written")]).await.unwrap();
    assert_eq!(partitions(&client, "p").await, 3);
    let configs = describe(&client, RESOURCE_TOPIC, "p").await.unwrap();
    assert!(configs.contains(&("strandline.durability".to_owned(), "written".to_owned())));

    let placed = CreatableAssignment { partition_index: 0, broker_ids: vec![1] };
    let topic = CreatableTopic { assignments: vec![placed], ..asked("q") };
    assert_eq!(create(&client, topic, false).await.num_partitions, 1);
}

async fn describe(
    client: &Client,
    resource_type: i8,
    name: &str,
) -> Result<Vec<(String, String)>, ErrorCode> {
    describe_some(client, resource_type, name, None).await
}

async fn describe_some(
    client: &Client,
    resource_type: i8,
    name: &str,
    configuration_keys: Option<Vec<String>>,
) -> Result<Vec<(String, String)>, ErrorCode> {
    let resource_name = name.to_owned();
    let resource = ConfigResource { resource_type, resource_name, configuration_keys };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let result = client.call(&request).await.unwrap().results.remove(0);
    if !result.error_code.is_none() {
        return Err(result.error_code);
    }
    let value = |entry: kafka::wire::messages::configs::ConfigEntry| entry.value.unwrap();
    Ok(result.configs.into_iter().map(|entry| (entry.name.clone(), value(entry))).collect())
}

#[tokio::test]
async fn settings_in_force_are_described() {
    let bed = Bed::start().await;
    let client = bed.client_with_topic().await;
    let topic = describe(&client, RESOURCE_TOPIC, "t").await.unwrap();
    assert!(topic.contains(&("cleanup.policy".to_owned(), "delete".to_owned())));
    let broker = describe(&client, RESOURCE_BROKER, "1").await.unwrap();
    assert!(broker.contains(&("num.partitions".to_owned(), "1".to_owned())));
    for (keys, count) in
        [(None, topic.len()), (Some(vec![]), topic.len()), (Some(vec!["flush.ms"]), 0)]
    {
        let keys = keys.map(|keys| keys.into_iter().map(str::to_owned).collect());
        let found = describe_some(&client, RESOURCE_TOPIC, "t", keys).await.unwrap();
        assert_eq!(found.len(), count);
    }
    assert_eq!(
        describe(&client, RESOURCE_TOPIC, "gone").await,
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    );
    assert_eq!(describe(&client, RESOURCE_BROKER, "2").await, Err(ErrorCode::INVALID_REQUEST));
    assert_eq!(describe(&client, 8, "").await, Err(ErrorCode::INVALID_REQUEST));
}

#[tokio::test]
async fn the_cluster_is_described() {
    let bed = Bed::start().await;
    let client = bed.client().await;
    let response = client.call(&DescribeClusterRequest::default()).await.unwrap();
    assert_eq!((response.cluster_id.as_str(), response.controller_id), (CLUSTER_ID, 1));
    assert_eq!(response.brokers.len(), 1);
    let controllers = DescribeClusterRequest { endpoint_type: 2, ..Default::default() };
    let response = client.call(&controllers).await.unwrap();
    assert_eq!(response.error_code, ErrorCode::MISMATCHED_ENDPOINT_TYPE);
}

#[tokio::test]
async fn groups_are_refused_in_words() {
    let bed = Bed::start().await;
    let request =
        FindCoordinatorRequest { coordinator_keys: vec!["g".to_owned()], ..Default::default() };
    let response = bed.client().await.call(&request).await.unwrap();
    assert_eq!(response.coordinators[0].error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert!(response.coordinators[0].error_message.as_ref().unwrap().contains("groups"));
}
