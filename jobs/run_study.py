"""A whole study on the cluster that the job runs in: `raylab run`, with the cluster's address.

ray job submit --working-dir . -- python jobs/run_study.py STUDY --out OUT
"""

import sys

from raylab.cli import main

if __name__ == "__main__":
    main(["run", "--address", "auto", *sys.argv[1:]])
