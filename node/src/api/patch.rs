//! Changing an object by a description of the change: JSON patch, JSON merge patch, strategic merge patch.

mod strategic;

use http::StatusCode;
use serde_json::Value;

pub use strategic::strategic;

use crate::{Error, Result};

/// The most operations in a JSON patch, as in the real API.
const OPERATIONS: usize = 10_000;
/// The most bytes that the copy operations of a JSON patch may add.
const COPIED: usize = 3 << 20;

/// Applies a JSON patch (RFC 6902).
pub fn json(target: &mut Value, patch: Value) -> Result<()> {
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|e| {
        Error::bad_request(format!("error decoding patch: it is not a list of JSON patch operations: {e}"))
    })?;
    if patch.0.len() > OPERATIONS {
        let message = format!("The allowed maximum operations in a JSON patch is {OPERATIONS}, got {}", patch.0.len());
        return Err(Error::refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
    }
    let mut copied = 0;
    for operation in patch.0 {
        if let json_patch::PatchOperation::Copy(copy) = &operation
            && let Ok(source) = copy.from.resolve(target)
        {
            copied += source.to_string().len();
            if copied > COPIED {
                let message = format!("the copies in the JSON patch come to more than {COPIED} bytes");
                return Err(Error::refused(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message));
            }
        }
        json_patch::patch(target, &[operation]).map_err(|e| {
            let message = format!("the server rejected our request due to an error in our request: {e}");
            Error::refused(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        })?;
    }
    Ok(())
}

/// Applies a JSON merge patch (RFC 7396).
pub fn merge(target: &mut Value, patch: &Value) {
    json_patch::merge(target, patch);
}
