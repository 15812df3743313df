"""What LLVM makes of the compiled backend's code on CPUs that this machine need not have."""

import re

import pytest

binding = pytest.importorskip("llvmlite.binding")

from primep2p.kernels.backends import loops, straight  # noqa: E402

TARGETS = [
    ("x86_64-unknown-linux-gnu", "x86-64"),
    ("x86_64-unknown-linux-gnu", "haswell"),
    ("x86_64-unknown-linux-gnu", "znver4"),
    ("aarch64-unknown-linux-gnu", "generic"),
    ("arm64-apple-macosx14.0.0", "apple-m1"),
]

FUSED = re.compile(r"\b(v?fn?m(add|sub|la|ls)\w*)\b")
CALLS = re.compile(r"^\s*(call\w*|bl|blr)\s", re.MULTILINE)


def assembly(triple: str, cpu: str, texts: list[str]) -> str:
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=2)
    return "\n".join(target.emit_assembly(binding.parse_assembly(text)) for text in texts)


@pytest.fixture(params=TARGETS, ids=lambda target: target[1])
def code(request: pytest.FixtureRequest) -> str:
    triple, cpu = request.param
    binding.initialize_all_targets()
    layout = str(binding.Target.from_triple(triple).create_target_machine(cpu=cpu).target_data)
    networks = [
        straight.code(9, wanted, mean=mean, lanes=8, triple=triple, layout=layout)
        for wanted in (range(1, 8), range(4, 5))
        for mean in (True, False)
    ]
    return assembly(triple, cpu, [loops.module(triple, layout), *networks])


def test_no_product_is_fused_into_a_sum(code: str) -> None:
    assert not FUSED.search(code)
    assert re.search(r"\bv?mulps\b|\bfmul(\.4s|\s+v\d+\.4s)", code), "nothing is multiplied as vectors"


def test_a_comparator_is_one_instruction_for_each_of_the_two(code: str) -> None:
    assert re.search(r"\bv?minps\b|\bfminnm(\.4s|\s+v\d+\.4s)", code)
    assert not CALLS.search(code)


def test_fusing_would_be_found() -> None:
    """The pattern, on code that allows it."""
    text = """
        define float @f(float %a, float %b, float %c) {
        %product = fmul contract float %a, %b
        %sum = fadd contract float %product, %c
        ret float %sum
        }
    """
    for triple, cpu in TARGETS[1:]:
        assert FUSED.search(assembly(triple, cpu, [text])), cpu
