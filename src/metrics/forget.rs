//! Takes the series of jobs that are gone out of a family.

use std::collections::{BTreeSet, HashMap};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};

use super::families::{Counted, Shown};

impl Counted {
    pub fn forget_all_but(&self, names: &BTreeSet<&str>) {
        for family in [&self.runs, &self.triggers, &self.skipped, &self.retries, &self.items, &self.queue_processed] {
            forget(family, names);
        }
        forget(&self.duration, names);
    }
}

impl Shown {
    /// Each scrape fills these again from the table at work.
    pub fn forget_jobs(&self) {
        let whole =
            [&self.job_info, &self.job_failures, &self.job_empty_successes, &self.queue.size, &self.queue.states];
        let whole = whole.into_iter().chain([&self.queue.done, &self.queue.errors]);
        whole.chain(self.job_counts.iter().map(|(_, family)| family)).for_each(MetricVec::reset);
        self.queue.oldest_age.reset();
        self.queue.figures.reset();
        self.job_planned_until.reset();
        self.job_seconds.iter().for_each(|(_, family)| family.reset());
    }
}

fn forget<B: MetricVecBuilder>(family: &MetricVec<B>, names: &BTreeSet<&str>) {
    for metric in family.collect().iter().flat_map(|family| family.get_metric()) {
        let labels: HashMap<&str, &str> = metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
        let job = labels.get("job_name").or_else(|| labels.get("queue"));
        if job.is_some_and(|name| !names.contains(name)) {
            // Gone already is as good as gone now.
            let _ = family.remove(&labels);
        }
    }
}
