//! The attribute `async_test` of redis-rs's tests, which none of its packages has.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Makes a test of an `async fn`: on tokio, with a connection to a server of its own if the function takes one.
#[proc_macro_attribute]
pub fn async_test(_: TokenStream, function: TokenStream) -> TokenStream {
    let is_word = |token: &TokenTree, word: &str| matches!(token, TokenTree::Ident(ident) if ident.to_string() == word);
    let mut attributes: Vec<TokenTree> = function.into_iter().collect();
    let start = attributes.iter().position(|token| is_word(token, "async"));
    let function = attributes.split_off(start.expect("an async fn"));
    let name = function.iter().position(|token| is_word(token, "fn"));
    let name = function[name.expect("a function") + 1].to_string();
    let takes_connection = function.iter().any(|token| {
        matches!(token, TokenTree::Group(group)
            if group.delimiter() == Delimiter::Parenthesis && !group.stream().is_empty())
    });
    let call = if takes_connection {
        format!(
            "let context = crate::support::TestContext::new();
            {name}(context.async_connection().await.unwrap()).await"
        )
    } else {
        format!("{name}().await")
    };
    // Within the test its own name is the function's.
    let function: TokenStream = function.into_iter().collect();
    let test = format!(
        "#[test] fn {name}() {{
            {function}
            crate::support::block_on_all(async move {{ {call} }}, crate::support::RuntimeType::Tokio);
        }}"
    );
    let mut whole: TokenStream = attributes.into_iter().collect();
    whole.extend(test.parse::<TokenStream>().expect("a test"));
    whole
}
