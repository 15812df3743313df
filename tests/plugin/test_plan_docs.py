"""What docs/plans.md says of plans is what the code does."""

import re
from pathlib import Path

from primep2p.model.plans import MAX_PLAN_BYTES
from primep2p.wire.mlxfn import ALLOWED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plans.md").read_text()


def test_the_page_lists_what_may_be_in_a_graph() -> None:
    listed = PAGE[PAGE.index("What may be in a graph:") : PAGE.index("These are arithmetic")]
    assert re.findall(r"`(\w+)`", listed) == sorted(ALLOWED)


def test_the_page_has_the_example_whole() -> None:
    _, code = (ROOT / "examples" / "plan.py").read_text().split('"""\n', 1)
    assert code.strip() in PAGE
    assert len((ROOT / "examples" / "plan.py").read_text().splitlines()) <= 60


def test_the_page_says_how_large_a_plan_may_be() -> None:
    assert f"{MAX_PLAN_BYTES // 1024} KiB" in PAGE
