//! `AWS:BillingInfo`: products that are billed with an EC2 instance.

use super::error::GatherError;
use super::item::{Item, Row};
use crate::aws::metadata::{Document, Metadata};
use crate::runtime::cause::in_one_line;

/// The type of the item.
pub(super) const TYPE: &str = "AWS:BillingInfo";
const SCHEMA: &str = "1.0";

/// The item; without anything elsewhere than on EC2.
///
/// # Errors
/// [`GatherError::Metadata`].
pub(super) async fn item(metadata: Option<&Metadata>) -> Result<Item, GatherError> {
    let document = match metadata {
        None => Document::default(),
        Some(metadata) => metadata
            .document()
            .await
            .map_err(|error| GatherError::Metadata(in_one_line(&error)))?,
    };
    let products = document.billing_products.unwrap_or_default();
    let codes = document.marketplace_product_codes.unwrap_or_default();
    let ids = products.iter().chain(&codes).map(|id| id.trim());
    let rows = ids.map(|id| Row::of([("BillingProductId", id)]));
    Ok(Item::new(TYPE, SCHEMA, rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::metadata::{Patience, Places};
    use crate::aws::tests::server::{Reply, TestServer};

    #[tokio::test]
    async fn products_and_marketplace_codes_are_told() {
        let server = TestServer::start(|_, seen| match seen.path.as_str() {
            "/latest/api/token" => Reply::json("TOKEN"),
            _ => Reply::json(
                r#"{"billingProducts":["bp-1"],"marketplaceProductCodes":[" code "],"region":"r"}"#,
            ),
        })
        .await;
        let url = format!("http://{}", server.address);
        let places = Places::from_lookup(|name| {
            (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| url.clone())
        });
        let metadata = Metadata::new(&places, server.tls(), Patience::CERTAIN);

        let item = item(Some(&metadata)).await.unwrap();

        assert_eq!(
            serde_json::to_string(&item.content).unwrap(),
            r#"[{"BillingProductId":"bp-1"},{"BillingProductId":"code"}]"#
        );
    }

    #[tokio::test]
    async fn host_elsewhere_has_none() {
        assert!(item(None).await.unwrap().content.is_empty());
    }
}
