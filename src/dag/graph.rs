//! placeholder until the graph lands
use crate::model::JobId;
#[derive(Debug, Default)]
/// The graph.
pub struct Graph {
    down: Vec<Vec<JobId>>,
}
impl Graph {
    /// From each job's dependencies.
    /// # Errors
    /// Cycles.
    pub fn new(edges: &[Box<[JobId]>]) -> Result<Graph, Vec<Vec<JobId>>> {
        let mut down = vec![Vec::new(); edges.len()];
        for (job, deps) in edges.iter().enumerate() {
            for dep in deps {
                down[dep.index()].push(JobId(job as u32));
            }
        }
        Ok(Graph { down })
    }
    /// Who depends on a job.
    pub fn downstream(&self, job: JobId) -> &[JobId] {
        &self.down[job.index()]
    }
}
