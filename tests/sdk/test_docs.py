"""The examples in docs/python.md and in the docstrings are run, and say what happens."""

import doctest
import re
from pathlib import Path

import primep2p
from primep2p.sdk import tensor_buffer

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()


def test_the_examples_of_the_page_are_what_happens() -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(code, {}, "docs/python.md", None, 0)
    runner = doctest.DocTestRunner()
    runner.run(examples)
    assert runner.tries == code.count(">>> ") > 15
    assert runner.failures == 0


def test_the_examples_of_the_docstrings_are_what_happens() -> None:
    failures, tried = doctest.testmod(tensor_buffer)
    assert tried > 20
    assert failures == 0


def test_the_page_has_every_public_name_and_every_method() -> None:
    methods = [name for name in vars(tensor_buffer.TensorBuffer) if not name.startswith("_")]
    assert len(methods) == 9
    for name in [*primep2p.__all__, *methods]:
        assert name == "__version__" or re.search(rf"`[^`]*\b{name}\b", PAGE), name
