"""The verb schema: the fields of a study file."""

from __future__ import annotations

import json

from raylab.spec.study_schema import study_schema


def schema() -> None:
    """Print the JSON schema of a study file, for editors that complete it."""
    print(json.dumps(study_schema(), ensure_ascii=False, indent=1))
