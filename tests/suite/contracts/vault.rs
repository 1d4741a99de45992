//! KMS, behind the vault. The world has none: there the vault has one key, as on a stack of one machine.

use std::time::Duration;

use channel::store::{Store, Tables};
use channel::vault::{AdditionalData, Kms, Sealed, Secret, Vault, VaultError};
use domain::time::Timestamp;

use super::dynamo::{Table, text};
use super::{Engines, Kind};

/// Of one key of KMS and one table.
struct Installation<'a> {
    engines: &'a Engines,
    key: String,
    table: &'static str,
}

impl Installation<'_> {
    /// A container's vault, which remembers nothing yet.
    fn vault(&self) -> Vault {
        let Kind::Ministack(ministack) = &self.engines.kind else { panic!("only ministack has KMS") };
        let tables = Tables { config: self.table.to_owned(), conversations: "none".to_owned(), messages: "none".to_owned() };
        Vault::wrapped(Kms::new(ministack.kms(), self.key.clone()), Store::new(self.engines.dynamo.clone(), tables))
    }
}

async fn new_key(engines: &Engines) -> String {
    let Kind::Ministack(ministack) = &engines.kind else { panic!("only ministack has KMS") };
    let made = aws_sdk_kms::Client::from_conf(ministack.kms()).create_key().send().await.expect("is made");
    made.key_metadata.expect("it is described").key_id
}

pub(super) async fn secrets_are_sealed_under_keys_that_kms_wraps(engines: &Engines) {
    Table::create(engines, "vault").await;
    let installation = Installation { engines, key: new_key(engines).await, table: "vault" };
    let (field, now) = (AdditionalData::of_connection("demo", "access_token"), Timestamp::from_millis(1_790_000_000_000));
    let secret = Secret::new("example-access-token");
    // Many containers make the first key at once: one is kept, and all use it.
    let vaults: Vec<Vault> = std::iter::repeat_with(|| installation.vault()).take(20).collect();
    let sealed = futures::future::join_all(vaults.iter().map(|it| it.seal(&secret, &field, now))).await;
    let sealed: Vec<Sealed> = sealed.into_iter().map(|it| it.expect("seals")).collect();
    let fresh = installation.vault();
    for it in &sealed {
        assert_eq!(fresh.open(it, &field).await.expect("opens"), secret);
    }
    let (one, first) = (&vaults[0], &sealed[0]);
    let elsewhere = AdditionalData::of_connection("other", "access_token");
    assert!(matches!(one.open(first, &elsewhere).await, Err(VaultError::Tampered)));
    // After a month there is another key, and what the first has sealed opens still.
    let later = one.seal(&secret, &field, now.plus(Duration::from_hours(31 * 24))).await.expect("seals");
    let key_of = |it: &dyn ToString| it.to_string().split('.').nth(1).expect("a key").to_owned();
    assert_ne!(key_of(first), key_of(&later));
    let fresh = installation.vault();
    assert_eq!(fresh.open(&later, &field).await.expect("opens"), secret);
    assert_eq!(fresh.open(first, &field).await.expect("opens"), secret);
    // A wrapped key that is put in another's place does not open there.
    let [from, to] = [first, &later].map(|it| text(&format!("DATA_KEY#{}", key_of(it))));
    let item = engines.dynamo.get_item().table_name("vault").key("pk", from).key("sk", text("META")).send().await.expect("is read").item;
    let mut item = item.expect("it is kept");
    assert!(!format!("{item:?}").contains("example-access-token"));
    item.insert("pk".to_owned(), to);
    engines.dynamo.put_item().table_name("vault").set_item(Some(item)).send().await.expect("is put");
    assert!(matches!(installation.vault().open(&later, &field).await, Err(VaultError::Kms(_))));
    let stranger = Installation { key: new_key(engines).await, ..installation };
    // AWS refuses: <https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html>. Ministack gives a key that opens nothing.
    assert!(matches!(stranger.vault().open(first, &field).await, Err(VaultError::Kms(_) | VaultError::Tampered)));
    // What was sealed under a key that is not kept says so.
    let unknown = "v1.data-1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".parse().expect("a sealed value");
    assert!(matches!(stranger.vault().open(&unknown, &field).await, Err(VaultError::NoKey(_))));
}
