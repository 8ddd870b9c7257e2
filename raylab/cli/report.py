"""The verb report: the report out of the tables in the store.

Invariant: neither torch nor Ray is loaded; tables are read and never written.
"""

from __future__ import annotations

import pyarrow as pa

from raylab.cli.options import Format, Formats, Lang, Language, Out, StudyFile, out_of, say
from raylab.errors import InputError
from raylab.spec.merge_variants import result_names
from raylab.spec.study_file import load_study
from raylab.store.filesystem import Store
from raylab.store.phase import REPORT
from raylab.store.studies import store_of_study, study_at
from raylab.store.study_plan import NamedResult, StudyPlan
from raylab.store.tables import read_table, rows_of


def report(
    study: StudyFile, out: Out = None, lang: Lang = Language.en, formats: Formats = None
) -> None:
    """Write the report out of the tables in the store."""
    say(REPORT)
    from raylab.report.page.pdf import find_chromium, write_pdf

    wanted = formats or [Format.html]
    chromium = find_chromium() if Format.pdf in wanted else None
    from raylab.report.page.render import build_report, page_key
    from raylab.results.left_out import left_out, lines_of, missing_rows

    loaded = load_study(study)
    store = Store(out_of(loaded, out))
    place = store_of_study(store, loaded.name)
    if place is None:
        raise InputError(
            "the study has no tables there",
            found=f"those of {study_at(store)}, at {store.address('')}",
            expected=f"those of {loaded.name}",
            todo="run it there: `raylab run` trains nothing that is in OUT",
        )
    asked = result_names(loaded)
    rows = rows_of(read_table(place, "trials"))
    if line := missing_rows(asked, [row["name"] for row in rows]):
        say(f"{line}; `raylab run` makes them anew")
    results = tuple(
        NamedResult(name=row["name"], id=row["trial_id"], base_model=row["model"]) for row in rows
    )
    shown = StudyPlan(study=loaded.name, results=results)
    others = left_out(store, shown)
    # Arrow's own allocator keeps what is freed: an eighth of the memory that a report takes.
    pa.set_memory_pool(pa.system_memory_pool())
    address = build_report(loaded, place, lang.value, others, figures=Format.figures in wanted)
    for line in lines_of(store, loaded.name, others):
        say(line)
    print(f"report: {address}")
    if chromium:
        print(f"pdf: {write_pdf(place, page_key(lang.value), chromium)}")
