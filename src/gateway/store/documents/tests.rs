use std::time::SystemTime;

use super::*;
use crate::gateway::store::Store;

#[tokio::test]
async fn document_comes_back_as_it_was_stored() {
    let store = Store::open_in_memory().unwrap();
    let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123);
    let new = NewDocument {
        tags: vec![Tag {
            key: "team".into(),
            value: "lab".into(),
        }],
        version: NewVersion {
            version_name: Some("first".into()),
            display_name: Some("A shell".into()),
            target_type: Some("/AWS::EC2::Instance".into()),
            ..version("{}")
        },
        ..new("Doc")
    };

    let made = store
        .create_document(new.clone(), now)
        .await
        .unwrap()
        .unwrap();

    assert_eq!(made.version, new.version);
    assert_eq!(
        (
            made.number,
            made.default_version,
            made.latest_version,
            made.created
        ),
        (1, 1, 1, now)
    );
    for selector in [
        VersionSelector::Default,
        VersionSelector::Latest,
        VersionSelector::Number(1),
        VersionSelector::Name("first".into()),
    ] {
        let read = store.document("Doc", selector).await.unwrap();
        assert_eq!(read.as_ref(), Ok(&made));
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let store = Store::open_in_memory().unwrap();
    create(&store, "Doc").await;

    for (name, selector, refused) in [
        ("Other", VersionSelector::Default, DocumentRefused::Unknown),
        (
            "Doc",
            VersionSelector::Number(2),
            DocumentRefused::UnknownVersion,
        ),
        (
            "Doc",
            VersionSelector::Name("v".into()),
            DocumentRefused::UnknownVersion,
        ),
    ] {
        assert_eq!(
            store.document(name, selector).await.unwrap().unwrap_err(),
            refused
        );
    }
    let unknown = store.delete_document("Other").await.unwrap();
    assert_eq!(unknown, Err(DocumentRefused::Unknown));
    let again = store.create_document(new("Doc"), SystemTime::now()).await;
    assert_eq!(again.unwrap().unwrap_err(), DocumentRefused::Exists);
}

#[tokio::test]
async fn version_follows_the_newest_only_and_differs_from_all_others() {
    let store = Store::open_in_memory().unwrap();
    create(&store, "Doc").await;
    let named = NewVersion {
        version_name: Some("two".into()),
        ..version("two")
    };
    let second = add(&store, VersionSelector::Latest, named).await.unwrap();
    assert_eq!(
        (second.number, second.latest_version, second.default_version),
        (2, 2, 1)
    );

    let same_name = NewVersion {
        version_name: Some("two".into()),
        ..version("three")
    };
    for (after, new, refused) in [
        (
            VersionSelector::Number(1),
            version("three"),
            DocumentRefused::NotLatest,
        ),
        (
            VersionSelector::Number(9),
            version("three"),
            DocumentRefused::UnknownVersion,
        ),
        (
            VersionSelector::Latest,
            version("Doc"),
            DocumentRefused::SameContent,
        ),
        (
            VersionSelector::Number(2),
            same_name,
            DocumentRefused::SameVersionName,
        ),
    ] {
        assert_eq!(add(&store, after, new).await.unwrap_err(), refused);
    }
}

#[tokio::test]
async fn number_of_a_deleted_version_is_not_given_again() {
    let store = Store::open_in_memory().unwrap();
    create(&store, "Doc").await;
    add(&store, VersionSelector::Latest, version("two"))
        .await
        .unwrap();
    let delete = |number| store.delete_document_version("Doc", VersionSelector::Number(number));

    assert_eq!(
        delete(1).await.unwrap(),
        Err(DocumentRefused::IsDefault),
        "the default version stays"
    );
    assert_eq!(delete(2).await.unwrap(), Ok(()));
    assert_eq!(
        delete(2).await.unwrap(),
        Err(DocumentRefused::UnknownVersion)
    );
    let latest = store.document("Doc", VersionSelector::Latest).await;
    assert_eq!(latest.unwrap().unwrap().number, 1);
    let third = add(&store, VersionSelector::Latest, version("two"))
        .await
        .unwrap();
    assert_eq!(third.number, 3);
}

#[tokio::test]
async fn default_version_is_one_that_exists() {
    let store = Store::open_in_memory().unwrap();
    create(&store, "Doc").await;
    add(&store, VersionSelector::Latest, version("two"))
        .await
        .unwrap();

    let missing = store.set_default_document_version("Doc", 3).await.unwrap();
    assert_eq!(missing.unwrap_err(), DocumentRefused::UnknownVersion);
    let set = store.set_default_document_version("Doc", 2).await.unwrap();
    assert_eq!(set.unwrap().default_version, 2);
    let default = store.document("Doc", VersionSelector::Default).await;
    assert_eq!(default.unwrap().unwrap().version.content, "two");
}

#[tokio::test]
async fn deleted_document_takes_its_versions_along() {
    let store = Store::open_in_memory().unwrap();
    create(&store, "Doc").await;
    add(&store, VersionSelector::Latest, version("two"))
        .await
        .unwrap();

    store.delete_document("Doc").await.unwrap().unwrap();

    let left = store.document_versions("Doc", None, 10).await.unwrap();
    assert!(left.items.is_empty());
    let again = create(&store, "Doc").await;
    assert_eq!((again.number, again.latest_version), (1, 1));
}

#[tokio::test]
async fn pages_list_every_document_and_version_once() {
    let store = Store::open_in_memory().unwrap();
    for name in ["D", "B", "A", "E", "C"] {
        create(&store, name).await;
    }
    let (mut names, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .documents(after, 2, |document| document.name != "B")
            .await
            .unwrap();
        names.extend(page.items.into_iter().map(|document| document.name));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(names, ["A", "C", "D", "E"]);

    for content in ["two", "three"] {
        let new = version(content);
        let after = VersionSelector::Latest;
        let now = SystemTime::now();
        let added = store.add_document_version("A", after, new, now).await;
        added.unwrap().unwrap();
    }
    let page = store.document_versions("A", None, 2).await.unwrap();
    assert_eq!(numbers(&page.items), [3, 2]);
    assert_eq!(page.next.as_deref(), Some("2"));
    let page = store.document_versions("A", Some(2), 2).await.unwrap();
    assert_eq!((numbers(&page.items), page.next), (vec![1], None));
}

#[tokio::test]
async fn documents_and_versions_are_limited() {
    let store = Store::open_in_memory().unwrap();
    create(&store, "Doc").await;
    store
        .call(|connection| {
            connection.execute_batch(&format!(
                "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {VERSION_LIMIT})
                 INSERT INTO document_versions
                 SELECT 'Doc', i, NULL, NULL, NULL, 'JSON', '1.0', '', '', i, i, '', 0, '[]' FROM n;
                 WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {DOCUMENT_LIMIT})
                 INSERT INTO documents SELECT 'Doc' || i, 'Session', '[]', 1, 1 FROM n;"
            ))
        })
        .await
        .unwrap();

    let version = add(&store, VersionSelector::Latest, version("more")).await;
    let document = store.create_document(new("More"), SystemTime::now()).await;

    assert_eq!(version.unwrap_err(), DocumentRefused::TooManyVersions);
    assert_eq!(document.unwrap().unwrap_err(), DocumentRefused::TooMany);
}

fn numbers(documents: &[Document]) -> Vec<u32> {
    documents.iter().map(|document| document.number).collect()
}

async fn create(store: &Store, name: &str) -> Document {
    let made = store.create_document(new(name), SystemTime::now()).await;
    made.unwrap().unwrap()
}

async fn add(
    store: &Store,
    after: VersionSelector,
    new: NewVersion,
) -> Result<Document, DocumentRefused> {
    let now = SystemTime::now();
    let added = store.add_document_version("Doc", after, new, now).await;
    added.unwrap()
}

fn new(name: &str) -> NewDocument {
    NewDocument {
        name: name.into(),
        document_type: "Session".into(),
        tags: Vec::new(),
        version: version(name),
    }
}

/// A version whose hash is its content.
fn version(content: &str) -> NewVersion {
    NewVersion {
        version_name: None,
        display_name: None,
        target_type: None,
        format: "JSON".into(),
        schema_version: "1.0".into(),
        platforms: vec!["Linux".into(), "MacOS".into()],
        description: String::new(),
        content: content.into(),
        hash: content.into(),
        author: "arn:alice".into(),
        attachments: vec![Attachment {
            name: "a.zip".into(),
            sha256: "ab".into(),
            size: 7,
            url: Some("https://h/a.zip".into()),
        }],
    }
}
