//! stub
use anyhow::Result;
use std::path::Path;
/// stub
pub fn write(_directory: &Path) -> Result<()> {
    Ok(())
}
