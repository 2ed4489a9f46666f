use super::*;
use crate::aws::Endpoints;
use crate::aws::tests::server::{Reply, TestServer};

const ENCRYPTED: &str = "<ServerSideEncryptionConfiguration \
     xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Rule><ApplyServerSideEncryptionByDefault>\
     <SSEAlgorithm>aws:kms</SSEAlgorithm><KMSMasterKeyID>key-1</KMSMasterKeyID>\
     </ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";

pub(super) fn ok(body: &str) -> Reply {
    Reply(200, vec![], body.to_owned())
}

pub(super) fn refusal(status: u16, code: &str) -> Reply {
    Reply(
        status,
        vec![],
        format!("<Error><Code>{code}</Code></Error>"),
    )
}

pub(super) fn key() -> ObjectKey {
    ObjectKey::join("pre", "s-1@x.log").unwrap()
}

async fn bucket(server: &TestServer) -> Result<Bucket, CallError> {
    let name = BucketName::new("my-logs").unwrap();
    server.client().bucket(name).await
}

/// A server that has the bucket and answers the n-th call to it, from 0.
pub(super) async fn serve(
    answer: impl Fn(usize) -> Reply + Send + Sync + 'static,
) -> (TestServer, Bucket) {
    let server = TestServer::start(move |count, _| match count {
        0 => ok(""),
        count => answer(count - 1),
    })
    .await;
    let bucket = bucket(&server).await.unwrap();
    (server, bucket)
}

#[tokio::test]
async fn region_of_any_answer_that_names_it_is_signed_for() {
    for status in [200, 301, 307, 400, 403] {
        let server = TestServer::start(move |count, _| match count {
            0 => Reply(status, vec![(REGION_HEADER, "eu-west-9".into())], "".into()),
            _ => ok(""),
        })
        .await;

        let bucket = bucket(&server).await.unwrap();
        bucket
            .put_object(&key(), Bytes::new(), text(None))
            .await
            .unwrap();

        let seen = server.seen();
        assert_eq!(
            (seen[0].method.as_str(), &*seen[0].path),
            ("HEAD", "/my-logs/"),
            "{status}"
        );
        let signature = seen[1].header("authorization");
        assert!(signature.contains("/eu-west-9/s3/aws4_request"), "{status}");
    }
}

#[tokio::test]
async fn missing_bucket_is_told_and_a_strange_region_is_refused() {
    let missing = TestServer::start(|_, _| Reply(404, vec![], String::new())).await;
    let strange =
        TestServer::start(|_, _| Reply(301, vec![(REGION_HEADER, "a.b/".into())], "".into())).await;

    let error = bucket(&missing).await.unwrap_err();
    assert_eq!(error.code(), Some("NoSuchBucket"));
    assert!(matches!(
        bucket(&strange).await,
        Err(CallError::Answer { .. })
    ));
}

#[tokio::test]
async fn bucket_that_may_not_be_asked_about_is_taken_to_be_at_home() {
    let server =
        TestServer::start(|count, _| Reply(if count < 2 { 403 } else { 200 }, vec![], "".into()))
            .await;

    let bucket = bucket(&server).await.unwrap();

    assert_eq!(bucket.region, "test-1");
}

#[test]
fn bucket_is_in_the_host_unless_its_name_has_dots_or_an_endpoint_is_configured() {
    let url = |endpoints: &Endpoints, name: &str| {
        let name = BucketName::new(name).unwrap();
        base(&endpoints.s3, &name, "eu-west-1").unwrap().to_string()
    };
    let aws = Endpoints::for_region("us-east-1", None).unwrap();
    let own = aws.clone().with_s3("http://127.0.0.1:1").unwrap();

    assert_eq!(
        url(&aws, "logs"),
        "https://logs.s3.eu-west-1.amazonaws.com/"
    );
    assert_eq!(
        url(&aws, "a.b.c"),
        "https://s3.eu-west-1.amazonaws.com/a.b.c/"
    );
    assert_eq!(url(&own, "logs"), "http://127.0.0.1:1/logs/");
}

#[tokio::test]
async fn object_is_stored_with_type_acl_digests_and_encryption() {
    let (server, bucket) = serve(|count| ok(if count == 0 { ENCRYPTED } else { "" })).await;

    let encryption = bucket.encryption().await.unwrap().unwrap();
    let body = Bytes::from_static(b"abc");
    bucket
        .put_object(&key(), body, text(Some(&encryption)))
        .await
        .unwrap();

    let seen = &server.seen()[2];
    assert_eq!(server.seen()[1].query, "encryption=");
    assert_eq!(
        (seen.method.as_str(), &*seen.path),
        ("PUT", "/my-logs/pre/s-1%40x.log")
    );
    assert_eq!(&seen.body[..], b"abc");
    for (name, value) in [
        ("content-type", "text/plain"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("content-md5", "kAFQmDzST7DWlj99KOF/cg=="),
        ("x-amz-server-side-encryption", "aws:kms"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key-1"),
        (
            "x-amz-content-sha256",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn bucket_without_encryption_is_no_error_and_garbage_is() {
    let (_server, bucket) = serve(|count| match count {
        0 => refusal(404, "ServerSideEncryptionConfigurationNotFoundError"),
        1 => ok("<ServerSide"),
        _ => refusal(403, "AccessDenied"),
    })
    .await;

    assert_eq!(bucket.encryption().await.unwrap(), None);
    let error = bucket.encryption().await.unwrap_err();
    assert!(matches!(error, CallError::Answer { .. }));
    assert!(bucket.encryption().await.unwrap_err().is_denied());
}

#[tokio::test]
async fn parts_become_an_object() {
    let (server, bucket) = serve(|count| match count {
        0 => ok("<InitiateMultipartUploadResult><UploadId>u/1</UploadId></InitiateMultipartUploadResult>"),
        1 => Reply(200, vec![("etag", "\"e1\"".into())], String::new()),
        _ => ok("<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"),
    })
    .await;

    let upload = bucket
        .create_multipart_upload(&key(), text(None))
        .await
        .unwrap();
    let part = bucket
        .upload_part(&key(), &upload, 1, Bytes::from_static(b"p"))
        .await
        .unwrap();
    bucket
        .complete_multipart_upload(&key(), &upload, &[part])
        .await
        .unwrap();

    let seen = server.seen();
    assert_eq!(seen[1].query, "uploads=");
    assert_eq!(seen[1].header("x-amz-acl"), ACL);
    assert_eq!(seen[2].query, "partNumber=1&uploadId=u%2F1");
    assert_eq!(
        (seen[3].method.as_str(), &*seen[3].query),
        ("POST", "uploadId=u%2F1")
    );
    assert_eq!(
        &seen[3].body[..],
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>\
          <ETag>&quot;e1&quot;</ETag></Part></CompleteMultipartUpload>"
    );
}

#[tokio::test]
async fn completion_that_fails_behind_a_good_status_is_a_failure() {
    let (_server, bucket) = serve(|_| refusal(200, "InternalError")).await;

    let completed = bucket.complete_multipart_upload(&key(), "u", &[]).await;

    let error = completed.unwrap_err();
    assert_eq!(error.code(), Some("InternalError"));
    assert!(error.is_transient_refusal());
}

#[tokio::test]
async fn throttling_and_broken_services_are_asked_again_and_refusals_are_not() {
    let (server, bucket) = serve(|count| match count {
        0 => refusal(503, "SlowDown"),
        1 => refusal(500, "InternalError"),
        2 => ok(""),
        _ => refusal(403, "AccessDenied"),
    })
    .await;

    let put = async || bucket.put_object(&key(), Bytes::new(), text(None)).await;
    put().await.unwrap();
    let error = put().await.unwrap_err();

    assert!(error.is_denied());
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn upload_that_is_given_up_is_deleted() {
    let (server, bucket) = serve(|_| Reply(204, vec![], String::new())).await;

    bucket.abort_multipart_upload(&key(), "u").await.unwrap();

    assert_eq!(server.seen()[1].method, "DELETE");
}

fn text(encryption: Option<&Encryption>) -> Attributes<'_> {
    Attributes {
        content_type: "text/plain",
        encryption,
    }
}
