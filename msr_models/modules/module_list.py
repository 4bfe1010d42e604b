"""nn.ModuleList that type checkers know the element type of; at run time it is nn.ModuleList itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from torch import nn

if TYPE_CHECKING:
    ModuleT = TypeVar("ModuleT", bound=nn.Module)

    class ModuleList(nn.ModuleList, Generic[ModuleT]):
        def __init__(self, modules: Iterable[ModuleT]) -> None: ...
        def __iter__(self) -> Iterator[ModuleT]: ...
        @overload
        def __getitem__(self, idx: slice) -> ModuleList[ModuleT]: ...
        @overload
        def __getitem__(self, idx: int) -> ModuleT: ...
        def __getitem__(self, idx: Any) -> Any: ...
else:
    ModuleList = nn.ModuleList
