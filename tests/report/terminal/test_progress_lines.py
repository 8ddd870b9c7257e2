"""What is said of trials while a study runs."""

from __future__ import annotations

from raylab.report.terminal.progress_lines import news


def row(status, **more):
    return {"name": "demo.a.s1", "status": status, "method": "sft", **more}


OTHER = {"name": "demo.b.s1", "status": "done", "method": "sft"}
SIGHT = {
    "step": 3,
    "steps": 9,
    "loss": 0.12344,
    "tokens_per_second": 612.4,
    "seconds_left": 80.6,
}


def said(before, after):
    return list(news([before, OTHER], [after, OTHER]))


def test_news_at_the_first_look_is_the_totals_and_what_runs():
    assert list(news([], [row("running", **SIGHT), OTHER])) == [
        ("2 trials: 1 done, 1 running", False),
        ("[1/2] demo.a.s1  step 3/9  loss 0.1234  612 tokens/s  81 s left", True),
    ]


def test_news_of_an_unchanged_trial_is_none():
    assert said(row("running", **SIGHT), row("running", **SIGHT)) == []
    assert said(row("failed", cause="oom"), row("failed", cause="oom")) == []


def test_news_of_a_step_without_a_rate_leaves_the_rate_out():
    after = row("running", **SIGHT | {"tokens_per_second": None, "step": 4})
    (line,) = said(row("running", **SIGHT), after)
    assert line == ("[1/2] demo.a.s1  step 4/9  loss 0.1234  81 s left", True)


def test_news_of_an_end_says_what_became_of_it():
    done = said(row("running", **SIGHT), row("done", seconds=14.52, l2=8.5091))
    assert done == [("[2/2] demo.a.s1  done in 14.5 s  L2 8.509", False)]
    (failed,) = said(row("running", **SIGHT), row("failed", cause="oom", message="long"))
    assert failed == ("[1/2] demo.a.s1  failed: oom; the trial table says why", False)
    (blocked,) = said(row("pending"), row("blocked", message="its parent x is failed"))
    assert blocked == ("[1/2] demo.a.s1  its parent x is failed", False)
