//! Files of a job: the store keeps them, the platform only hands out addresses.

use serde::{Deserialize, Serialize};

use super::{
    Range, Span,
    check::{At, Checked},
};

/// Files of a job (VP-27). Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilePolicy {
    /// A name's length in characters (1 to 255).
    pub name: Range<u32>,
    /// What the buyer hands over.
    pub input: FileLimits,
    /// What the worker hands in.
    pub deliverable: FileLimits,
    /// All files of a job together (5 GB).
    pub per_job_bytes: i64,
    /// How long an address for uploading lives (30 min).
    pub upload_lives: Span,
    /// How long an address for downloading lives (1 h).
    pub download_lives: Span,
    /// What a buyer may see before completion.
    pub preview: PreviewPolicy,
    /// Extensions that are refused, without the dot.
    pub blocked_extensions: Vec<String>,
}

/// How many files, and how large each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileLimits {
    /// How many (10).
    pub count: u32,
    /// How large one may be (500 MB for inputs, 1 GB for deliverables).
    pub bytes: i64,
}

/// What a buyer may see of a deliverable before completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreviewPolicy {
    /// A file under this size is shown in full (10 MB).
    pub full_below: i64,
    /// Of a larger one, this much from its beginning (512 KB).
    pub first: i64,
}

/// The largest size a policy may name: one exbibyte.
const SIZE_LIMIT: i64 = 1 << 60;

impl FilePolicy {
    pub(super) fn check(&self, at: &At) -> Checked {
        at.field("name").range(self.name, 1, 1000)?;
        at.field("per_job_bytes").within(self.per_job_bytes, 1, SIZE_LIMIT)?;
        for (name, limits) in [("input", self.input), ("deliverable", self.deliverable)] {
            at.field(name).field("count").count(limits.count)?;
            at.field(name).field("bytes").within(limits.bytes, 1, self.per_job_bytes)?;
        }
        at.field("upload_lives").span(self.upload_lives)?;
        at.field("download_lives").span(self.download_lives)?;
        at.field("preview.full_below").within(self.preview.full_below, 0, SIZE_LIMIT)?;
        at.field("preview.first").within(self.preview.first, 0, self.preview.full_below)?;
        match self.blocked_extensions.is_empty() {
            true => Ok(()),
            false => at.field("blocked_extensions").words(&self.blocked_extensions),
        }
    }
}
