//! `getOptions`: which state of a repository is wanted.

use super::DownloadError;

/// Which state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum GetOptions {
    /// The default one.
    Default,
    /// A branch.
    Branch(String),
    /// A commit.
    Commit(String),
}

impl GetOptions {
    /// Reads `branch:x` or `commitID:x`; the texts are the reference's.
    pub(super) fn read(text: &str) -> Result<Self, DownloadError> {
        let refused = |why: &str| DownloadError::Input(why.to_owned());
        if text.is_empty() {
            return Ok(Self::Default);
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [kind, value] = parts[..] else {
            return Err(refused(if parts.len() > 2 {
                "Only specify one required option"
            } else {
                "getOptions is not specified in the right format"
            }));
        };
        if !matches!(kind, "branch" | "commitID") {
            return Err(refused(
                "Type of option is unknown. Please use either 'branch' or 'commitID'.",
            ));
        }
        let value = value.trim();
        if value.is_empty() {
            return Err(refused("Option for retrieving git content is empty"));
        }
        // Programs that are given it must not take it for one of their own options.
        if value.starts_with('-') || value.chars().any(char::is_control) {
            return Err(DownloadError::Input(format!(
                "getOptions names the {kind} {value:?}, which cannot be one"
            )));
        }
        Ok(match kind {
            "branch" => Self::Branch(value.to_owned()),
            _ => Self::Commit(value.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_refused_in_the_words_of_the_reference() {
        let read = |text: &str| GetOptions::read(text).map_err(|error| error.to_string());

        assert_eq!(read(""), Ok(GetOptions::Default));
        assert_eq!(read("branch: main "), Ok(GetOptions::Branch("main".into())));
        assert_eq!(read("commitID:abc"), Ok(GetOptions::Commit("abc".into())));
        for (text, why) in [
            (
                "tag:v1",
                "Type of option is unknown. Please use either 'branch' or 'commitID'.",
            ),
            ("branch:", "Option for retrieving git content is empty"),
            ("branch: ", "Option for retrieving git content is empty"),
            ("branch:a,commitID:b", "Only specify one required option"),
            ("main", "getOptions is not specified in the right format"),
            (
                "branch:--upload-pack=x",
                "getOptions names the branch \"--upload-pack=x\", which cannot be one",
            ),
        ] {
            assert_eq!(read(text), Err(why.to_owned()), "{text}");
        }
    }
}
