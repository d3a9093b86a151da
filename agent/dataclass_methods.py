# SPDX-License-Identifier: MulanPSL-2.0
"""Lets the frozen dataclasses of a process share their methods (docs/adr/0003).

The standard library writes and compiles __eq__, __hash__, __repr__, __setattr__ and __delattr__ for
each class anew (3.11 to 3.13): 9 KiB for a class of four fields, and agentd has some 490 classes.
With these instead they compare, hash, print and refuse as they did.
"""

import dataclasses
from collections.abc import Callable, Sequence
from operator import attrgetter

Values = Callable[[object], tuple[object, ...]]
Decorator = Callable[..., object]


def share_methods() -> None:
    """Before the first import of what defines dataclasses."""
    dataclasses.dataclass = sharing(dataclasses.dataclass)  # type: ignore[assignment]


def sharing(standard: Decorator) -> Decorator:
    """`standard`: dataclasses.dataclass, which still does what is not the same for all classes."""

    def dataclass(given: type | None = None, /, **options: object) -> object:
        def decorate(plain: type) -> object:
            # With an option more, or a method of its own, a class may differ from the others.
            if options != FROZEN or not SHARED.keys().isdisjoint(vars(plain)):
                return standard(plain, **options)
            return _share(standard(plain, **options, eq=False, repr=False))

        return decorate if given is None else decorate(given)

    return dataclass


class _Sharing:
    """What each class has of its own, beside SHARED: the values that make instances equal."""

    __compared__: Values
    __hashed__: Values


def _share(made: object) -> object:
    fields = dataclasses.fields(made)  # type: ignore[arg-type]
    compared = [one.name for one in fields if one.compare]
    hashed = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
    own = {"__compared__": _values(compared), "__hashed__": _values(hashed)}
    for name, attribute in {**SHARED, **own}.items():
        setattr(made, name, attribute)
    return made


def _values(names: Sequence[str]) -> Values:
    if len(names) > 1:
        return attrgetter(*names)
    return lambda one: tuple([getattr(one, name) for name in names])


def _equal(self: _Sharing, other: object) -> object:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values = type(self).__compared__
    return values(self) == values(other)


def _hash(self: _Sharing) -> int:
    return hash(type(self).__hashed__(self))


def _print(self: _Sharing) -> str:
    fields = dataclasses.fields(self)  # type: ignore[arg-type]
    shown = [f"{one.name}={getattr(self, one.name)!r}" for one in fields if one.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_to_set(_self: object, name: str, _value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(_self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


FROZEN = {"frozen": True, "slots": True}
SHARED = {
    "__eq__": _equal,
    "__hash__": _hash,
    "__repr__": _print,
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
}
