"""Parts by name: one table per kind of part, filled by a decorator and, on demand, by plugins."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

__all__ = ["Registry", "nearest", "options_of"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def nearest(name: str, options: Iterable[str]) -> str:
    """A sentence that suggests the options closest to ``name``, or nothing where none is close.

    Example:
        >>> nearest("layr4", ["layer3", "layer4"])
        " Did you mean 'layer4' or 'layer3'?"
    """
    close = difflib.get_close_matches(name.lower(), list(options), n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def _place(maker: Callable[..., Any]) -> str:
    return f"{maker.__module__}.{maker.__qualname__}"


def options_of(part: Any) -> str:
    """The options of a part that differ from its defaults, as they would be written."""
    parameters = inspect.signature(type(part).__init__).parameters.values()
    shown = [p for p in parameters if p.kind is p.KEYWORD_ONLY and _differ(getattr(part, p.name), p.default)]
    return ", ".join(f"{p.name}={_written(getattr(part, p.name))}" for p in shown)


def _written(value: Any) -> str:
    """An option as it would be written; a tensor by its shape."""
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else f"<{type(value).__name__} of shape {tuple(shape)}>"


def _differ(value: Any, default: Any) -> bool:
    """Whether an option was chosen; what compares elementwise, such as a tensor, was."""
    return bool(value is not default and (type(value) is not type(default) or value != default))


class Registry(Generic[T]):
    """Maps names to what makes a part of one kind.

    Plugins announce classes as entry points of the group ``saliency_losses.<kind>s``. They are
    loaded only when a name is not built in or the list is asked for, so that importing the package costs
    nothing and a broken plugin breaks nobody else. Built-in names win.
    """

    def __init__(self, kind: str, base: Callable[..., T]) -> None:
        self.kind = kind
        self.base: Any = base
        self._makers: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """A decorator that makes a class, or a function that returns an instance, known under ``name``.

        Raises:
            ValueError: The name is taken.
            TypeError: The class is not of this registry's kind.
        """
        if not isinstance(name, str):
            raise TypeError(f"The {self.kind} needs a name: @register_{self.kind}('name') above the class.")

        def decorate(maker: F) -> F:
            if not callable(maker) or (isinstance(maker, type) and not issubclass(maker, self.base)):
                raise TypeError(f"{self.kind} {name!r} must be a subclass of {self.base.__name__}, got {maker!r}.")
            taken = self._makers.get(name)
            if taken is not None and _place(taken) != _place(maker):
                raise ValueError(
                    f"{self.kind} name {name!r} is taken by {_place(taken)}; choose another for {_place(maker)}."
                )
            self._makers[name] = maker
            return maker

        return decorate

    def create(self, name: str, **options: Any) -> T:
        """A part by name.

        Raises:
            ValueError: No part has this name; the message lists those that exist.
            TypeError: The part does not know an option.
        """
        return self.find(name)(**options)

    def resolve(self, part: str | T) -> T:
        """``part`` itself where it is an instance, else the part of that name with its defaults."""
        if isinstance(part, str):
            return self.create(part)
        if isinstance(part, self.base):
            return cast(T, part)
        known = f" Known names: {', '.join(self.names())}; your own is a subclass of {self.base.__name__}."
        hint = f" Pass an instance: {part.__name__}(...)." if isinstance(part, type) else known
        raise TypeError(f"{self.kind} must be a name or a {self.base.__name__}, got {part!r}.{hint}")

    def names(self) -> list[str]:
        """Every name, built-in and from plugins, sorted."""
        return sorted({*self._makers, *self._plugins()})

    def name_of(self, part: T) -> str:
        """The name that ``part``'s class is registered under, else the class's own name."""
        return next((name for name, maker in self._makers.items() if maker is type(part)), type(part).__name__)

    def _plugins(self) -> dict[str, Any]:
        return {point.name: point for point in entry_points(group=f"saliency_losses.{self.kind}s")}

    def find(self, name: str) -> Callable[..., T]:
        """The class or function registered under this name.

        Raises:
            ValueError: There is none; the message lists those that exist.
        """
        if name not in self._makers:
            plugin = self._plugins().get(name)
            if plugin is None:
                names = self.names()
                raise ValueError(f"Unknown {self.kind} {name!r}.{nearest(name, names)} Known: {', '.join(names)}.")
            self.register(name)(plugin.load())
        return self._makers[name]
