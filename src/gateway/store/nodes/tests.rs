use std::time::Duration;

use super::*;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

async fn store_with(ids: &'static [&'static str]) -> Store {
    let store = Store::open_in_memory().unwrap();
    store
        .call(move |connection| {
            for id in ids {
                insert_custom(connection, id, "", now())?;
            }
            Ok(())
        })
        .await
        .unwrap();
    store
}

#[tokio::test]
async fn short_report_keeps_what_the_full_one_said() {
    let store = store_with(&["i-00000001"]).await;
    let full = Report {
        agent_name: "amazon-ssm-agent".into(),
        agent_version: "3.3.0.0".into(),
        computer_name: "host.fqdn".into(),
        ..Report::default()
    };
    let short = Report {
        agent_version: "3.4.0.0".into(),
        ..Report::default()
    };
    let later = now() + Duration::from_secs(300);

    assert!(
        store
            .record_report("i-00000001", full, now())
            .await
            .unwrap()
    );
    assert!(
        store
            .record_report("i-00000001", short, later)
            .await
            .unwrap()
    );

    let node = store.node("i-00000001").await.unwrap().unwrap();
    assert_eq!(node.report.agent_version, "3.4.0.0");
    assert_eq!(node.report.computer_name, "host.fqdn");
    assert_eq!(node.last_ping, Some(later));
}

#[tokio::test]
async fn report_of_an_unknown_node_is_not_kept() {
    let store = store_with(&[]).await;

    let kept = store
        .record_report("i-00000009", Report::default(), now())
        .await;

    assert!(!kept.unwrap());
}

#[tokio::test]
async fn pages_hold_every_wanted_node_once_in_order() {
    let store = store_with(&[
        "i-00000005",
        "i-00000001",
        "i-00000003",
        "i-00000002",
        "i-00000004",
    ])
    .await;

    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store
            .nodes(after, 2, |node| node.node_id != "i-00000003")
            .await
            .unwrap();
        seen.extend(page.items.into_iter().map(|node| node.node_id));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    assert_eq!(
        seen,
        ["i-00000001", "i-00000002", "i-00000004", "i-00000005"]
    );
    assert_eq!(
        pages, 2,
        "a full last page has no token that leads to an empty one"
    );
}

#[tokio::test]
async fn key_of_another_node_cannot_be_taken_over() {
    let store = store_with(&["i-00000001", "i-00000002"]).await;

    assert!(
        store
            .replace_public_key("i-00000001", "key".into())
            .await
            .unwrap()
    );
    assert!(
        !store
            .replace_public_key("i-00000002", "key".into())
            .await
            .unwrap()
    );
    assert!(
        !store
            .replace_public_key("i-00000003", "new".into())
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn deregistered_node_is_gone_with_its_keys() {
    let store = Store::open_in_memory().unwrap();
    let key = store
        .create_node_access_key("lab", "i-00000001", now())
        .await
        .unwrap();

    assert!(store.deregister_node("i-00000001").await.unwrap());
    assert!(!store.deregister_node("i-00000001").await.unwrap());

    assert_eq!(store.node("i-00000001").await.unwrap(), None);
    assert!(
        store
            .access_key(&key.access_key_id)
            .await
            .unwrap()
            .is_none()
    );
}

#[test]
fn node_ids_are_those_of_the_service_model() {
    for id in ["i-01234567", "i-0123456789abcdef0", "mi-0123456789abcdef0"] {
        assert!(is_node_id(id), "{id}");
    }
    for id in [
        "",
        "mi-",
        "mi-01234567",
        "i-0123456",
        "x-01234567",
        "i-0123456/",
        "ecs:a_b_c",
    ] {
        assert!(!is_node_id(id), "{id}");
    }
}

#[tokio::test]
async fn instance_gets_one_key_that_nobody_else_has() {
    let store = store_with(&["i-00000001", "i-00000002"]).await;
    let register = async |id: &str, key: &str| {
        let registered = store.register_instance_key(id, key.into()).await;
        registered.unwrap()
    };

    assert_eq!(register("i-00000001", "key").await, Ok(()));
    assert_eq!(
        register("i-00000001", "other").await,
        Err(InstanceRefused::Registered)
    );
    assert_eq!(
        register("i-00000002", "key").await,
        Err(InstanceRefused::KeyInUse)
    );

    let node = store.node("i-00000001").await.unwrap().unwrap();
    assert_eq!(node.public_key.as_deref(), Some("key"));
    assert_eq!(node.fingerprint, "i-00000001");
}
