use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn new_activation(limit: u32) -> NewActivation {
    NewActivation {
        description: Some("rack 7".into()),
        default_instance_name: Some("web".into()),
        iam_role: "SSMServiceRole".into(),
        registration_limit: limit,
        expires: now() + HOUR,
        tags: vec![Tag {
            key: "site".into(),
            value: "lab".into(),
        }],
    }
}

fn new_node(key: &str) -> NewNode {
    NewNode {
        public_key: key.into(),
        fingerprint: "8a0f16b0-fded-4044-ba46-709a519a01b7".into(),
    }
}

#[tokio::test]
async fn activation_is_listed_as_it_was_made_and_its_code_is_stored_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.db");
    let store = Store::open(&path).unwrap();

    let issued = store
        .create_activation(new_activation(5), now())
        .await
        .unwrap();
    let page = store.activations(None, 10, |_| true).await.unwrap();

    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].activation_id, issued.activation_id);
    assert_eq!(page.items[0].details, new_activation(5));
    assert_eq!(page.items[0].created, now());
    for name in ["gateway.db", "gateway.db-wal"] {
        let bytes = std::fs::read(path.with_file_name(name)).unwrap();
        let code = issued.code.expose().as_bytes();
        assert!(
            !bytes.windows(code.len()).any(|window| window == code),
            "{name}"
        );
    }
}

#[tokio::test]
async fn node_registers_with_the_right_code_and_inherits_what_the_activation_says() {
    let store = Store::open_in_memory().unwrap();
    let issued = store
        .create_activation(new_activation(2), now())
        .await
        .unwrap();

    let node_id = store
        .register_node(&issued.activation_id, issued.code, new_node("key"), now())
        .await
        .unwrap()
        .unwrap();

    let node = store.node(&node_id).await.unwrap().unwrap();
    assert!(node_id.starts_with("mi-") && node_id.len() == 20);
    assert_eq!(node.name, "web");
    assert_eq!(node.iam_role, "SSMServiceRole");
    assert_eq!(
        node.activation_id.as_deref(),
        Some(issued.activation_id.as_str())
    );
    assert_eq!(node.registered, now());
}

#[tokio::test]
async fn wrong_code_and_unknown_activation_are_refused_alike() {
    let store = Store::open_in_memory().unwrap();
    let issued = store
        .create_activation(new_activation(1), now())
        .await
        .unwrap();
    let unknown = Uuid::new_v4().to_string();

    for (id, code) in [
        (
            issued.activation_id.as_str(),
            Secret::new("xxxxxxxxxxxxxxxxxxxx"),
        ),
        (unknown.as_str(), issued.code.clone()),
        (issued.activation_id.as_str(), Secret::new("")),
    ] {
        let refused = store
            .register_node(id, code, new_node("key"), now())
            .await
            .unwrap();
        assert_eq!(refused, Err(RegistrationRefused::Unknown), "{id}");
    }
}

#[tokio::test]
async fn expired_activation_is_refused() {
    let store = Store::open_in_memory().unwrap();
    let issued = store
        .create_activation(new_activation(1), now())
        .await
        .unwrap();

    let refused = store
        .register_node(
            &issued.activation_id,
            issued.code,
            new_node("key"),
            now() + HOUR,
        )
        .await
        .unwrap();

    assert_eq!(refused, Err(RegistrationRefused::Expired));
}

#[tokio::test]
async fn registration_limit_holds_when_hosts_register_at_once() {
    let store = Store::open_in_memory().unwrap();
    let issued = store
        .create_activation(new_activation(3), now())
        .await
        .unwrap();

    let mut attempts = tokio::task::JoinSet::new();
    for number in 0..8 {
        let (store, issued) = (store.clone(), issued.clone());
        attempts.spawn(async move {
            let node = new_node(&format!("key {number}"));
            store
                .register_node(&issued.activation_id, issued.code, node, now())
                .await
                .unwrap()
        });
    }
    let results = attempts.join_all().await;

    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 3);
    let refused = results
        .iter()
        .filter(|result| **result == Err(RegistrationRefused::UsedUp));
    assert_eq!(refused.count(), 5);
    let page = store.activations(None, 10, |_| true).await.unwrap();
    assert_eq!(page.items[0].registrations_count, 3);
}

#[tokio::test]
async fn key_of_another_node_is_refused_and_does_not_count() {
    let store = Store::open_in_memory().unwrap();
    let issued = store
        .create_activation(new_activation(3), now())
        .await
        .unwrap();
    let register = || {
        store.register_node(
            &issued.activation_id,
            issued.code.clone(),
            new_node("key"),
            now(),
        )
    };

    let first = register().await.unwrap();
    let second = register().await.unwrap();

    assert!(first.is_ok());
    assert_eq!(second, Err(RegistrationRefused::KeyInUse));
    let page = store.activations(None, 10, |_| true).await.unwrap();
    assert_eq!(page.items[0].registrations_count, 1);
}

#[tokio::test]
async fn pages_hold_every_activation_once_newest_first() {
    let store = Store::open_in_memory().unwrap();
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(
            store
                .create_activation(new_activation(1), now())
                .await
                .unwrap()
                .activation_id,
        );
    }
    made.reverse();

    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.activations(after, 3, |_| true).await.unwrap();
        seen.extend(page.items.into_iter().map(|item| item.activation_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    assert_eq!(seen, made);
}

#[tokio::test]
async fn deleted_activation_registers_nobody_and_keeps_its_nodes() {
    let store = Store::open_in_memory().unwrap();
    let issued = store
        .create_activation(new_activation(3), now())
        .await
        .unwrap();
    let id = &issued.activation_id;
    let registered = store
        .register_node(id, issued.code.clone(), new_node("a"), now())
        .await
        .unwrap();

    assert!(store.delete_activation(id).await.unwrap());
    assert!(!store.delete_activation(id).await.unwrap());
    let refused = store
        .register_node(id, issued.code, new_node("b"), now())
        .await
        .unwrap();

    assert_eq!(refused, Err(RegistrationRefused::Unknown));
    assert!(store.node(&registered.unwrap()).await.unwrap().is_some());
}
