//! The source `S3`: one object, or everything below a prefix.

mod location;

pub(in super::super) use self::location::Location;
use super::destination::Destination;
use super::source_info::SourceInfo;
use super::tree::{Budget, Folder};
use super::{Context, DownloadError, FILES, Retries};
use crate::aws::{Bucket, BucketName, CallError, Client, ObjectKey};

/// Downloads what is at the path.
pub(super) async fn download(
    context: &Context<'_>,
    info: &SourceInfo,
    destination: &Destination,
) -> Result<(), DownloadError> {
    let path = info.text("path")?;
    if path.is_empty() {
        return Err(DownloadError::Input(
            "S3 source path in SourceInfo must be specified".into(),
        ));
    }
    let client = context.client()?;
    let location = Location::parse(&path, &client.endpoints().s3)
        .ok_or_else(|| DownloadError::Input("invalid S3 path parameter".into()))?;
    let bucket = find_bucket(client, &location.bucket).await?;
    let prefix = location.prefix();
    let keys = match keys_below(&bucket, &prefix).await {
        Ok(keys) => keys,
        // The right to list is no condition for the right to read one object.
        Err(DownloadError::Call(_)) if !location.is_folder() => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let budget = &mut Budget::default();
    if keys.is_empty() {
        let key = ObjectKey::exact(&location.key)?;
        let (place, name) = destination.file(location.name())?;
        let folder = Folder::open(place).await?;
        return save(client, &bucket, &key, &folder, &name, budget).await;
    }
    let folder = Folder::open(destination.tree()).await?;
    for key in keys {
        // Such an object stands for a folder.
        if key.ends_with('/') {
            continue;
        }
        let name = key.strip_prefix(&prefix).unwrap_or(&key);
        let object = ObjectKey::exact(&key).map_err(|_| DownloadError::Leaves(key.clone()))?;
        save(client, &bucket, &object, &folder, name, budget).await?;
    }
    Ok(())
}

/// The bucket as the node may read it, or as everybody may.
async fn find_bucket(client: &Client, name: &str) -> Result<Bucket, DownloadError> {
    let name = BucketName::new(name)?;
    match client.bucket(name.clone()).await {
        Ok(bucket) => Ok(bucket),
        Err(CallError::Credentials { .. }) => {
            let public = client.public_bucket(name).await;
            public.map_err(DownloadError::Call)
        }
        Err(failure) => Err(DownloadError::Call(failure)),
    }
}

/// The keys that begin with `prefix`.
async fn keys_below(bucket: &Bucket, prefix: &str) -> Result<Vec<String>, DownloadError> {
    let mut keys = Vec::new();
    let mut after = None;
    loop {
        let page = bucket.list(prefix, after.as_deref()).await;
        let page = page.map_err(DownloadError::Call)?;
        keys.extend(page.keys);
        if keys.len() > usize::try_from(FILES).unwrap_or(usize::MAX) {
            return Err(DownloadError::TooMany);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(keys),
        }
    }
}

async fn save(
    client: &Client,
    bucket: &Bucket,
    key: &ObjectKey,
    folder: &Folder,
    name: &str,
    budget: &mut Budget,
) -> Result<(), DownloadError> {
    let mut retries = Retries::default();
    loop {
        let download = match bucket.get_object(key).await {
            // As in the reference, what everybody may read is read.
            Err(refused) if refused.status() == Some(403) => {
                let public = client.public_bucket(bucket.name().clone()).await;
                match public {
                    Ok(public) => public.get_object(key).await.map_err(|_| refused),
                    Err(_) => Err(refused),
                }
            }
            answered => answered,
        };
        let download = download.map_err(DownloadError::Call)?;
        match folder.save(name, download, budget).await {
            Ok(()) => return Ok(()),
            Err(failure) => retries.wait(failure).await?,
        }
    }
}
