# SPDX-License-Identifier: MulanPSL-2.0
"""Frozen dataclasses with shared methods behave as those of the standard library do."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import msgspec
import pytest

from agent.dataclass_methods import sharing

Make = Callable[..., Any]


def usual(dataclass: Make) -> type:
    @dataclass(frozen=True, slots=True)
    class Usual:
        name: str
        count: int = 0
        seen: tuple[float, ...] = field(default=(), compare=False)
        secret: str = field(default="", repr=False)
        size: int = field(default=0, hash=False)

    return Usual


def empty(dataclass: Make) -> type:
    @dataclass(frozen=True, slots=True)
    class Empty:
        pass

    return Empty


def single(dataclass: Make) -> type:
    @dataclass(frozen=True, slots=True)
    class Single:
        value: object

    return Single


def derived(dataclass: Make) -> type:
    base = usual(dataclass)

    @dataclass(frozen=True, slots=True)
    class Derived(base):  # type: ignore[valid-type, misc]
        more: int = 1

    return Derived


def plain_child(dataclass: Make) -> type:
    class Child(usual(dataclass)):  # type: ignore[misc]
        pass

    return Child


def own_methods(dataclass: Make) -> type:
    @dataclass(frozen=True, slots=True)
    class Own:
        name: str
        other: int = 0

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own) and other.name == self.name

        def __repr__(self) -> str:
            return "mine"

    return Own


def ordered(dataclass: Make) -> type:
    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        name: str
        count: int = 0

    return Ordered


def changing(dataclass: Make) -> type:
    @dataclass
    class Changing:
        name: str
        count: int = 0

    return Changing


NAN = float("nan")
INSTANCES: list[tuple[Callable[[Make], type], list[dict[str, object]]]] = [
    (
        usual,
        [
            {"name": "a"},
            {"name": "a", "count": 0},
            {"name": "a", "count": 1},
            {"name": "a", "seen": (1.0,)},
            {"name": "a", "secret": "s"},
            {"name": "a", "size": 3},
            {"name": "a", "count": NAN},
        ],
    ),
    (empty, [{}, {}]),
    (single, [{"value": 1}, {"value": 1.0}, {"value": NAN}, {"value": NAN}, {"value": [1]}]),
    (derived, [{"name": "a"}, {"name": "a", "more": 2}, {"name": "b"}]),
    (plain_child, [{"name": "a"}, {"name": "a", "seen": (2.0,)}, {"name": "b"}]),
    (own_methods, [{"name": "a"}, {"name": "a", "other": 1}, {"name": "b"}]),
    (ordered, [{"name": "a"}, {"name": "a", "count": 1}]),
    (changing, [{"name": "a"}, {"name": "a", "count": 1}]),
]


def hash_of(one: object) -> object:
    try:
        return hash(one)
    except TypeError as error:
        return str(error)


def set_first_field(one: Any) -> None:
    for each in dataclasses.fields(one)[:1]:
        setattr(one, each.name, "z")


def delete_first_field(one: Any) -> None:
    for each in dataclasses.fields(one)[:1]:
        delattr(one, each.name)


def refusal(act: Callable[[Any], None], one: object) -> str:
    try:
        act(one)
    except AttributeError as error:
        return repr(error)
    return ""


def seen(made: type, given: list[dict[str, object]]) -> list[object]:
    """All that can be told of instances, by whoever looks."""
    ones = [made(**each) for each in given]
    hashes = [hash_of(one) for one in ones]
    equal = [[one == other for other in ones] for one in ones]
    printed = [repr(one) for one in ones]
    others = [one == "another" for one in ones]
    tried = [refusal(act, one) for one in ones for act in (set_first_field, delete_first_field)]
    return [
        equal,
        [[one == other for other in hashes] for one in hashes],
        [one for one in hashes if isinstance(one, str)],
        printed,
        others,
        [hasattr(one, "__dict__") for one in ones],
        tried,
    ]


@pytest.mark.parametrize(
    ("build", "given"), INSTANCES, ids=lambda one: getattr(one, "__name__", "")
)
def test_they_behave_as_the_usual_ones(
    build: Callable[[Make], type], given: list[dict[str, object]]
) -> None:
    assert seen(build(sharing(dataclasses.dataclass)), given) == seen(
        build(dataclasses.dataclass), given
    )


def test_classes_of_the_same_fields_are_not_equal() -> None:
    dataclass = sharing(dataclasses.dataclass)
    one, other = usual(dataclass), usual(dataclass)
    assert one("a") != other("a")
    assert usual(dataclass)("a") != plain_child(dataclass)("a")


def test_their_methods_are_the_same_ones() -> None:
    dataclass = sharing(dataclasses.dataclass)
    for name in ("__eq__", "__hash__", "__repr__", "__setattr__", "__delattr__"):
        assert getattr(usual(dataclass), name) is getattr(single(dataclass), name)


def test_what_else_dataclasses_can_do() -> None:
    made = usual(sharing(dataclasses.dataclass))
    one = made("a", 1)
    assert dataclasses.replace(one, count=2) == made("a", 2)
    assert dataclasses.asdict(one)["count"] == 1
    assert dataclasses.is_dataclass(made)
    assert copy.copy(one) == copy.deepcopy(one) == one
    assert vars(made)["__match_args__"] == ("name", "count", "seen", "secret", "size")
    assert msgspec.json.decode(msgspec.json.encode(one), type=made) == one
    with pytest.raises(FrozenInstanceError):
        one.fresh = 1
