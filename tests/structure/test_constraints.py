"""What is known beforehand is kept, and must not contradict itself."""

import numpy as np
import pytest

import probgen as pg
from probgen.errors import CapabilityError
from probgen.structure import Constraints

NAMES = tuple("abcd")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"required": [("a", "b")], "forbidden": [("a", "b")]}, "a -> b is both required and forbidden"),
        ({"required": [("a", "b"), ("b", "c"), ("c", "a")]}, "cycle: a -> b -> c -> a"),
        ({"required": [("a", "bb")]}, "required edge names 'bb', which there is not. Did you mean 'b'"),
        ({"forbidden": [("z", "b")]}, "forbidden edge names 'z'"),
        ({"tiers": [["a"], ["b", "q"]]}, "tier names 'q'"),
        ({"tiers": [["a", "b"], ["a"]]}, "'a' stands in two tiers"),
        ({"required": [("b", "a")], "tiers": [["a"], ["b"]]}, "b -> a is required, and the tiers put a before b"),
        ({"required": [("a", "c"), ("b", "c")], "max_parents": 1}, "'c' has 2 required parents, and max_parents is 1"),
        ({"max_parents": -1}, "max_parents must be a whole number"),
        ({"required": ["ab"]}, "A structure is"),
        ({"required": [("a", "b", "c")]}, "A structure is"),
    ],
)
def test_contradictions_are_named(given, told):
    with pytest.raises(CapabilityError, match=told):
        Constraints.of(**given, names=NAMES)


def test_columns_in_no_tier_are_free():
    allowed = Constraints.of(tiers=["a", ("b", "c")], names=NAMES).allowed(NAMES)
    expected = ~np.eye(4, dtype=bool)
    expected[1, 0] = expected[2, 0] = False
    np.testing.assert_array_equal(allowed, expected)


CASES = [
    {"required": [("d", "a")]},
    {"forbidden": [("a", "b"), ("b", "a")]},
    {"tiers": [["d"], ["c"], ["b"], ["a"]]},
    {"required": [("c", "b")], "forbidden": [("a", "b")], "tiers": [["d", "c"], ["b"]]},
    {"max_parents": 1},
]


def kept(graph, required=(), forbidden=(), tiers=(), max_parents=4):
    place = {name: at for at, tier in enumerate(tiers) for name in tier}
    edges = graph.edges
    assert set(required) <= set(edges)
    assert not set(forbidden) & set(edges)
    assert all(place[a] <= place[b] for a, b in edges if a in place and b in place)
    assert max(map(len, graph.parents.values())) <= max_parents


@pytest.mark.parametrize("given", CASES)
@pytest.mark.parametrize("method", ["hill_climbing", "tabu", "chow_liu"])
def test_constraints_are_kept(method, given, categories):
    kept(pg.learn_structure(categories, method, progress=False, **given).graph, **given)


@pytest.mark.parametrize("given", [{"required": [("d", "a")]}, {"tiers": [["c"], ["d"], ["b"], ["a"]]}])
def test_constraints_are_kept_among_the_columns_of_a_class(given, categories):
    found = pg.learn_structure(categories, "tan", target="c", progress=False, **given)
    kept(found.graph, **given)
    assert all("c" in parents for name, parents in found.graph.parents.items() if name != "c")


@pytest.mark.parametrize(
    ("method", "given", "told"),
    [
        ("tan", {"forbidden": [("c", "a")]}, "class 'c' cannot be the parent of 'a'"),
        ("tan", {"required": [("a", "c")]}, "class 'c' cannot be the parent of 'a'"),
        ("chow_liu", {"required": [("a", "d"), ("b", "d")]}, "'d' has two required parents"),
        ("naive_bayes", {"max_parents": 0}, "does not keep the constraints: 'a' has 1 parents"),
        ("naive_bayes", {"required": [("a", "b")]}, "does not keep the constraints: a -> b is required"),
        ("independent", {"required": [("a", "b")]}, "does not keep the constraints: a -> b is required"),
        ("ges", {"required": [("a", "b")]}, "ges takes no constraints"),
        ("pc", {"max_parents": 2}, "pc takes no max_parents"),
    ],
)
def test_methods_say_what_they_cannot_keep(method, given, told, categories):
    with pytest.raises(CapabilityError, match=told):
        pg.learn_structure(categories, method, target="c", progress=False, **given)


def test_kinds_forbid_required_edges(mixed):
    with pytest.raises(CapabilityError, match="'x' -> 'k' cannot be"):
        pg.learn_structure(mixed, required=[("x", "k")], progress=False)
    with pytest.raises(CapabilityError, match="'n' -> 'x' cannot be: a count column"):
        pg.learn_structure(mixed, required=[("n", "x")], progress=False)
