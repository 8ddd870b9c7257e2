r"""The reduction of a study on the cluster that the job runs in: `raylab reduce`, likewise.

ray job submit --working-dir . \
    --runtime-env-json '{"env_vars":{"RAY_JOB_STOP_WAIT_TIME_S":"600"}}' \
    -- python jobs/reduce.py STUDY --out OUT
"""

import sys

from raylab.cli.job import run_in_job

if __name__ == "__main__":
    run_in_job("reduce", sys.argv[1:])
