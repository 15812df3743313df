"""docs/jobs.md says what is exchanged, why there is no job and why an update is refused: all, and nothing else."""

import json
import re
from pathlib import Path
from typing import Any, get_args

from primep2p.control.calls.jobs import MAX_WAIT_S, PIECE_BYTES, JobNext
from primep2p.control.jsonrpc import MAX_LINE_BYTES
from primep2p.model.views.jobs import Refusal, Rejection
from tests.nodes.exchange import Said, exchanged

PAGE = (Path(__file__).parents[2] / "docs" / "jobs.md").read_text()

OWN = {"job", "run", "path", "cid", "sha256", "seed", "deadline"}
"""Of each run, home and time their own."""


def on_the_page() -> list[Said]:
    [block] = re.findall(r"```\n(-> .*?)\n```", PAGE, re.DOTALL)
    lines = re.sub(r"\n    ", " ", block).split("\n")
    return [(line[:2], json.loads(line[3:])) for line in lines]


def general(said: Any) -> Any:
    """Without what is another one each time."""
    if isinstance(said, dict):
        return {key: type(value).__name__ if key in OWN else general(value) for key, value in said.items()}
    if isinstance(said, str):
        return re.sub(r"\b[0-9a-f]{12}\b", "RUN", said)
    return [general(each) for each in said] if isinstance(said, list | tuple) else said


def test_what_is_exchanged_is_what_the_page_shows(tmp_path):
    told = "write it anew with what this prints: python -m tests.nodes.exchange"
    assert general(on_the_page()) == general(exchanged(tmp_path)), told


def test_each_reason_is_explained_and_no_other():
    for heading, reasons in (("Why there is no job", Rejection), ("Why an update is refused", Refusal)):
        section = PAGE.split(f"## {heading}")[1].split("## ")[0]
        assert set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE)) - {"reason"} == set(get_args(reasons))


def test_the_numbers_are_the_codes():
    assert f"{PIECE_BYTES:,} bytes" in PAGE
    assert PIECE_BYTES * 4 // 3 + 1000 < MAX_LINE_BYTES
    assert f"`wait_s`, up to {MAX_WAIT_S:.0f}," in PAGE
    assert JobNext.deadline_s > MAX_WAIT_S


def test_every_call_of_a_job_and_every_answer_is_shown():
    said = on_the_page()
    assert {each["method"] for arrow, each in said if arrow == "->"} == {
        f"job.{name}" for name in ("next", "report", "params", "upload", "submit")
    }
    answers = {each["result"]["answer"] for arrow, each in said if arrow == "<-"}
    assert answers == {"accepted", "rejected", "open", "chunk", "taken", "refused"}
