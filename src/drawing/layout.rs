//! A layered layout: a column for each layer, and rows in which few edges cross and none bends far.
//!
//! Sugiyama's method, each phase linear in points and edges: a job's layer is the longest path to it from a root; an edge
//! over several layers gets a bend in each between; the order within a layer follows the mean of the neighbours
//! (barycenter heuristic), sweeping forth and back; then rows are as near to that mean as the order allows.

use crate::dag::Graph;
use crate::model::JobId;

/// Sweeps of each phase; more change little in graphs that people read.
const SWEEPS: usize = 6;

/// The maximum of bends; a graph past it is drawn with straight edges, because its edges can't be followed anyway.
const BENDS: usize = 100_000;

/// The minimum distance between a bend and its neighbours in a column, in rows; jobs need 1.
const BEND_ROOM: f64 = 0.5;

/// A position: the column is the layer, rows count from 0 at the top and may be fractional.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// From the left.
    pub column: u32,
    /// From the top.
    pub row: f64,
}

/// An edge, from its upstream job through its bends to its downstream job.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Upstream.
    pub from: JobId,
    /// Downstream.
    pub to: JobId,
    /// One in each column between.
    pub bends: Vec<Place>,
}

/// A drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The position of each job. Jobs without an edge are below the others, in lines.
    pub places: Vec<Place>,
    /// Every edge.
    pub lines: Vec<Line>,
    /// The number of columns.
    pub columns: u32,
    /// The number of rows.
    pub rows: f64,
}

impl Layout {
    /// A drawing of all jobs.
    #[must_use]
    pub fn of(graph: &Graph) -> Layout {
        let mut points = Points::of(graph);
        points.order();
        points.relax();
        points.finish(graph)
    }
}

fn is_alone(graph: &Graph, job: JobId) -> bool {
    graph.upstream(job).is_empty() && graph.downstream(job).is_empty()
}

/// Jobs and bends, both called points, while they are being placed.
struct Points {
    /// The columns, each from top to bottom, of points.
    columns: Vec<Vec<usize>>,
    points: Vec<Point>,
    /// The point of each job.
    of_job: Vec<Option<usize>>,
    lines: Vec<(JobId, JobId, Vec<usize>)>,
}

#[derive(Default)]
struct Point {
    column: usize,
    row: f64,
    is_bend: bool,
    left: Vec<usize>,
    right: Vec<usize>,
}

impl Points {
    fn of(graph: &Graph) -> Points {
        let layers = graph.layers();
        let jobs = || graph.order().iter().filter(|job| !is_alone(graph, **job));
        let columns = jobs().map(|job| layers[job.index()] as usize + 1).max().unwrap_or(0);
        let mut points =
            Points { columns: vec![Vec::new(); columns], points: Vec::new(), of_job: vec![None; layers.len()], lines: vec![] };
        for job in jobs() {
            points.of_job[job.index()] = Some(points.add(layers[job.index()] as usize, false));
        }
        let span = |up: &JobId, down: &JobId| (layers[down.index()] - layers[up.index()]) as usize;
        let bends: usize = jobs().flat_map(|down| graph.upstream(*down).iter().map(move |up| span(up, down) - 1)).sum();
        for down in jobs() {
            for up in graph.upstream(*down) {
                let (Some(mut at), Some(end)) = (points.of_job[up.index()], points.of_job[down.index()]) else { continue };
                let mut through = Vec::new();
                if bends <= BENDS {
                    for step in 1..span(up, down) {
                        let bend = points.add(layers[up.index()] as usize + step, true);
                        points.join(at, bend);
                        through.push(bend);
                        at = bend;
                    }
                }
                points.join(at, end);
                points.lines.push((*up, *down, through));
            }
        }
        points
    }

    fn add(&mut self, column: usize, is_bend: bool) -> usize {
        let point = self.points.len();
        let row = self.columns[column].len() as f64;
        self.points.push(Point { column, row, is_bend, ..Point::default() });
        self.columns[column].push(point);
        point
    }

    fn join(&mut self, left: usize, right: usize) {
        self.points[left].right.push(right);
        self.points[right].left.push(left);
    }

    /// The mean row of a point's neighbours on one side; its own where it has none there.
    fn mean(&self, point: usize, to_left: bool) -> f64 {
        let point = &self.points[point];
        let near = if to_left { &point.left } else { &point.right };
        if near.is_empty() {
            return point.row;
        }
        near.iter().map(|other| self.points[*other].row).sum::<f64>() / near.len() as f64
    }

    /// Orders each column by the mean of the neighbours and renumbers its rows.
    fn order(&mut self) {
        for sweep in 0..SWEEPS {
            let forth = sweep % 2 == 0;
            for column in self.walk(forth) {
                let mut keyed: Vec<(f64, usize)> =
                    self.columns[column].iter().map(|point| (self.mean(*point, forth), *point)).collect();
                // A stable sort: what is equal stays in the order of the file.
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                for (row, (_, point)) in keyed.iter().enumerate() {
                    self.points[*point].row = row as f64;
                }
                self.columns[column] = keyed.into_iter().map(|(_, point)| point).collect();
            }
        }
    }

    /// Moves rows towards the neighbours' without changing any order.
    fn relax(&mut self) {
        for sweep in 0..SWEEPS {
            let forth = sweep % 2 == 0;
            for column in self.walk(forth) {
                self.relax_column(column, forth);
            }
        }
    }

    /// Each point should be at the mean of its neighbours, with room below the one above it: least squares under an order,
    /// solved exactly by pooling adjacent violators.
    fn relax_column(&mut self, column: usize, forth: bool) {
        let points = &self.columns[column];
        let mut room = 0.0;
        let mut rooms = Vec::with_capacity(points.len());
        // (sum of desired rows, members), each pool's mean above the next one's.
        let mut pools: Vec<(f64, usize)> = Vec::new();
        for (at, point) in points.iter().enumerate() {
            if at > 0 {
                let bends = self.points[*point].is_bend || self.points[points[at - 1]].is_bend;
                room += if bends { BEND_ROOM } else { 1.0 };
            }
            rooms.push(room);
            pools.push((self.mean(*point, forth) - room, 1));
            while let [.., above, below] = pools[..]
                && above.0 / above.1 as f64 >= below.0 / below.1 as f64
            {
                pools.truncate(pools.len() - 2);
                pools.push((above.0 + below.0, above.1 + below.1));
            }
        }
        let desired = pools.iter().flat_map(|(sum, members)| std::iter::repeat_n(sum / *members as f64, *members));
        let rows: Vec<(usize, f64)> =
            points.iter().zip(desired.zip(&rooms)).map(|(point, (row, room))| (*point, row + room)).collect();
        rows.into_iter().for_each(|(point, row)| self.points[point].row = row);
    }

    /// The columns in the sweep's direction, without the first, whose points have no neighbours behind them.
    fn walk(&self, forth: bool) -> Vec<usize> {
        let last = self.columns.len();
        if forth { (1..last).collect() } else { (0..last.saturating_sub(1)).rev().collect() }
    }

    fn finish(self, graph: &Graph) -> Layout {
        let top = self.points.iter().map(|point| point.row).fold(f64::INFINITY, f64::min);
        let place = |point: usize| {
            let Point { column, row, .. } = self.points[point];
            Place { column: u32::try_from(column).unwrap_or(u32::MAX), row: row - top }
        };
        let lines = self.lines.iter().map(|(from, to, bends)| Line {
            from: *from,
            to: *to,
            bends: bends.iter().map(|bend| place(*bend)).collect(),
        });
        let mut layout = Layout {
            places: vec![Place { column: 0, row: 0.0 }; self.of_job.len()],
            lines: lines.collect(),
            columns: u32::try_from(self.columns.len()).unwrap_or(u32::MAX),
            rows: (0..self.points.len()).map(|point| place(point).row + 1.0).fold(0.0, f64::max).ceil(),
        };
        for (job, point) in self.of_job.iter().enumerate() {
            layout.places[job] = point.map_or(layout.places[job], place);
        }
        layout.put_alone(graph);
        layout
    }
}

impl Layout {
    /// Places jobs without an edge, in lines as wide as the rest.
    fn put_alone(&mut self, graph: &Graph) {
        const AT_LEAST: u32 = 4;
        let alone: Vec<JobId> = (0..).take(self.places.len()).map(JobId).filter(|job| is_alone(graph, *job)).collect();
        let across = self.columns.max(AT_LEAST);
        let (mut column, mut row) = (0, self.rows);
        for job in &alone {
            if column == across {
                (column, row) = (0, row + 1.0);
            }
            self.places[job.index()] = Place { column, row };
            column += 1;
            self.columns = self.columns.max(column);
        }
        if !alone.is_empty() {
            self.rows = row + 1.0;
        }
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

    #[test]
    fn a_layer_is_the_longest_path_from_a_root() {
        // 0 -> 1 -> 2 -> 3, 0 -> 3, and 4 by itself.
        assert_eq!(graph(&[&[], &[0], &[1], &[0, 2], &[]]).layers(), [0, 1, 2, 3, 0]);
    }

    #[test]
    fn edges_that_would_cross_are_untangled() {
        // Two pairs, named crosswise.
        let layout = Layout::of(&graph(&[&[], &[], &[1], &[0]]));
        let row = |job: usize| layout.places[job].row;
        assert_eq!((row(0) < row(1)), (row(3) < row(2)), "{layout:?}");
    }

    #[test]
    fn a_chain_is_a_straight_line_and_a_long_edge_bends_around_what_it_passes() {
        let layout = Layout::of(&graph(&[&[], &[0], &[1], &[2, 0]]));
        let long = layout.lines.iter().find(|line| line.from == JobId(0) && line.to == JobId(3)).unwrap();
        assert_eq!(long.bends.iter().map(|bend| bend.column).collect::<Vec<_>>(), [1, 2]);
        for bend in &long.bends {
            let passed = &layout.places[bend.column as usize];
            assert!((bend.row - passed.row).abs() >= BEND_ROOM, "{layout:?}");
        }
        assert_eq!(Layout::of(&graph(&[&[], &[0], &[1]])).places.iter().map(|place| place.row).collect::<Vec<_>>(), [0.0; 3]);
    }

    #[test]
    fn ten_thousand_jobs_without_an_edge_fill_lines() {
        let layout = Layout::of(&graph(&vec![&[][..]; 10_000]));
        assert_eq!((layout.columns, layout.rows), (4, 2_500.0));
    }

    proptest! {
        #[test]
        fn every_job_has_a_place_of_its_own_and_every_edge_goes_to_the_right(
            lists in (1u32..30).prop_flat_map(|n| proptest::collection::vec(proptest::collection::vec(0..n, 0..4), n as usize))
        ) {
            // Edges from lower to higher numbers only: no cycle.
            let edges: Vec<Box<[JobId]>> = (0u32..)
                .zip(&lists)
                .map(|(own, list)| {
                    let mut deps: Vec<u32> = list.iter().copied().filter(|dep| *dep < own).collect();
                    deps.sort_unstable();
                    deps.dedup();
                    deps.into_iter().map(JobId).collect()
                })
                .collect();
            let graph = Graph::new(&edges).unwrap();
            let layout = Layout::of(&graph);
            let layers = graph.layers();
            for (job, place) in layout.places.iter().enumerate() {
                prop_assert!(place.row >= 0.0 && place.row <= layout.rows - 1.0 && place.column < layout.columns);
                prop_assert!(is_alone(&graph, JobId(job as u32)) || place.column == layers[job]);
                for other in &layout.places[..job] {
                    prop_assert!(place.column != other.column || (place.row - other.row).abs() > 0.99, "{:?}", layout);
                }
            }
            prop_assert_eq!(layout.lines.len(), edges.iter().map(|deps| deps.len()).sum::<usize>());
            for line in &layout.lines {
                prop_assert!(edges[line.to.index()].contains(&line.from));
                prop_assert!(layers[line.from.index()] < layers[line.to.index()]);
            }
        }
    }
}
