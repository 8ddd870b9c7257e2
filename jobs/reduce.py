"""The reduction of a study on the cluster that the job runs in: `raylab reduce`, likewise.

ray job submit --working-dir . -- python jobs/reduce.py STUDY --out OUT
"""

import sys

from raylab.cli import main

if __name__ == "__main__":
    main(["reduce", "--address", "auto", *sys.argv[1:]])
