//! `firelink graph`: the dependencies of a configuration, for a terminal, for Graphviz, for Mermaid or as SVG.

mod dot;
mod mermaid;
mod svg;
mod text;

use std::path::PathBuf;

use argh::FromArgs;

use super::load::load;
use super::out::{Done, Failure, print};
use super::terminal::Terminal;
use crate::config::{Config, Surroundings};
use crate::dag::{Condition, Graph};
use crate::model::{JobId, TriggerWord};

/// draw the dependencies of the jobs
#[derive(Debug, FromArgs)]
#[argh(subcommand, name = "graph")]
pub struct Args {
    /// the configuration, a YAML file
    #[argh(positional)]
    config: PathBuf,
    /// text (default), dot, mermaid or svg
    #[argh(option, default = "Shape::Text", from_str_fn(parse_shape))]
    format: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Text,
    Dot,
    Mermaid,
    Svg,
}

fn parse_shape(word: &str) -> Result<Shape, String> {
    match word {
        "text" => Ok(Shape::Text),
        "dot" => Ok(Shape::Dot),
        "mermaid" => Ok(Shape::Mermaid),
        "svg" => Ok(Shape::Svg),
        _ => Err(format!("invalid format `{word}`: expected `text`, `dot`, `mermaid` or `svg`")),
    }
}

pub(super) fn run(args: &Args) -> Done {
    let config = load(&args.config, &Surroundings::of_this_process())?;
    let edges: Vec<Box<[JobId]>> = config.rules.jobs.iter().map(|job| job.depends_on.clone()).collect();
    let graph = Graph::new(&edges).map_err(|_| Failure::failed("the dependencies have a cycle"))?;
    print(&match args.format {
        Shape::Text => text::draw(&config, &graph, Terminal::of_stdout()),
        Shape::Dot => dot::draw(&config, &graph),
        Shape::Mermaid => mermaid::draw(&config, &graph),
        Shape::Svg => svg::draw(&config, &graph),
    })
}

fn name(config: &Config, job: JobId) -> &str {
    &config.jobs[job.index()].name
}

/// The job's trigger; empty if it is triggered by its dependencies alone.
fn trigger(config: &Config, job: JobId) -> String {
    let rules = &config.rules.jobs[job.index()];
    let of_dependencies = matches!(rules.trigger, TriggerWord::Manual | TriggerWord::AfterDeps) && !rules.depends_on.is_empty();
    let mut words = if of_dependencies { String::new() } else { config.jobs[job.index()].trigger.summary() };
    if !rules.enabled {
        words.push_str(if words.is_empty() { "disabled" } else { ", disabled" });
    }
    words
}

/// The condition, unless it is the default.
fn condition(config: &Config, job: JobId) -> Option<&'static str> {
    let condition = config.rules.jobs[job.index()].policy.condition;
    let word = Condition::WORDS.iter().find(|(_, known)| *known == condition).map(|(word, _)| *word);
    word.filter(|_| condition != Condition::default())
}

/// Every edge, upstream first.
fn edges<'g>(config: &Config, graph: &'g Graph) -> impl Iterator<Item = (JobId, JobId)> + 'g {
    let jobs = (0..).take(config.jobs.len()).map(JobId);
    jobs.flat_map(|down| graph.upstream(down).iter().map(move |up| (*up, down)))
}
