//! What a new job table changes, in one sentence for the log.

use std::collections::BTreeSet;

use crate::{domain::job::JobName, job_table::JobTable};

/// Jobs named in one list; the rest are counted.
const NAMED: usize = 10;

/// Jobs that came, went and differ.
pub fn sentence(old: &JobTable, new: &JobTable) -> String {
    let names = |table: &JobTable| table.jobs.keys().cloned().collect::<BTreeSet<JobName>>();
    let (before, after) = (names(old), names(new));
    let differs = |name: &&JobName| {
        old.job(name).zip(new.job(name)).is_some_and(|(a, b)| {
            let schedule = |job: &crate::domain::job::Job| job.schedule.as_ref().map(|schedule| schedule.hash());
            a.work_hash != b.work_hash || schedule(a) != schedule(b)
        })
    };
    let lists = [
        ("new", after.difference(&before).collect::<Vec<_>>()),
        ("gone", before.difference(&after).collect()),
        ("changed", before.intersection(&after).filter(differs).collect()),
    ];
    let told: Vec<_> =
        lists.iter().filter(|(_, names)| !names.is_empty()).map(|(word, names)| list(word, names)).collect();
    let told = if told.is_empty() { "no job differs".to_owned() } else { told.join("; ") };
    format!("{} jobs; {told}", new.jobs.len())
}

/// Settings of the process that the new file gives otherwise; they hold from the next start on.
pub fn of_the_process(old: &JobTable, new: &JobTable) -> Vec<String> {
    let text = |table: &JobTable, name: &str| table.process_settings.get(name).map(|(text, _)| text.clone());
    let names: BTreeSet<&String> = old.process_settings.keys().chain(new.process_settings.keys()).collect();
    names.into_iter().filter(|name| text(old, name) != text(new, name)).cloned().collect()
}

fn list(word: &str, names: &[&JobName]) -> String {
    let shown: Vec<_> = names.iter().take(NAMED).map(|name| name.as_str()).collect();
    let more = names.len().saturating_sub(NAMED);
    let more = if 0 < more { format!(" and {more} more") } else { String::new() };
    format!("{word}: {}{more}", shown.join(", "))
}
