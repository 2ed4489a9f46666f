//! The sources that are asked over HTTP.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn ok(body: &str) -> Reply {
    Reply(200, vec![], body.to_owned())
}

fn refusal(status: u16, code: &str) -> Reply {
    let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    Reply(status, vec![], body)
}

/// A bucket with these objects.
fn bucket(seen: &Seen, objects: &[(&str, &str)]) -> Reply {
    let prefix = seen
        .query
        .split('&')
        .find_map(|pair| pair.strip_prefix("prefix="));
    match (seen.method.as_str(), prefix) {
        ("HEAD", _) => ok(""),
        (_, Some(prefix)) => {
            let prefix = prefix.replace("%2F", "/").replace("%20", " ");
            let keys = objects.iter().filter(|(key, _)| key.starts_with(&prefix));
            let keys: String = keys
                .map(|(key, _)| format!("<Contents><Key>{key}</Key></Contents>"))
                .collect();
            ok(&format!("<ListBucketResult>{keys}</ListBucketResult>"))
        }
        (_, None) => {
            let path = seen.path.replace("%20", " ").replace("%2B", "+");
            let found = objects
                .iter()
                .find(|(key, _)| path == format!("/my-bucket/{key}"));
            found.map_or_else(|| refusal(404, "NoSuchKey"), |(_, content)| ok(content))
        }
    }
}

#[tokio::test]
async fn object_of_s3_becomes_a_file_and_a_prefix_a_tree() {
    let world = World::new(|seen| {
        bucket(
            seen,
            &[
                ("scripts/", ""),
                ("scripts/a.sh", "A"),
                ("scripts/more/b +.sh", "B"),
                ("scripts/more/", ""),
                ("scriptsandmore", "no"),
            ],
        )
    })
    .await;
    let path = |key: &str| json!({"path": world.url(&format!("/my-bucket/{key}"))});

    let place = world
        .download("S3", path("scripts/a.sh"), "")
        .await
        .unwrap();
    assert_eq!(place, format!("{}/", world.downloads().display()));
    assert_eq!(listed(&files(&world.downloads())), [("a.sh", "A")]);

    world
        .download("S3", path("scripts/a.sh"), "as/it")
        .await
        .unwrap();
    world
        .download("S3", path("scripts/more/b+%2B.sh"), "as/")
        .await
        .unwrap();
    assert_eq!(
        listed(&files(&world.downloads().join("as"))),
        [("b +.sh", "B"), ("it", "A")]
    );

    let tree = world.root.path().join("tree");
    for key in ["scripts/", "scripts"] {
        let done = world
            .download("S3", path(key), tree.to_str().unwrap())
            .await;
        assert_eq!(done.unwrap(), tree.to_str().unwrap());
        assert_eq!(listed(&files(&tree)), [("a.sh", "A"), ("more/b +.sh", "B")]);
    }
}

#[tokio::test]
async fn keys_that_lead_out_are_refused() {
    for key in ["s/../../../outside", "s/a/../b", "s/.."] {
        let world = World::new(move |seen| bucket(seen, &[(key, "x"), ("s/z", "z")])).await;
        let info = json!({"path": world.url("/my-bucket/s/")});

        let refused = world.download("S3", info, "in/").await.unwrap_err();

        assert_eq!(
            refused,
            format!("{key:?} would leave the destination folder")
        );
        assert!(
            files(world.root.path())
                .iter()
                .all(|(name, _)| !name.contains("outside"))
        );
    }
}

#[tokio::test]
async fn object_is_got_without_the_right_to_list_and_a_public_one_without_any() {
    let world = World::new(|seen| match (seen.method.as_str(), seen.query.as_str()) {
        ("HEAD", _) => ok(""),
        (_, "") if seen.path.ends_with("public") && seen.header("authorization").is_empty() => {
            ok("for all")
        }
        (_, "") if seen.path.ends_with("mine") => ok("for me"),
        _ => refusal(403, "AccessDenied"),
    })
    .await;
    let path = |key: &str| json!({"path": world.url(&format!("/my-bucket/{key}"))});

    world.download("S3", path("mine"), "").await.unwrap();
    world.download("S3", path("public"), "").await.unwrap();
    let refused = world.download("S3", path("theirs"), "").await.unwrap_err();
    let folder = world.download("S3", path("folder/"), "").await.unwrap_err();

    assert_eq!(
        listed(&files(&world.downloads())),
        [("mine", "for me"), ("public", "for all")]
    );
    assert!(refused.contains("AccessDenied"), "{refused}");
    assert!(folder.contains("AccessDenied"), "{folder}");
}

#[tokio::test]
async fn missing_object_and_service_that_is_away_are_told() {
    let world = World::new(|seen| bucket(seen, &[])).await;
    let info = json!({"path": world.url("/my-bucket/none")});
    let refused = world.download("S3", info.clone(), "f").await.unwrap_err();
    assert!(refused.contains("NoSuchKey"), "{refused}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);

    let info = json!({"url": gone, "allowInsecureDownload": true});
    let away = world.download("HTTP", info, "f").await.unwrap_err();

    let expected = "Failed to download file: Cannot execute request: cannot connect to 127.0.0.1";
    assert!(away.starts_with(expected), "{away}");
    assert!(!world.downloads().join("f").exists());
}

#[tokio::test]
async fn document_is_saved_under_its_name_or_as_the_file_that_is_named() {
    let world = World::new(|seen| {
        assert_eq!(seen.operation(), "GetDocument");
        match seen.json()["Name"].as_str() {
            Some("Gone") => Reply::refusal("InvalidDocument"),
            _ => {
                Reply::json(r#"{"Content":"{\"schemaVersion\":\"2.2\"}","DocumentFormat":"JSON"}"#)
            }
        }
    })
    .await;
    let arn = "arn:aws:ssm:us-east-1:111122223333:document/My-Doc:7";

    world
        .download("SSMDocument", json!({"name": arn}), "docs/")
        .await
        .unwrap();
    world
        .download("SSMDocument", json!({"name": "Other"}), "one.json")
        .await
        .unwrap();
    let gone = world
        .download("SSMDocument", json!({"name": "Gone"}), "")
        .await;
    let nameless = world
        .download("SSMDocument", json!({"name": " "}), "")
        .await;

    let content = "{\"schemaVersion\":\"2.2\"}";
    assert_eq!(
        listed(&files(&world.downloads())),
        [("docs/My-Doc.json", content), ("one.json", content)]
    );
    let asked = world.server.seen()[0].json();
    assert_eq!(
        asked,
        json!({"Name": "arn:aws:ssm:us-east-1:111122223333:document/My-Doc", "DocumentVersion": "7"})
    );
    assert!(gone.unwrap_err().contains("InvalidDocument"));
    assert!(nameless.is_err());
}

/// GitHub's API, for a token.
fn github(seen: &Seen) -> Reply {
    let token = r#"{"Parameters":[{"Name":"t","Type":"SecureString","Value":"token"}]}"#;
    if seen.operation() == "GetParameters" {
        return Reply::json(token);
    }
    if seen.header("authorization") != "Bearer token" {
        return Reply(401, vec![], String::new());
    }
    let is_raw = seen.header("accept").contains("raw");
    let file = |name: &str, path: &str| json!({"type": "file", "name": name, "path": path});
    let reply = |value: Value| Reply::json(&value.to_string());
    let within = |content: &str| {
        let mut one = file("hi.sh", "d/hi.sh");
        // GitHub breaks its lines.
        let mut text = BASE64.encode(content);
        text.insert(3, '\n');
        one["content"] = json!(text);
        one["encoding"] = json!("base64");
        one
    };
    match (seen.path.as_str(), seen.query.as_str(), is_raw) {
        ("/repos/o/r/contents/d/hi.sh", "ref=master", false) => reply(within("echo hi")),
        ("/repos/o/r/contents/d/hi.sh", "ref=master" | "ref=abc", true) => ok("raw hi"),
        ("/repos/o/r/contents/d", "ref=abc", false) => reply(json!([
            file("hi.sh", "d/hi.sh"),
            {"type": "dir", "name": "e", "path": "d/e"},
            {"type": "symlink", "name": "l", "path": "d/l"},
        ])),
        ("/repos/o/r/contents/d/e", "ref=abc", false) => reply(json!([file("big", "d/e/big")])),
        ("/repos/o/r/contents/d/e/big", "ref=abc", true) => ok("big"),
        ("/repos/o/r/contents/d/l", "ref=abc", false) => reply(within("linked")),
        ("/repos/o/r/contents/big", "ref=master", false) => {
            let mut one = file("big", "big");
            one["encoding"] = json!("none");
            reply(one)
        }
        ("/repos/o/r/contents/big", "ref=master", true) => ok("big"),
        ("/repos/o/r/contents/sub", "ref=abc", false) => {
            reply(json!({"type": "submodule", "name": "sub", "path": "sub"}))
        }
        ("/repos/o/r/contents/out", "ref=abc", false) => reply(json!([file("x", "out/../../x")])),
        ("/repos/o/main/contents/hi.sh", "", false) => reply(within("main")),
        ("/repos/o/spent/contents/hi.sh", _, _) => {
            let spent = vec![("x-ratelimit-remaining", "0".to_owned())];
            Reply(403, spent, String::new())
        }
        _ => Reply(404, vec![], String::new()),
    }
}

#[tokio::test]
async fn files_and_folders_of_github_are_got_with_a_token() {
    let world = World::new(github).await;
    let info = |repository: &str, path: &str, options: &str| {
        json!({
            "owner": "o", "repository": repository, "path": path, "getOptions": options,
            "tokenInfo": "{{ ssm-secure:t }}",
        })
    };

    world
        .download("GitHub", info("r", "d/hi.sh", ""), "")
        .await
        .unwrap();
    world
        .download("GitHub", info("r", "big", ""), "large")
        .await
        .unwrap();
    world
        .download("GitHub", info("main", "hi.sh", ""), "main")
        .await
        .unwrap();
    world
        .download("GitHub", info("r", "/d/", "commitID:abc"), "tree")
        .await
        .unwrap();

    assert_eq!(
        listed(&files(&world.downloads())),
        [
            ("hi.sh", "echo hi"),
            ("large", "big"),
            ("main", "main"),
            ("tree/e/big", "big"),
            ("tree/hi.sh", "raw hi"),
            ("tree/l", "linked"),
        ]
    );
    for (info, why) in [
        (
            info("r", "none", "commitID:abc"),
            "Failed to download file: Status: 404 Not Found (\"none\" on GitHub)",
        ),
        (
            info("spent", "hi.sh", "branch:x"),
            "Failed to download file: Status: Rate limit exceeded (\"hi.sh\" on GitHub)",
        ),
        (
            info("r", "sub", "commitID:abc"),
            "Could not download from GitHub repository: \"sub\" is a submodule",
        ),
        (
            info("r", "out", "commitID:abc"),
            "\"out/../../x\" would leave the destination folder",
        ),
        (
            info("r/..", "d", ""),
            "\"r/..\" would leave the destination folder",
        ),
        (
            json!({"owner": "o", "path": "d"}),
            "the repository must be specified in SourceInfo for the source type GitHub",
        ),
        (
            json!({"owner": "o", "repository": "r", "path": "d", "tokenInfo": "token"}),
            "tokenInfo must be '{{ ssm-secure:parameter-name }}'",
        ),
        (
            json!({"owner": "o", "repository": "r", "path": "d"}),
            "Failed to download file: Status: 401 Unauthorized, tokenInfo gives no access (\"d\" on GitHub)",
        ),
    ] {
        let refused = world.download("GitHub", info, "x").await.unwrap_err();
        assert_eq!(refused, why);
    }
    let kept = files(world.root.path());
    assert!(kept.iter().all(|(_, content)| content != "token"));
}

#[tokio::test]
async fn file_of_http_has_the_name_that_is_given_or_the_same_one_each_time() {
    let world = World::new(|seen| match seen.path.as_str() {
        "/moved" => Reply(302, vec![("location", "/there".into())], String::new()),
        "/there" => ok("there"),
        _ => Reply(404, vec![], String::new()),
    })
    .await;
    let info = |path: &str| json!({"url": world.url(path), "allowInsecureDownload": true});

    world.download("HTTP", info("/moved"), "in/").await.unwrap();
    world.download("HTTP", info("/there"), "in/").await.unwrap();
    world
        .download("HTTP", info("/there"), "file")
        .await
        .unwrap();
    let missing = world.download("HTTP", info("/missing"), "none").await;

    let found = files(&world.downloads());
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0].0, "file");
    let number = found[1].0.strip_prefix("in/download").unwrap();
    assert!(number.parse::<u64>().is_ok(), "{number}");
    assert_eq!(
        missing.unwrap_err(),
        "Failed to download file: Status: 404 Not Found"
    );
}

#[tokio::test]
async fn insecure_urls_and_others_are_refused() {
    let world = World::new(|_| ok("x")).await;
    for (url, why) in [
        (
            world.url("/"),
            "Non secure URL provided and insecure download is not allowed. Provide a secure URL or set 'allowInsecureDownload' to true to perform the download operation",
        ),
        (
            "file:///etc/passwd".to_owned(),
            "the url in SourceInfo must be of http or https",
        ),
        (
            "nothing".to_owned(),
            "the url in SourceInfo is none: relative URL without a base",
        ),
    ] {
        let refused = world.download("HTTP", json!({"url": url}), "f").await;
        assert_eq!(refused.unwrap_err(), why);
    }
    let info = json!({"url": "https://localhost:1/", "authMethod": "Bearer"});
    let refused = world.download("HTTP", info, "f").await.unwrap_err();
    assert_eq!(
        refused,
        "authMethod must be None, Basic or Digest, not \"Bearer\""
    );
    assert!(world.server.seen().is_empty());
}

#[tokio::test]
async fn server_is_told_who_asks_in_the_way_that_is_named() {
    const CHALLENGE: &str = "Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256";
    let world = World::new(|seen| {
        if seen.operation() == "GetParameters" {
            let value =
                r#"{"Parameters":[{"Name":"p","Type":"SecureString","Value":"pass word"}]}"#;
            return Reply::json(value);
        }
        let shown = seen.header("authorization");
        match seen.path.as_str() {
            "/basic" if shown == format!("Basic {}", BASE64.encode("me:pass word")) => ok("basic"),
            "/digest" if shown.starts_with("Digest username=\"me\"") => ok("digest"),
            "/none" if shown.is_empty() => ok("none"),
            "/digest" => Reply(
                401,
                vec![("www-authenticate", CHALLENGE.into())],
                String::new(),
            ),
            _ => Reply(401, vec![], String::new()),
        }
    })
    .await;
    for method in ["Basic", "Digest", "None"] {
        let path = format!("/{}?x=1", method.to_lowercase());
        let info = json!({
            "url": world.url(&path), "authMethod": method, "username": "me",
            "password": "{{ssm-secure:p}}", "allowInsecureDownload": true,
        });
        world.download("HTTP", info, method).await.unwrap();
    }

    let answers: Vec<_> = files(&world.downloads())
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    assert_eq!(answers, ["basic", "digest", "none"]);
    let info = json!({
        "url": world.url("/basic"), "authMethod": "Digest", "username": "me", "password": "wrong",
        "allowInsecureDownload": true,
    });
    let refused = world.download("HTTP", info, "x").await.unwrap_err();
    assert!(
        refused.starts_with("Failed to download file: Status: 401"),
        "{refused}"
    );
    let kept = files(world.root.path());
    assert!(
        kept.iter()
            .all(|(_, content)| !content.contains("pass word"))
    );
}

/// A server that answers the n-th connection with these bytes, and closes it unless they are the last.
async fn raw(answers: &'static [&'static str]) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut open = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.ends_with("...") {
                open.push(stream);
            }
        }
        std::future::pending::<()>().await;
    });
    (url, serving)
}

#[tokio::test]
async fn file_whose_connection_broke_begins_again() {
    let world = World::new(|_| ok("")).await;
    let (url, serving) = raw(&[
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabcdef",
    ])
    .await;

    let info = json!({"url": url, "allowInsecureDownload": true});
    world.download("HTTP", info, "f").await.unwrap();

    assert_eq!(listed(&files(&world.downloads())), [("f", "abcdef")]);
    serving.abort();
}

#[tokio::test]
async fn file_that_is_too_long_is_refused_before_it_is_read() {
    let world = World::new(|_| ok("")).await;
    let (url, serving) = raw(&["HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n..."]).await;

    let info = json!({"url": url, "allowInsecureDownload": true});
    let refused = world.download("HTTP", info, "f").await.unwrap_err();

    assert_eq!(refused, "the content is longer than the limit of 4 GiB");
    serving.abort();
}

#[tokio::test]
async fn cancelled_download_ends_and_leaves_no_part_of_a_file() {
    let world = World::new(|_| ok("")).await;
    let (url, serving) = raw(&["HTTP/1.1 200 OK\r\ncontent-length: 600\r\n\r\nabc..."]).await;
    let inputs = json!({
        "sourceType": "HTTP", "sourceInfo": {"url": url, "allowInsecureDownload": true},
        "destinationPath": "f",
    });
    let cancel = CancellationToken::new();

    let running = steps::run(
        world.task("aws:downloadContent", &inputs, Begun::No),
        &cancel,
    );
    let cancelling = async {
        let begun =
            || fs::read_dir(world.downloads()).is_ok_and(|mut entries| entries.next().is_some());
        while !begun() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(running, cancelling);

    assert_eq!(ended.status, Status::Cancelled);
    assert_eq!(files(&world.downloads()), []);
    serving.abort();
}

#[tokio::test]
async fn download_that_was_cut_off_starts_over() {
    let world = World::new(|_| ok("whole")).await;
    let info = json!({"url": world.url("/"), "allowInsecureDownload": true});
    let inputs = json!({"sourceType": "HTTP", "sourceInfo": info, "destinationPath": "f"});
    // What a killed agent left.
    let place = destination::Place {
        base: world.downloads(),
        below: vec![],
    };
    let folder = tree::Folder::open(place).await.unwrap();
    let budget = &mut tree::Budget::default();
    folder.write("f", "old".into(), budget).await.unwrap();

    let task = world.task("aws:downloadContent", &inputs, Begun::ThisBoot);
    let ended = steps::run(task, &CancellationToken::new()).await;

    assert_eq!(ended.status, Status::Success);
    assert_eq!(listed(&files(&world.downloads())), [("f", "whole")]);
}
