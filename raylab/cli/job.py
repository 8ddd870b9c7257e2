"""The entry points of jobs/: a verb within a job of Ray, on the cluster that the job runs in.

Model: the job's log and exit status are those of the verb. Beside them the log says what is
peculiar to a job: how long `ray job stop` waits, and which files of the study did not travel.
Invariant: nothing is said about a file that is there, or that lies outside the working directory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from raylab.cli import main

STOP_WAIT = "RAY_JOB_STOP_WAIT_TIME_S"
_RAYS_WAIT = 3
"""Seconds of Ray 2.60 (dashboard/modules/job/job_supervisor.py)."""
_SHORT_WAIT = 60


def run_in_job(verb: str, words: list[str]) -> None:
    """`raylab VERB` with `words`, on this job's cluster."""
    wait = int(os.environ.get(STOP_WAIT, _RAYS_WAIT))
    if wait < _SHORT_WAIT:
        _say(
            f"`ray job stop` gives this job {wait} s to save its trials; submit it with "
            f"{STOP_WAIT} in its environment for more (docs/cluster.md)"
        )
    try:
        main([verb, "--address", "auto", *words])
    except SystemExit as end:
        if end.code == 2:
            _say_missing(words)
        raise


def _say_missing(words: list[str]) -> None:
    missing = list(missing_files(words, Path.cwd()))
    if missing:
        _say(
            "this job has only the files that were uploaded with its working directory\n"
            f"  found: not there: {', '.join(missing)}\n"
            "  to do: where .gitignore or .rayignore names a file, it stays behind: submit with "
            "RAY_RUNTIME_ENV_IGNORE_GITIGNORE=1 in the environment of `ray job submit`, or take "
            "it out of .rayignore; or name it by a path that every node sees"
        )


def missing_files(words: list[str], directory: Path) -> Iterator[str]:
    """The files below `directory` that the study names, and that are not there."""
    from raylab.errors import RaylabError
    from raylab.spec.study_file import load_study

    study = next((Path(word) for word in words if word.endswith((".yaml", ".yml"))), None)
    if study is None:
        return
    named = [study.resolve()]
    if study.exists():
        try:
            loaded = load_study(study)
        except RaylabError:
            return
        parts = (loaded.data, loaded.base_models, loaded.models)
        paths = [getattr(place, "path", None) for part in parts for place in part.values()]
        named += [Path(path).resolve() for path in paths if path]
    root = directory.resolve()
    for path in dict.fromkeys(named):
        if path.is_relative_to(root) and not path.exists():
            yield path.relative_to(root).as_posix()


def _say(message: str) -> None:
    print(f"raylab: {message}", file=sys.stderr, flush=True)
