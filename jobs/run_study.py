"""Entry point for `ray job submit`: runs a study on the cluster that the job is on.

ray job submit --working-dir . -- python jobs/run_study.py STUDY --out URI
"""

import os
import sys

from raylab.cli import main

if __name__ == "__main__":
    address = os.environ.get("RAY_ADDRESS", "auto")
    main(["run", *sys.argv[1:], "--address", address])
