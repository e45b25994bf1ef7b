//! The dependency graph: adjacency in both directions, and a topological order.
//!
//! petgraph sorts it and finds the strongly connected components; the results are kept as flat lists, 16 bytes a job and
//! 8 an edge, because the graph lives as long as the configuration.

use std::collections::VecDeque;

use petgraph::algo::{kosaraju_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::model::JobId;

/// The dependencies of all jobs, without a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    down: Lists,
    up: Lists,
    order: Box<[JobId]>,
}

impl Graph {
    /// From the dependencies of each job, indexed by [`JobId`]. A dependency on a job that is not in the list is
    /// ignored.
    ///
    /// Linear in jobs and edges, in time and in memory, without recursion.
    ///
    /// # Errors
    /// A shortest cycle of each strongly connected component, from its first job on, each job followed by one of its
    /// dependents. Components are in the order of their first jobs.
    pub fn new(edges: &[Box<[JobId]>]) -> Result<Graph, Vec<Vec<JobId>>> {
        let mut graph = DiGraph::<(), ()>::with_capacity(edges.len(), edges.iter().map(|deps| deps.len()).sum());
        for _ in edges {
            graph.add_node(());
        }
        for (down, up) in all_edges(edges) {
            graph.add_edge(node(up), node(down), ());
        }
        let down = Lists::new(edges.len(), || all_edges(edges).map(|(down, up)| (up, down)));
        match toposort(&graph, None) {
            Ok(order) => {
                Ok(Graph { down, up: Lists::new(edges.len(), || all_edges(edges)), order: order.into_iter().map(job).collect() })
            }
            Err(_) => {
                let mut groups: Vec<Vec<JobId>> = kosaraju_scc(&graph)
                    .into_iter()
                    .map(|group| group.into_iter().map(job).collect::<Vec<JobId>>())
                    .filter(|group| group.len() > 1 || group.iter().any(|only| down.of(*only).contains(only)))
                    .collect();
                groups.iter_mut().for_each(|group| group.sort_unstable());
                groups.sort_unstable();
                let mut search = Search::new(edges.len());
                Err(groups.iter().map(|group| search.shortest_cycle(&down, group)).collect())
            }
        }
    }

    /// The layer of each job: the number of edges of the longest path to it from a root.
    #[must_use]
    pub fn layers(&self) -> Vec<u32> {
        let mut layers = vec![0; self.order().len()];
        for job in self.order() {
            let above = self.upstream(*job).iter().map(|up| layers[up.index()] + 1).max();
            layers[job.index()] = above.unwrap_or(0);
        }
        layers
    }

    /// The direct dependents of a job, in the order of the file.
    #[must_use]
    pub fn downstream(&self, job: JobId) -> &[JobId] {
        self.down.of(job)
    }

    /// The direct dependencies of a job, in the order in which it names them.
    #[must_use]
    pub fn upstream(&self, job: JobId) -> &[JobId] {
        self.up.of(job)
    }

    /// Every job, none before one of its dependencies.
    #[must_use]
    pub fn order(&self) -> &[JobId] {
        &self.order
    }
}

/// Each job with each of its dependencies: (downstream, upstream).
fn all_edges(edges: &[Box<[JobId]>]) -> impl Iterator<Item = (JobId, JobId)> {
    let count = edges.len();
    let jobs = (0u32..).map(JobId);
    let pairs = jobs.zip(edges).flat_map(|(down, deps)| deps.iter().map(move |up| (down, *up)));
    pairs.filter(move |(_, up)| up.index() < count)
}

fn node(job: JobId) -> NodeIndex {
    NodeIndex::from(job.0)
}

fn job(node: NodeIndex) -> JobId {
    JobId(u32::try_from(node.index()).unwrap_or(u32::MAX))
}

/// One list of jobs for each job, in two allocations.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Lists {
    /// The index at which each job's list begins, and one more entry for the end of the last.
    starts: Box<[u32]>,
    items: Box<[JobId]>,
}

impl Lists {
    /// From (owner, item) pairs, which `pairs` yields twice in the same order.
    fn new<I: Iterator<Item = (JobId, JobId)>>(jobs: usize, pairs: impl Fn() -> I) -> Lists {
        let mut starts = vec![0u32; jobs + 1];
        for (owner, _) in pairs() {
            starts[owner.index() + 1] += 1;
        }
        for index in 0..jobs {
            starts[index + 1] += starts[index];
        }
        let mut next = starts.clone();
        let mut items = vec![JobId(0); starts[jobs] as usize];
        for (owner, item) in pairs() {
            let slot = &mut next[owner.index()];
            items[*slot as usize] = item;
            *slot += 1;
        }
        Lists { starts: starts.into(), items: items.into() }
    }

    fn of(&self, job: JobId) -> &[JobId] {
        let bound = |index: usize| self.starts.get(index).map_or(self.items.len(), |at| *at as usize);
        &self.items[bound(job.index())..bound(job.index().saturating_add(1))]
    }
}

/// A breadth-first search whose memory is reused for every component, so that many small ones cost no more than a large
/// one.
struct Search {
    came_from: Vec<Option<JobId>>,
    in_group: Vec<bool>,
}

impl Search {
    fn new(jobs: usize) -> Search {
        Search { came_from: vec![None; jobs], in_group: vec![false; jobs] }
    }

    /// The shortest path from the group's first job back to itself. The group is strongly connected, so there is one.
    fn shortest_cycle(&mut self, down: &Lists, group: &[JobId]) -> Vec<JobId> {
        let Some(&start) = group.first() else { return Vec::new() };
        group.iter().for_each(|member| self.in_group[member.index()] = true);
        let mut queue = VecDeque::from([start]);
        'search: while let Some(at) = queue.pop_front() {
            for &next in down.of(at).iter().filter(|next| self.in_group[next.index()]) {
                if self.came_from[next.index()].is_none() {
                    self.came_from[next.index()] = Some(at);
                    queue.push_back(next);
                }
                if next == start {
                    break 'search;
                }
            }
        }
        let mut cycle = Vec::new();
        let mut at = start;
        while let Some(before) = self.came_from[at.index()] {
            cycle.push(before);
            at = before;
            if at == start {
                break;
            }
        }
        cycle.reverse();
        for member in group {
            self.in_group[member.index()] = false;
            self.came_from[member.index()] = None;
        }
        cycle
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edges(lists: &[&[u32]]) -> Vec<Box<[JobId]>> {
        lists.iter().map(|list| list.iter().copied().map(JobId).collect()).collect()
    }

    fn ids(list: &[u32]) -> Vec<JobId> {
        list.iter().copied().map(JobId).collect()
    }

    #[test]
    fn an_edge_is_found_from_both_ends() {
        let graph = Graph::new(&edges(&[&[], &[0], &[1, 0], &[]])).unwrap();
        assert_eq!(graph.downstream(JobId(0)), ids(&[1, 2]));
        assert_eq!(graph.upstream(JobId(2)), ids(&[1, 0]));
        assert_eq!(graph.downstream(JobId(3)), ids(&[]));
        assert_eq!(graph.upstream(JobId(9)), ids(&[]), "an unknown job has no dependencies");
    }

    #[test]
    fn a_cycle_is_reported_from_its_first_job_on_along_the_edges() {
        // 1 depends on 3, 2 on 1, 3 on 2; 0 and 4 are in no cycle.
        let graph = Graph::new(&edges(&[&[], &[3, 0], &[1], &[2], &[3]]));
        assert_eq!(graph, Err(vec![ids(&[1, 2, 3])]));
    }

    #[test]
    fn each_separate_cycle_is_reported_once() {
        let graph = Graph::new(&edges(&[&[1], &[0], &[3], &[2], &[4]]));
        assert_eq!(graph, Err(vec![ids(&[0, 1]), ids(&[2, 3]), ids(&[4])]));
    }

    #[test]
    fn the_shortest_cycle_of_a_component_is_reported() {
        let graph = Graph::new(&edges(&[&[3, 1], &[0], &[1], &[2]]));
        assert_eq!(graph, Err(vec![ids(&[0, 1])]));
    }

    #[test]
    fn long_chains_wide_fans_and_long_cycles_are_handled() {
        const JOBS: u32 = 100_000;
        let chain: Vec<Box<[JobId]>> = (0..JOBS).map(|job| job.checked_sub(1).map(JobId).into_iter().collect()).collect();
        let order: Vec<JobId> = (0..JOBS).map(JobId).collect();
        assert_eq!(Graph::new(&chain).unwrap().order(), order);

        let fan: Vec<Box<[JobId]>> = (0..JOBS).map(|job| (job > 0).then_some(JobId(0)).into_iter().collect()).collect();
        assert_eq!(Graph::new(&fan).unwrap().downstream(JobId(0)).len(), JOBS as usize - 1);

        let ring: Vec<Box<[JobId]>> = (0..JOBS).map(|job| [JobId((job + JOBS - 1) % JOBS)].into()).collect();
        assert_eq!(Graph::new(&ring), Err(vec![order]));
    }

    proptest! {
        #[test]
        fn the_order_respects_every_edge_or_there_is_a_real_cycle(
            lists in (1u32..12).prop_flat_map(|n| proptest::collection::vec(proptest::collection::vec(0..n, 0..3), n as usize))
        ) {
            let lists: Vec<Box<[JobId]>> = lists.iter().map(|list| list.iter().copied().map(JobId).collect()).collect();
            match Graph::new(&lists) {
                Ok(graph) => {
                    let place = |job: &JobId| graph.order().iter().position(|at| at == job).unwrap();
                    prop_assert_eq!(graph.order().len(), lists.len());
                    for (job, deps) in lists.iter().enumerate() {
                        prop_assert!(deps.iter().all(|dep| place(dep) < place(&JobId(job as u32))));
                        prop_assert_eq!(graph.upstream(JobId(job as u32)), &**deps);
                    }
                }
                Err(cycles) => {
                    prop_assert!(!cycles.is_empty());
                    for cycle in cycles {
                        for (at, job) in cycle.iter().enumerate() {
                            prop_assert!(lists[cycle[(at + 1) % cycle.len()].index()].contains(job));
                        }
                    }
                }
            }
        }
    }
}
