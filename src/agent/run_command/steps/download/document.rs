//! The source `SSMDocument`: a document of Systems Manager, saved as it is.

use super::super::ssm_document::{self, DocumentName};
use super::destination::Destination;
use super::source_info::SourceInfo;
use super::tree::{Budget, Folder};
use super::{Context, DownloadError};

/// Downloads the document that is named.
pub(super) async fn download(
    context: &Context<'_>,
    info: &SourceInfo,
    destination: &Destination,
) -> Result<(), DownloadError> {
    let named = info.text("name")?;
    if named.is_empty() {
        return Err(DownloadError::Input(
            "the name of the document must be specified in SourceInfo".into(),
        ));
    }
    let name = DocumentName::parse(&named);
    let (place, file) = destination.file(&format!("{}.json", name.base()))?;
    let content = ssm_document::get(context.client()?, &name)
        .await
        .map_err(DownloadError::Call)?;
    let folder = Folder::open(place).await?;
    folder
        .write(&file, content.into(), &mut Budget::default())
        .await
}
