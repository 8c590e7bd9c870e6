//! A node of the demo, in this version or in the next one, whose users also have a nickname, for the tests of rolling
//! upgrades; or one whose users have a long text, for those of memory.

#[path = "../../examples/two_windows/engine.rs"]
mod engine;
#[path = "../../examples/two_windows/logins.rs"]
mod logins;
#[path = "../../examples/two_windows/options.rs"]
mod options;
#[path = "../../examples/two_windows/pages.rs"]
mod pages;
#[path = "../../examples/two_windows/server/mod.rs"]
mod server;

use std::process::ExitCode;

use clap::Parser;
use fieldsync::Collection;
use serde_json::json;

use crate::options::Options;

#[derive(Debug, Parser)]
struct NodeOptions {
    #[command(flatten)]
    demo: Options,

    /// Users also have a text of any length.
    #[arg(long)]
    texts: bool,

    /// Users also have a nickname.
    #[arg(long)]
    nick_names: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    match run(NodeOptions::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: NodeOptions) -> Result<(), String> {
    let name = json!({"type": "string", "maxLength": 100, "default": ""});
    let mut properties = json!({"first_name": name, "last_name": name});
    if options.nick_names {
        properties["nick_name"] = name;
    }
    if options.texts {
        properties["text"] = json!({"type": "string", "default": ""});
    }
    let schema = json!({"type": "object", "properties": properties});
    let users = Collection::from_schema("users", &schema)
        .timestamps()
        .add_missing_columns();
    let (engine, _) = engine::start(&options.demo, users).await?;
    server::serve(engine, &options.demo).await
}
