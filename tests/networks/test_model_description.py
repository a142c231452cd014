"""The description of weights: a round trip, and nothing else than what it should hold is read."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from near_monai.anatomy import HEART, Structure, Trust, by_name
from near_monai.errors import NearError
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.model_description import Description

NETWORK = {"_target_": "near_monai.NearNetwork", "source": {"dilations": [1, 2, 1]}}
EXAMPLE = Description((by_name("aorta"),), WorkingSpace(), NETWORK, "0.1.0", {"data": "none"}, "0" * 64)

words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=9).filter(
    lambda text: text[0] not in "$@%"
)
lengths = st.floats(1e-3, 1e3)
structures = st.builds(
    Structure,
    index=st.integers(1, 255),
    name=words,
    components=st.integers(1, 9),
    rank=st.integers(1, 99),
    touches=st.lists(words, max_size=2).map(tuple),
    near=lengths,
    scale=lengths,
    tubular=st.booleans(),
    trust=st.builds(
        Trust, st.floats(0, 0.1), st.floats(0.11, 1), st.floats(0, 0.5), st.floats(1, 9) | st.just(math.inf)
    ),
    threshold=st.floats(0.01, 0.99),
    colour=st.tuples(*(st.integers(0, 255),) * 3),
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(words, plain, max_size=3)


@given(
    st.lists(structures, min_size=1, max_size=3, unique_by=lambda row: row.name),
    st.builds(WorkingSpace, lengths, lengths, lengths),
    mappings,
    words,
    mappings,
    st.text("0123456789abcdef", min_size=64, max_size=64),
)
def test_what_is_written_is_read(
    rows: list[Structure], space: WorkingSpace, network: dict[str, Any], version: str, training: Any, digits: str
) -> None:
    said = Description(tuple(rows), space, network, version, training, digits)
    text = said.to_json()
    assert Description.from_json(text, "file") == said
    assert Description.from_json(text, "file").to_json() == text


def changed(path: str, value: Any) -> str:
    """The example with one value replaced, or removed where ``value`` is Ellipsis."""
    content = json.loads(EXAMPLE.to_json())
    *above, last = path.split(".")
    inner = content
    for key in above:
        inner = inner[int(key)] if key.isdecimal() else inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("space", ..., "space: is missing"),
        ("author", "me", "author: is unknown"),
        ("version", 3, "version: '3'; expected a str"),
        ("structures", [], "expected at least one"),
        ("structures", {}, "expected a list"),
        ("structures.0.index", "6", "expected a whole number"),
        ("structures.0.index", True, "expected a whole number"),
        ("structures.0.scale", "2", "expected a number"),
        ("structures.0.scale", -2, "scale above 0"),
        ("structures.0.scale", math.nan, "not strict JSON"),
        ("structures.0.scale", math.inf, "not strict JSON"),
        ("structures.0.threshold", 1.5, "between 0 and 1"),
        ("structures.0.trust", [0.1, 0.05, 0.2], "rising"),
        ("structures.0.size", 3, "no structure has the key 'size'"),
        ("structures.0.name", "$import os", "holds the expression"),
        ("space.spacing", 0, "expected mm above 0"),
        ("space.spacing", True, "expected mm above 0"),
        ("space.reach", 3, "reach: is unknown"),
        ("network.source", "@other", "holds the expression"),
        ("network.%macro", 1, "holds the expression"),
        ("network", [], "expected a dict"),
        ("training.data", "$open('ran', 'w')", "holds the expression"),
        ("fingerprint", "abc", "64 hexadecimal digits"),
        ("fingerprint", 64 * "0" + "\n", "64 hexadecimal digits"),
    ],
)
def test_everything_else_gets_one_line(path: str, value: Any, message: str) -> None:
    with pytest.raises(NearError, match=message) as error:
        Description.from_json(changed(path, value), "w.safetensors")
    assert str(error.value).startswith("w.safetensors: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '"x"', "[" * 100_000, '{"a": 1e999}'])
def test_no_object_gets_one_line(text: str) -> None:
    with pytest.raises(NearError, match=r"^w: "):
        Description.from_json(text, "w")


def test_doubts() -> None:
    assert EXAMPLE.doubts(by_name("aorta")) == []
    (line,) = EXAMPLE.doubts(by_name("coronary"))
    assert line == "the weights are for aorta, not for coronary: is it the right file?"
    (line,) = EXAMPLE.doubts(replace(by_name("aorta"), scale=3.0))
    assert "trained on aorta at scale 2, not 3" in line
    (line,) = replace(EXAMPLE, structures=()).doubts(by_name("aorta"))
    assert "nothing says which structure" in line
    assert replace(EXAMPLE, structures=HEART.structures).doubts(by_name("coronary")) == []
