//! The page: files that stand in the program, so that it needs nothing but itself.

/// One file.
#[derive(Debug)]
pub struct File {
    /// Where it is asked for.
    pub path: &'static str,
    /// What it is.
    pub kind: &'static str,
    /// What is in it.
    pub bytes: &'static [u8],
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($path:literal $kind:expr, $file:literal;)*) => {
        /// Every file.
        pub const FILES: &[File] = &[$(File {
            path: $path,
            kind: $kind,
            bytes: include_bytes!(concat!("page/", $file)),
        },)*];
    };
}

files! {
    "/" "text/html; charset=utf-8", "index.html";
    "/style.css" "text/css; charset=utf-8", "style.css";
    "/icon.svg" "image/svg+xml", "icon.svg";
    "/main.js" SCRIPT, "main.js";
    "/ask.js" SCRIPT, "ask.js";
    "/chart.js" SCRIPT, "chart.js";
    "/dom.js" SCRIPT, "dom.js";
    "/past.js" SCRIPT, "past.js";
    "/tables.js" SCRIPT, "tables.js";
    "/units.js" SCRIPT, "units.js";
}
