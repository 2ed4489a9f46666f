//! A log group that keeps what it is given, with the rules of CloudWatch Logs on events.

use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::super::{CloudWatchUploader, Manner};
use super::story;
use crate::aws::Client;
use crate::aws::tests::server::{Reply, Seen, TestServer};

/// Events of one page, so that there are some pages.
const PAGE: usize = 2;

pub(super) struct Fake {
    server: TestServer,
    group: Arc<Mutex<Group>>,
}

#[derive(Default)]
struct Group {
    streams: Vec<String>,
    /// Events and their times.
    events: Vec<(i64, String)>,
    kms_key_id: Option<&'static str>,
    refusal: Option<(&'static str, Reason)>,
    /// Events of so many calls are stored, but the answers do not arrive.
    lost_answers: usize,
    /// The token that the next call has to name, at an endpoint that cares.
    token: Option<u32>,
}

/// How an operation is refused.
#[derive(Clone, Copy)]
pub(super) struct Reason(pub(super) u16, pub(super) &'static str);

impl Fake {
    /// An empty group that allows everything.
    pub(super) async fn start() -> Self {
        let group = Arc::new(Mutex::new(Group::default()));
        let served = Arc::clone(&group);
        let server = TestServer::start(move |_, seen| served.lock().unwrap().answer(seen)).await;
        Self { server, group }
    }

    pub(super) fn client(&self) -> Client {
        self.server.client()
    }

    pub(super) fn uploader(&self, manner: Manner, state: Option<Value>) -> CloudWatchUploader {
        let streaming = manner == Manner::Records;
        let about = Arc::new(story());
        CloudWatchUploader::new(self.client(), about, "/grp", false, streaming, state)
    }

    pub(super) fn encrypted_uploader(&self) -> CloudWatchUploader {
        CloudWatchUploader::new(self.client(), Arc::new(story()), "/grp", true, true, None)
    }

    /// Times of the events.
    pub(super) fn times(&self) -> Vec<i64> {
        self.lock().events.iter().map(|(time, _)| *time).collect()
    }

    pub(super) fn messages(&self) -> Vec<String> {
        let group = self.lock();
        group.events.iter().map(|(_, text)| text.clone()).collect()
    }

    /// The lines in the records.
    pub(super) fn data(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for message in self.messages() {
            let record: Value = serde_json::from_str(&message).unwrap();
            let data = record["sessionData"].as_array().unwrap().clone();
            lines.extend(data.iter().map(|line| line.as_str().unwrap().to_owned()));
        }
        lines
    }

    pub(super) fn operations(&self) -> Vec<String> {
        let seen = self.server.seen();
        let target = |seen: &Seen| seen.header("x-amz-target").replace("Logs_20140328.", "");
        seen.iter().map(target).collect()
    }

    /// An event of somebody else.
    pub(super) fn intrude(&self, time: i64, message: &str) {
        self.lock().events.push((time, message.to_owned()));
    }

    pub(super) fn encrypt(&self) {
        self.lock().kms_key_id = Some("arn:aws:kms:test-1:1:key/k");
    }

    pub(super) fn refuse(&self, operation: &'static str, reason: Reason) {
        self.lock().refusal = Some((operation, reason));
    }

    pub(super) fn allow(&self) {
        self.lock().refusal = None;
    }

    pub(super) fn lose_answers(&self, count: usize) {
        self.lock().lost_answers = count;
    }

    pub(super) fn want_token(&self, token: u32) {
        self.lock().token = Some(token);
    }

    fn lock(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap()
    }
}

impl Group {
    fn answer(&mut self, seen: &Seen) -> Reply {
        let operation = seen.header("x-amz-target").replace("Logs_20140328.", "");
        if let Some((refused, Reason(status, code))) = self.refusal
            && refused == operation
        {
            return Reply(status, vec![], json!({"__type": code}).to_string());
        }
        let request = seen.json();
        match operation.as_str() {
            "DescribeLogGroups" => {
                let mut group = json!({"logGroupName": "/grp"});
                if let Some(key) = self.kms_key_id {
                    group["kmsKeyId"] = json!(key);
                }
                ok(&json!({"logGroups": [group]}))
            }
            "CreateLogStream" => {
                let name = request["logStreamName"].as_str().unwrap().to_owned();
                if self.streams.contains(&name) {
                    return Reply::refusal("ResourceAlreadyExistsException");
                }
                self.streams.push(name);
                Reply(200, vec![], String::new())
            }
            "DescribeLogStreams" => {
                let token = self.token.map(|token| token.to_string());
                ok(&json!({"logStreams": [
                    {"logStreamName": "alice-1", "uploadSequenceToken": token},
                ]}))
            }
            "PutLogEvents" => self.put(&request),
            "GetLogEvents" => self.get(&request),
            other => panic!("unexpected {other}"),
        }
    }

    fn put(&mut self, request: &Value) -> Reply {
        assert!(self.streams.contains(&"alice-1".to_owned()));
        if let Some(token) = self.token {
            if request["sequenceToken"] != json!(token.to_string()) {
                return Reply::refusal("InvalidSequenceTokenException");
            }
            self.token = Some(token + 1);
        }
        let events = request["logEvents"].as_array().unwrap();
        let (mut bytes, mut last) = (0, 0);
        for event in events {
            let (time, text) = (event["timestamp"].as_i64(), event["message"].as_str());
            let (time, text) = (time.unwrap(), text.unwrap());
            assert!(time >= last && !text.is_empty() && text.len() + 26 <= 256 << 10);
            (bytes, last) = (bytes + text.len() + 26, time);
            self.events.push((time, text.to_owned()));
        }
        assert!(bytes <= 1 << 20 && (1..=10_000).contains(&events.len()));
        self.events.sort_by_key(|(time, _)| *time);
        if self.lost_answers > 0 {
            self.lost_answers -= 1;
            return Reply(502, vec![], String::new());
        }
        ok(&json!({"nextSequenceToken": self.token.map(|token| token.to_string())}))
    }

    fn get(&self, request: &Value) -> Reply {
        let from = request["startTime"].as_i64().unwrap();
        let found = self.events.iter().filter(|(time, _)| *time >= from);
        let at = request["nextToken"]
            .as_str()
            .map_or(0, |at| at.parse().unwrap());
        let found: Vec<_> = found.skip(at).take(PAGE).collect();
        let next = at + found.len();
        let events: Vec<_> = (found.iter())
            .map(|(time, text)| json!({"timestamp": time, "message": text, "ingestionTime": 0}))
            .collect();
        ok(&json!({"events": events, "nextForwardToken": next.to_string()}))
    }
}

fn ok(body: &Value) -> Reply {
    Reply::json(&body.to_string())
}
