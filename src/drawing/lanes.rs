//! A drawing of the graph with one line a job, for terminals: `git log --graph`, for jobs.
//!
//! Each job follows its dependencies as soon as possible. A job with dependents opens a lane that goes down to the last of
//! them; a job's line shows which lanes lead to it.

use std::collections::BTreeSet;

use crate::dag::Graph;
use crate::model::JobId;

/// The maximum of lanes side by side. Past it only the text of a line names the upstream jobs.
pub const LANES: usize = 12;

/// One column of a line: the directions in which strokes leave its middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The column of the line's job.
    pub is_job: bool,
    /// A stroke from above.
    pub up: bool,
    /// A stroke to below.
    pub down: bool,
    /// A stroke to the left.
    pub left: bool,
    /// A stroke to the right.
    pub right: bool,
    /// The strokes to the sides cross the lane here without joining it.
    pub passed: bool,
}

/// One job's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The job.
    pub job: JobId,
    /// From the left, as many as are in use.
    pub cells: Vec<Cell>,
}

/// One row a job.
#[must_use]
pub fn lanes(graph: &Graph) -> Vec<Row> {
    let mut lanes = Lanes { graph, open: Vec::new(), left: vec![0; graph.order().len()] };
    reading_order(graph).into_iter().map(|job| lanes.row(job)).collect()
}

/// A topological order in which each job comes as soon after the last of its dependencies as possible.
fn reading_order(graph: &Graph) -> Vec<JobId> {
    let jobs = graph.order().len();
    let mut missing: Vec<usize> = (0..).map(JobId).take(jobs).map(|job| graph.upstream(job).len()).collect();
    let mut ready: Vec<JobId> = (0..).map(JobId).take(jobs).filter(|job| missing[job.index()] == 0).collect();
    ready.reverse();
    let mut order = Vec::with_capacity(jobs);
    while let Some(job) = ready.pop() {
        order.push(job);
        for down in graph.downstream(job).iter().rev() {
            missing[down.index()] -= 1;
            if missing[down.index()] == 0 {
                ready.push(*down);
            }
        }
    }
    order
}

struct Lanes<'g> {
    graph: &'g Graph,
    /// The job whose lane each column is.
    open: Vec<Option<JobId>>,
    /// How many of a job's dependents have no row yet.
    left: Vec<usize>,
}

impl Lanes<'_> {
    fn row(&mut self, job: JobId) -> Row {
        let upstream: BTreeSet<JobId> = self.graph.upstream(job).iter().copied().collect();
        for up in &upstream {
            self.left[up.index()] -= 1;
        }
        let leads = |lane: &Option<JobId>| lane.is_some_and(|lane| upstream.contains(&lane));
        let ends = |lane: &Option<JobId>, left: &[usize]| lane.is_some_and(|lane| left[lane.index()] == 0);
        // The job continues the first lane that ends with it, else it takes the first free column.
        let inherits = self.open.iter().position(|lane| leads(lane) && ends(lane, &self.left));
        let free = || self.open.iter().position(Option::is_none).unwrap_or(self.open.len());
        let at = inherits.unwrap_or_else(free);
        let mut cells = vec![Cell::default(); self.open.len().max(at + 1)];
        for (cell, lane) in cells.iter_mut().zip(&self.open) {
            cell.up = lane.is_some();
            cell.down = lane.is_some() && !ends(lane, &self.left);
        }
        // One stroke from the leftmost lane that leads here to the rightmost.
        let ends_of_stroke = (0..).zip(&self.open).filter(|(_, lane)| leads(lane)).map(|(column, _)| column).chain([at]);
        let (first, last) = ends_of_stroke.fold((at, at), |(first, last), column: usize| (first.min(column), last.max(column)));
        for (column, cell) in cells.iter_mut().enumerate().take(last + 1).skip(first) {
            cell.left = column > first;
            cell.right = column < last;
            cell.passed = cell.up && column != at && !self.open.get(column).is_some_and(leads);
        }
        self.open.iter_mut().filter(|lane| lane.is_some_and(|lane| self.left[lane.index()] == 0)).for_each(|lane| *lane = None);
        self.left[job.index()] = self.graph.downstream(job).len();
        cells[at].is_job = true;
        if self.left[job.index()] > 0 && at < LANES {
            if at == self.open.len() {
                self.open.push(None);
            }
            self.open[at] = Some(job);
            cells[at].down = true;
        }
        while self.open.last() == Some(&None) {
            self.open.pop();
        }
        Row { job, cells }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(lists: &[&[u32]]) -> Graph {
        let edges: Vec<Box<[JobId]>> = lists.iter().map(|list| list.iter().copied().map(JobId).collect()).collect();
        Graph::new(&edges).unwrap()
    }

    fn drawn(graph: &Graph) -> Vec<String> {
        let stroke = |cell: &Cell| match (cell.is_job, cell.up, cell.down, cell.left, cell.right) {
            (true, ..) => '*',
            (_, false, _, false, false) => ' ',
            (_, true, true, false, false) => '|',
            _ if cell.passed => '|',
            (_, true, true, ..) => '+',
            (_, true, false, ..) => '\'',
            (..) => '-',
        };
        super::lanes(graph)
            .iter()
            .map(|row| format!("{}{}", row.cells.iter().map(stroke).collect::<String>(), row.job.0))
            .collect()
    }

    #[test]
    fn a_chain_stays_in_one_column() {
        assert_eq!(drawn(&graph(&[&[], &[0], &[1]])), ["*0", "*1", "*2"]);
    }

    #[test]
    fn two_that_lead_to_a_third_and_a_diamond() {
        assert_eq!(drawn(&graph(&[&[], &[], &[0, 1]])), ["*0", "|*1", "*'2"]);
        assert_eq!(drawn(&graph(&[&[], &[0], &[0], &[1, 2]])), ["*0", "+*1", "*|2", "*'3"]);
    }

    #[test]
    fn a_lane_that_has_nothing_to_do_with_a_job_is_crossed() {
        // 3 depends on 0 and 2; the lane of 1 lies between them and goes on to 4.
        assert_eq!(drawn(&graph(&[&[], &[], &[], &[0, 2], &[1, 3]])), ["*0", "|*1", "||*2", "*|'3", "*'4"]);
    }

    #[test]
    fn a_hundred_thousand_jobs_take_no_more_than_the_lanes() {
        let fan: Vec<Vec<u32>> = (0..100_000).map(|job: u32| job.checked_sub(50_000).into_iter().collect()).collect();
        let lists: Vec<&[u32]> = fan.iter().map(Vec::as_slice).collect();
        assert!(super::lanes(&graph(&lists)).iter().all(|row| row.cells.len() <= LANES + 1));
    }

    proptest! {
        #[test]
        fn strokes_meet_and_every_job_has_a_row_after_its_upstream(
            lists in (1u32..20).prop_flat_map(|n| proptest::collection::vec(proptest::collection::vec(0..n, 0..3), n as usize))
        ) {
            let edges: Vec<Box<[JobId]>> = (0u32..)
                .zip(&lists)
                .map(|(own, list)| {
                    let deps: BTreeSet<u32> = list.iter().copied().filter(|dep| *dep < own).collect();
                    deps.into_iter().map(JobId).collect()
                })
                .collect();
            let graph = Graph::new(&edges).unwrap();
            let rows = super::lanes(&graph);
            let place = |job: JobId| rows.iter().position(|row| row.job == job).unwrap();
            prop_assert_eq!(rows.len(), edges.len());
            for row in &rows {
                prop_assert!(graph.upstream(row.job).iter().all(|up| place(*up) < place(row.job)));
                prop_assert_eq!(row.cells.iter().filter(|cell| cell.is_job).count(), 1);
                for pair in row.cells.windows(2) {
                    prop_assert_eq!(pair[0].right, pair[1].left, "{:?}", row);
                }
                prop_assert!(!row.cells[0].left && !row.cells[row.cells.len() - 1].right);
            }
            for pair in rows.windows(2) {
                for (column, cell) in pair[0].cells.iter().enumerate() {
                    prop_assert_eq!(cell.down, pair[1].cells.get(column).is_some_and(|below| below.up), "{:?}", pair);
                }
            }
        }
    }
}
