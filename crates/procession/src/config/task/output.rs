//! What becomes of a task's output, and where its result is found.

use procession_core::launch::OutputMode;
use procession_core::task::{ResultSource, Task};

use super::super::load::Surroundings;
use super::super::section::Section;

pub(super) fn read(section: &Section<'_>, around: &Surroundings<'_>, task: &mut Task) {
    let modes =
        [("separate", OutputMode::Separate), ("merged", OutputMode::Merged), ("file", OutputMode::File)];
    if let Some(mode) = section.choice("output", &modes) {
        task.output.mode = mode;
    }
    if task.output.mode == OutputMode::File {
        section.report.warning(
            &section.span_of("output"),
            "with output = \"file\" nothing bounds the output, and `> /dev/stderr` in a script truncates it",
            "use it for heavy writers only, and write `>> /dev/stderr` in their scripts",
        );
    }
    if let Some(limit) = section.size("output_limit") {
        task.output.limit = limit;
    }
    let sources = [("file", ResultSource::File), ("stdout", ResultSource::Stdout)];
    if let Some(source) = section.choice("result", &sources) {
        task.result.source = source;
    }
    if let Some(required) = section.flag("result_required") {
        task.result.required = required;
    }
    if let Some(text) = section.text("result_schema") {
        task.result.schema = around.schemas.load(&text, around.folder);
    }
}
