from pathlib import Path

from primep2p.toml_lines import lines_of

TEXT = '''# comment
[node]
home = "h"  # [p2p]

[p2p]
listen = [
  "a",  # announce = 1
  "b",
]
[trainer.plugins]
"my own" = "x:Y"
[trainer]
data = """
silent_s = 3
"""
silent_s = 4
[log]
keep.days = 3
inline = { a = 1, b = { c = 2 } }
'''


def test_each_key_has_the_line_where_it_begins():
    assert lines_of(TEXT) == {
        "node": 2,
        "node.home": 3,
        "p2p": 5,
        "p2p.listen": 6,
        "trainer.plugins": 10,
        "trainer.plugins.my own": 11,
        "trainer": 12,
        "trainer.data": 13,
        "trainer.silent_s": 16,
        "log": 17,
        "log.keep": 18,
        "log.keep.days": 18,
        "log.inline": 19,
        "log.inline.a": 19,
        "log.inline.b": 19,
        "log.inline.b.c": 19,
    }


def test_every_key_of_the_nodes_own_file_is_found():
    text = (Path(__file__).resolve().parents[1] / "node.toml").read_text()
    lines = text.splitlines()
    for path, line in lines_of(text).items():
        assert path.rpartition(".")[2] in lines[line - 1]


def test_lines_may_end_as_elsewhere():
    assert lines_of("[node]\r\nhome = 'h'\r\n") == {"node": 1, "node.home": 2}


def test_a_table_within_a_table_sets_those_around_it():
    found = lines_of("[a]\nx = 1\n[a.b.c]\ny = 2\n[a.b.d]\nz = 3\n")
    assert found == {"a": 1, "a.x": 2, "a.b": 3, "a.b.c": 3, "a.b.c.y": 4, "a.b.d": 5, "a.b.d.z": 6}
